//! Who makes a call, and on which port.

use std::net::IpAddr;
use std::sync::Arc;

use super::access::Rights;
use super::listeners::Port;

/// The caller of a request: an extension of every request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The address of the other end of the connection.
    pub(super) peer: IpAddr,
    /// The port that the connection came in on.
    pub(super) port: Port,
    /// The name of the key or the subject of the token; `None` without either.
    pub(super) name: Option<Arc<str>>,
    /// What the caller may do: everything until the guard has looked at the credentials.
    pub(super) rights: Arc<Rights>,
}

impl Caller {
    /// Creates the caller of a connection, before its credentials are known.
    pub(super) fn of_connection(peer: IpAddr, port: Port) -> Self {
        Self { peer, port, name: None, rights: Rights::all() }
    }

    /// Returns the caller of a call that passed the guard.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Self, tonic::Status> {
        request.extensions().get().cloned().ok_or_else(super::status::internal)
    }
}
