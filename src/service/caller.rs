//! Who makes a call.

use std::net::IpAddr;

/// The caller of a request: an extension of every request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The address of the other end of the connection.
    pub(super) peer: IpAddr,
}
