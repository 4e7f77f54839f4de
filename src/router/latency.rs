//! How long the calls of one shard took lately.

use std::time::Duration;

use parking_lot::Mutex;

/// The number of calls in the window.
const WINDOW: usize = 256;
/// The number of calls before there is a percentile.
const LEAST: usize = 16;
/// The percentile is computed again after this many calls.
const STALE: usize = 16;

/// The durations of the last calls.
#[derive(Debug, Default)]
pub(super) struct Latencies(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    micros: Vec<u32>,
    next: usize,
    calls: usize,
    p95: Option<Duration>,
}

impl Latencies {
    /// Records a call that was answered.
    pub(super) fn record(&self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut window = self.0.lock();
        let Window { micros: all, next, calls, .. } = &mut *window;
        if all.len() < WINDOW {
            all.push(micros);
        } else {
            all[*next] = micros;
        }
        *next = (*next + 1) % WINDOW;
        *calls += 1;
        if all.len() >= LEAST && calls.is_multiple_of(STALE) {
            let mut sorted = all.clone();
            let at = sorted.len() * 95 / 100;
            let p95 = *sorted.select_nth_unstable(at).1;
            window.p95 = Some(Duration::from_micros(p95.into()));
        }
    }

    /// The 95th percentile; `None` until enough calls were recorded.
    pub(super) fn p95(&self) -> Option<Duration> {
        self.0.lock().p95
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_follows_the_last_calls() {
        let latencies = Latencies::default();
        (0..LEAST - 1).for_each(|_| latencies.record(Duration::from_millis(1)));
        assert_eq!(latencies.p95(), None);
        (0..2 * WINDOW).for_each(|at| latencies.record(Duration::from_millis(1 + (at % 100) as u64)));
        assert!(latencies.p95().unwrap() >= Duration::from_millis(90));
        (0..2 * WINDOW).for_each(|_| latencies.record(Duration::from_millis(2)));
        assert_eq!(latencies.p95(), Some(Duration::from_millis(2)));
    }
}
