//! How many connections there are, in total and per peer.
//!
//! What flows in: the address of a new connection. What flows out: its place, or why there is none. If all places are
//! taken, the oldest connection that made no call yet loses its place to the new one: silent sockets keep nobody out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are too many connections.
    Total,
    /// There are too many connections of its peer.
    Peer,
}

impl Refused {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Peer => "peer",
        }
    }
}

/// The connections of one server.
#[derive(Debug)]
pub(super) struct Admitted {
    max: usize,
    max_per_peer: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    peers: HashMap<IpAddr, usize>,
    /// By age.
    places: BTreeMap<u64, (IpAddr, Arc<Signal>)>,
    next: u64,
}

/// What a connection and the others tell each other.
#[derive(Debug, Default)]
struct Signal {
    /// Whether a call was made, so that the connection keeps its place.
    has_called: Arc<AtomicBool>,
    evicted: Notify,
}

impl Admitted {
    pub(super) fn new(max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_peer, state: Mutex::default() })
    }

    /// Returns a place for a connection of `peer`, counted in `open`.
    ///
    /// # Errors
    /// If there are too many connections and all of them made calls.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, open: Gauge) -> Result<Place, Refused> {
        let mut state = self.state.lock();
        if state.peers.get(&peer).is_some_and(|count| *count >= self.max_per_peer)
            && !state.evict(|other| *other == peer)
        {
            return Err(Refused::Peer);
        }
        if state.places.len() >= self.max && !state.evict(|_| true) {
            return Err(Refused::Total);
        }
        let number = state.next;
        state.next += 1;
        let signal = Arc::<Signal>::default();
        *state.peers.entry(peer).or_default() += 1;
        state.places.insert(number, (peer, Arc::clone(&signal)));
        open.inc();
        Ok(Place { admitted: Arc::clone(self), number, signal, open })
    }
}

impl State {
    /// Takes the place of the oldest connection without a call of such a peer. Returns false if there is none.
    fn evict(&mut self, is_of: impl Fn(&IpAddr) -> bool) -> bool {
        let silent = |(_, (peer, signal)): &(&u64, &(IpAddr, Arc<Signal>))| {
            is_of(peer) && !signal.has_called.load(Ordering::Relaxed)
        };
        let Some(number) = self.places.iter().find(silent).map(|(number, _)| *number) else { return false };
        if let Some(signal) = self.leave(number) {
            signal.evicted.notify_one();
        }
        true
    }

    fn leave(&mut self, number: u64) -> Option<Arc<Signal>> {
        let (peer, signal) = self.places.remove(&number)?;
        if let Some(count) = self.peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&peer);
            }
        }
        Some(signal)
    }
}

/// The place of one connection, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    admitted: Arc<Admitted>,
    number: u64,
    signal: Arc<Signal>,
    open: Gauge,
}

impl Place {
    /// Returns whether the connection made a call, so that it keeps its place.
    pub(super) fn has_called(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.signal.has_called)
    }

    /// Waits until another connection has the place.
    pub(super) async fn evicted(&self) {
        self.signal.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admitted.state.lock().leave(self.number);
        self.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, number])
    }

    #[test]
    fn places_are_limited_in_total_and_per_peer_and_come_back() {
        let admitted = Admitted::new(3, 2);
        let admit = |number| {
            let place = admitted.admit(peer(number), Gauge::default());
            place.inspect(|place| place.has_called().store(true, Ordering::Relaxed))
        };
        let (first, _second) = (admit(1).unwrap(), admit(1).unwrap());
        assert_eq!(admit(1).unwrap_err(), Refused::Peer);
        let _third = admit(2).unwrap();
        assert_eq!(admit(3).unwrap_err(), Refused::Total);
        drop(first);
        let _fourth = admit(3).unwrap();
        assert_eq!(admitted.state.lock().peers.len(), 3);
    }

    #[tokio::test]
    async fn the_oldest_connection_without_a_call_makes_room() {
        let admitted = Admitted::new(2, 2);
        let admit = || admitted.admit(peer(1), Gauge::default()).unwrap();
        let (busy, silent) = (admit(), admit());
        busy.has_called().store(true, Ordering::Relaxed);
        let newer = admit();
        silent.evicted().await;
        // Its place is gone already.
        drop(silent);
        assert_eq!(admitted.state.lock().places.len(), 2);
        newer.has_called().store(true, Ordering::Relaxed);
        assert_eq!(admitted.admit(peer(1), Gauge::default()).unwrap_err(), Refused::Peer);
        assert_eq!(admitted.admit(peer(2), Gauge::default()).unwrap_err(), Refused::Total);
    }
}
