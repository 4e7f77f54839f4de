//! Who makes a call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The caller of a request: an extension of every request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The address of the other end of the connection.
    pub(super) peer: IpAddr,
    /// Its port, which is another one for each connection.
    pub(super) port: u16,
}

/// Whom a call is counted against: clients share the compute pool evenly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Client {
    /// A network address; of IPv6 the first 64 bits, as one host has all addresses that begin with them.
    Address(IpAddr),
}

impl Caller {
    /// The caller at the other end of a connection.
    pub(super) fn at(peer: SocketAddr) -> Self {
        Self { peer: peer.ip(), port: peer.port() }
    }

    /// Returns the caller of a call.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        let caller = request.extensions().get().cloned();
        caller.unwrap_or(Self { peer: Ipv4Addr::UNSPECIFIED.into(), port: 0 })
    }

    /// Whom its calls are counted against.
    pub(super) fn client(&self) -> Client {
        Client::Address(match self.peer.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits((address.to_bits() >> 64) << 64).into(),
            address => address,
        })
    }

    /// Which of the connections of its client it uses.
    pub(super) fn connection(&self) -> u16 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_host_are_one_client() {
        let client = |text: &str| Caller::at(text.parse().unwrap()).client();
        assert_eq!(client("[2001:db8::1]:1"), client("[2001:db8::ffff:2]:2"));
        assert_ne!(client("[2001:db8:0:1::1]:1"), client("[2001:db8::1]:1"));
        assert_eq!(client("10.0.0.1:1"), client("[::ffff:10.0.0.1]:2"));
        assert_ne!(client("10.0.0.1:1"), client("10.0.0.2:1"));
    }
}
