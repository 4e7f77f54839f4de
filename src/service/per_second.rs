//! A number of events per second that pass.

use std::time::Instant;

use parking_lot::Mutex;

/// Lets at most a number of events pass per second, and counts the others.
#[derive(Debug)]
pub(super) struct PerSecond {
    most: usize,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since the start.
    second: u64,
    /// Events that passed in it.
    passed: usize,
    /// Events that did not pass since the last that did.
    left_out: u64,
}

impl PerSecond {
    pub(super) fn new(most: usize) -> Self {
        Self { most, started: Instant::now(), state: Mutex::default() }
    }

    /// Counts an event. If it passes, returns how many did not since the last one that did.
    pub(super) fn take(&self) -> Option<u64> {
        self.take_at(self.started.elapsed().as_secs())
    }

    fn take_at(&self, second: u64) -> Option<u64> {
        let mut state = self.state.lock();
        if state.second != second {
            (state.second, state.passed) = (second, 0);
        }
        if state.passed >= self.most {
            state.left_out += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pass_is_counted_by_the_next_that_does() {
        let events = PerSecond::new(2);
        assert_eq!(
            [5, 5, 5, 5, 6, 6, 6, 7].map(|second| events.take_at(second)),
            [Some(0), Some(0), None, None, Some(2), Some(0), None, Some(1)]
        );
        assert_eq!(PerSecond::new(0).take(), None);
    }
}
