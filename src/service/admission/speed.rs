//! How the measured cost of calls compares with their expected cost.

/// Each call counts 1 / 64 less for every later one.
const FORGOTTEN: f64 = 1.0 / 64.0;
/// What is believed before anything was measured: that the expectation is right, as strongly as one search of 50 µs.
const PRIOR_NANOS: f64 = 50_000.0;
/// The ratio is kept within bounds, so that no accident of measurement closes the server.
const RATIOS: (f64, f64) = (0.02, 500.0);

/// The ratio of measured to expected cost, over the latest calls.
#[derive(Debug)]
pub(super) struct Speed {
    expected: f64,
    found: f64,
}

impl Default for Speed {
    fn default() -> Self {
        Self { expected: PRIOR_NANOS, found: PRIOR_NANOS }
    }
}

impl Speed {
    /// The cost that is expected on this machine, in nanoseconds; at least 1.
    pub(super) fn cost(&self, nominal: u64) -> u64 {
        let ratio = (self.found / self.expected).clamp(RATIOS.0, RATIOS.1);
        ((nominal as f64 * ratio) as u64).max(1)
    }

    /// Learns from a call of `nominal` expected cost that took `found` nanoseconds.
    pub(super) fn learn(&mut self, nominal: u64, found: u64) {
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
}
