//! Who makes a call, and on which port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::access::Rights;
use super::listeners::Port;

/// The caller of a request: an extension of every request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The address of the other end of the connection.
    pub(crate) peer: IpAddr,
    /// The port of the peer, which is another one for each connection.
    connection: u16,
    /// The port of this server that the connection came in on.
    pub(crate) port: Port,
    /// The name of the key or the subject of the token; `None` without either.
    pub(crate) name: Option<Arc<str>>,
    /// Whether the name is that of a token.
    pub(crate) has_token: bool,
    /// What the caller may do: everything until the guard has looked at the credentials.
    pub(crate) rights: Arc<Rights>,
}

/// Whom a call is counted against: clients share the compute pool evenly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Client {
    /// The name of a key.
    Key(Arc<str>),
    /// The subject of a token.
    Subject(Arc<str>),
    /// A network address; of IPv6 the first 64 bits, as one host has all addresses that begin with them.
    Address(IpAddr),
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Key(name) | Client::Subject(name) => f.write_str(name),
            Client::Address(address) => address.fmt(f),
        }
    }
}

impl Caller {
    /// Creates the caller of a connection from `peer` to `port`, before its credentials are known.
    pub(crate) fn of_connection(peer: SocketAddr, port: Port) -> Self {
        Self {
            peer: peer.ip(),
            connection: peer.port(),
            port,
            name: None,
            has_token: false,
            rights: Rights::all(),
        }
    }

    /// Returns the caller of a call that passed the guard.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, tonic::Status> {
        request.extensions().get().cloned().ok_or_else(super::status::internal)
    }

    /// Whom its calls are counted against.
    pub(crate) fn client(&self) -> Client {
        if let Some(name) = &self.name {
            let name = Arc::clone(name);
            return if self.has_token { Client::Subject(name) } else { Client::Key(name) };
        }
        Client::Address(match self.peer.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits((address.to_bits() >> 64) << 64).into(),
            address => address,
        })
    }

    /// Which of the connections of its client it uses.
    pub(crate) fn connection(&self) -> u16 {
        self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_a_key_are_one_client_wherever_they_come_from() {
        let client = |address: &str, name: &str| {
            let caller = Caller::of_connection(address.parse().unwrap(), Port::every());
            Caller { name: Some(name.into()), ..caller }.client()
        };
        assert_eq!(client("10.0.0.1:1", "a"), client("10.0.0.2:2", "a"));
        assert_ne!(client("10.0.0.1:1", "a"), client("10.0.0.1:1", "b"));
    }

    #[test]
    fn the_addresses_of_one_host_are_one_client() {
        let client = |text: &str| Caller::of_connection(text.parse().unwrap(), Port::every()).client();
        assert_eq!(client("[2001:db8::1]:1"), client("[2001:db8::ffff:2]:2"));
        assert_ne!(client("[2001:db8:0:1::1]:1"), client("[2001:db8::1]:1"));
        assert_eq!(client("10.0.0.1:1"), client("[::ffff:10.0.0.1]:2"));
        assert_ne!(client("10.0.0.1:1"), client("10.0.0.2:1"));
    }
}
