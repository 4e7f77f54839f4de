//! Who makes a call.

use std::net::IpAddr;

/// The caller of a request: an extension of every request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The address of the other end of the connection.
    pub(super) peer: IpAddr,
}

impl Caller {
    /// Returns the address that a request came from.
    pub(super) fn peer_of<T>(request: &tonic::Request<T>) -> Option<IpAddr> {
        request.extensions().get::<Self>().map(|caller| caller.peer)
    }
}
