//! How many calls a router may make in addition to those that are needed.
//!
//! What flows in: calls. What flows out: permission to make another one. Each call earns a share of an extra one, and savings are
//! bounded, so that replicas which fail or slow down together are not asked twice as often.

use std::sync::atomic::{AtomicI64, Ordering};

/// Thousandths of a call.
const CALL: i64 = 1000;

/// A budget of extra calls.
#[derive(Debug)]
pub(super) struct Budget {
    held: AtomicI64,
    /// What each call earns, in thousandths.
    earns: i64,
    most: i64,
}

impl Budget {
    /// Extra calls of at most `share` of the calls, and `saved` at once.
    pub(super) fn new(share: f64, saved: u32) -> Self {
        let most = i64::from(saved) * CALL;
        Self { held: AtomicI64::new(most), earns: (share * CALL as f64) as i64, most }
    }

    /// Counts a call that was needed.
    pub(super) fn earn(&self) {
        let sum = |held: i64| Some((held + self.earns).min(self.most));
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    /// Takes one extra call out of the budget. Returns whether there was one.
    pub(super) fn take(&self) -> bool {
        let left = |held: i64| Some(held - CALL).filter(|left| *left >= 0);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_calls_stay_within_their_share() {
        let budget = Budget::new(0.05, 10);
        let extra = (0..10_000).filter(|_| {
            budget.earn();
            budget.take()
        });
        assert!((500..=510).contains(&extra.count()));
    }
}
