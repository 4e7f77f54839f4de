//! How the measured cost of calls compares with their expected cost.
//!
//! The ratio is kept for each client: one whose requests cost more than they are expected to changes what is expected of
//! its own requests, and not of others'.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::service::caller::Client;

/// Clients whose ratio is kept. Others are expected to be like the average.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Each call counts 1 / 64 less for every later one.
const FORGOTTEN: f64 = 1.0 / 64.0;
/// What is believed before anything was measured, as strongly as one search of 50 µs: that the expectation is right, or as
/// wrong as for others.
const PRIOR_NANOS: f64 = 50_000.0;
/// The ratio is kept within bounds, so that no accident of measurement closes the server.
const RATIOS: (f64, f64) = (0.02, 500.0);

/// The ratio of measured to expected cost of every client.
#[derive(Debug)]
pub(super) struct Speeds {
    of_all: Speed,
    of_clients: LruCache<Client, Speed>,
}

impl Default for Speeds {
    fn default() -> Self {
        Self { of_all: Speed::default(), of_clients: LruCache::new(CLIENTS) }
    }
}

impl Speeds {
    /// The cost that is expected of a call on this machine, in nanoseconds; at least 1.
    pub(super) fn cost(&self, client: &Client, nominal: u64) -> u64 {
        self.of_clients.peek(client).unwrap_or(&self.of_all).cost(nominal)
    }

    /// Learns from a call of `nominal` expected cost that took `found` nanoseconds.
    pub(super) fn learn(&mut self, client: &Client, nominal: u64, found: u64) {
        self.of_all.learn(nominal, found);
        if let Some(speed) = self.of_clients.get_mut(client) {
            speed.learn(nominal, found);
        } else {
            let mut speed = Speed::believing(self.of_all.ratio());
            speed.learn(nominal, found);
            self.of_clients.put(client.clone(), speed);
        }
    }
}

/// The ratio of measured to expected cost, over the latest calls.
#[derive(Debug)]
struct Speed {
    expected: f64,
    found: f64,
}

impl Default for Speed {
    fn default() -> Self {
        Self::believing(1.0)
    }
}

impl Speed {
    fn believing(ratio: f64) -> Self {
        Self { expected: PRIOR_NANOS, found: PRIOR_NANOS * ratio }
    }

    fn ratio(&self) -> f64 {
        (self.found / self.expected).clamp(RATIOS.0, RATIOS.1)
    }

    fn cost(&self, nominal: u64) -> u64 {
        ((nominal as f64 * self.ratio()) as u64).max(1)
    }

    fn learn(&mut self, nominal: u64, found: u64) {
        self.expected += nominal as f64 - FORGOTTEN * self.expected;
        self.found += found as f64 - FORGOTTEN * self.found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_machine_that_gets_slower_and_stays_within_bounds() {
        let mut speed = Speed::default();
        assert_eq!(speed.cost(1000), 1000);
        (0..500).for_each(|_| speed.learn(1000, 3000));
        assert!((2900..3100).contains(&speed.cost(1000)), "{speed:?}");
        (0..500).for_each(|_| speed.learn(1000, 500));
        assert!((480..520).contains(&speed.cost(1000)), "{speed:?}");
        (0..500).for_each(|_| speed.learn(1, u64::MAX / 1000));
        assert_eq!(speed.cost(1000), 500_000);
        (0..5000).for_each(|_| speed.learn(1_000_000, 0));
        assert_eq!(speed.cost(1000), 20);
        assert_eq!(Speed::default().cost(0), 1);
    }

    #[test]
    fn a_client_with_wrong_expectations_changes_only_its_own() {
        let [honest, hostile, new] = [1, 2, 3].map(|last| Client::Address([127, 0, 0, last].into()));
        let mut speeds = Speeds::default();
        for _ in 0..500 {
            speeds.learn(&honest, 1000, 2000);
            speeds.learn(&hostile, 1000, 200_000);
        }
        assert!((1900..2100).contains(&speeds.cost(&honest, 1000)), "{speeds:?}");
        assert!((190_000..210_000).contains(&speeds.cost(&hostile, 1000)), "{speeds:?}");
        assert!((50_000..150_000).contains(&speeds.cost(&new, 1000)), "{speeds:?}");
        for client in 0..10_000u32 {
            speeds.learn(&Client::Address(std::net::Ipv4Addr::from(client).into()), 1000, 1000);
        }
        assert_eq!(speeds.of_clients.len(), CLIENTS.get());
    }
}
