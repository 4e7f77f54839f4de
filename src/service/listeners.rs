//! The ports of a server.
//!
//! What flows in: one to three listening sockets. What flows out: connections, each with the port it came in on, which
//! says which routes it may use. No port makes another wait: they are looked at in turn.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};

/// A part of what a server serves, which may have a port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Searches and the catalog.
    Search,
    /// `Admin`.
    Admin,
    /// `GET /metrics`.
    Metrics,
    /// The web page, which calls both.
    Page,
    /// Health and reflection, which every port has.
    Common,
}

/// One port: where it listens, and what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Whether only processes on this machine reach it.
    pub(super) is_loopback: bool,
    search: bool,
    admin: bool,
    metrics: bool,
}

impl Port {
    /// A port of loopback that serves everything.
    #[cfg(test)]
    pub(super) fn every() -> Self {
        Self { is_loopback: true, search: true, admin: true, metrics: true }
    }

    /// Returns whether this port serves `part`.
    pub(super) fn serves(self, part: Part) -> bool {
        match part {
            Part::Search => self.search,
            Part::Admin => self.admin,
            Part::Metrics => self.metrics,
            Part::Page => self.search || self.admin,
            Part::Common => true,
        }
    }
}

/// The listening sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<(TcpListener, Port)>,
    /// The listener to look at first.
    next: usize,
}

impl Listeners {
    /// Serves everything on `main`, except what has a port of its own.
    pub fn new(main: TcpListener, admin: Option<TcpListener>, metrics: Option<TcpListener>) -> Self {
        let (has_admin, has_metrics) = (admin.is_some(), metrics.is_some());
        let ports = [
            (Some(main), true, !has_admin, !has_metrics),
            (admin, false, true, false),
            (metrics, false, false, true),
        ];
        let port = |(listener, search, admin, metrics): (Option<TcpListener>, bool, bool, bool)| {
            let listener = listener?;
            // Strict if the system does not say.
            let is_loopback = listener.local_addr().map_or(true, |address| is_loopback(address.ip()));
            Some((listener, Port { is_loopback, search, admin, metrics }))
        };
        Self { all: ports.into_iter().filter_map(port).collect(), next: 0 }
    }

    /// Returns the address of searches.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        let (main, _) = self.all.first().ok_or(io::ErrorKind::NotFound)?;
        main.local_addr()
    }

    /// Waits for the next connection on any port.
    ///
    /// # Errors
    /// If a connection cannot be accepted. Others may be.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr, Port)> {
        poll_fn(|context| {
            for at in 0..self.all.len() {
                let at = (self.next + at) % self.all.len();
                let (listener, port) = &self.all[at];
                if let Poll::Ready(accepted) = listener.poll_accept(context) {
                    self.next = at + 1;
                    return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, *port)));
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None, None)
    }
}

/// Returns whether only processes on this machine reach this address.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
