//! Latency histograms, and the worker threads that run searches.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::report::SweepRow;

/// Passes per point, of which the fastest counts; the first also warms the caches.
pub(super) const PASSES: usize = 2;

/// Longer latencies are recorded as this: a minute.
const MAX_LATENCY_NS: u64 = 60_000_000_000;

/// Latencies of the searches of one thread, or of all threads.
pub(super) struct Times {
    /// Search time of the busiest thread. Excludes the time spent on checking answers.
    pub(super) elapsed: Duration,
    latencies_ns: Histogram<u64>,
}

impl Times {
    pub(super) fn none() -> Self {
        let latencies_ns = Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3).expect("the bounds are valid");
        Self { elapsed: Duration::ZERO, latencies_ns }
    }

    pub(super) fn record(&mut self, elapsed: Duration) {
        self.elapsed += elapsed;
        self.latencies_ns.saturating_record(elapsed.as_nanos() as u64);
    }

    /// Merges the latencies of a concurrent thread.
    pub(super) fn join(&mut self, other: Times) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latencies_ns.add(other.latencies_ns).expect("histograms with the same bounds add up");
    }

    /// A row with rate and latencies; all other fields are default.
    pub(super) fn row(&self) -> SweepRow {
        let micros = |quantile| Some(self.latencies_ns.value_at_quantile(quantile) as f64 / 1000.0);
        SweepRow {
            qps: self.latencies_ns.len() as f64 / self.elapsed.as_secs_f64(),
            mean_us: Some(self.latencies_ns.mean() / 1000.0),
            p50_us: micros(0.5),
            p95_us: micros(0.95),
            p99_us: micros(0.99),
            ..SweepRow::default()
        }
    }
}

/// Distributes the numbers below `count` over `threads` threads, which call `work` with their state and the number.
/// Returns the state of each thread, which starts as `empty`.
pub(super) fn share<T: Send>(
    threads: usize,
    count: usize,
    empty: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, usize) + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut state = empty();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return state;
            }
            work(&mut state, number);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a search does not panic")).collect()
    })
}
