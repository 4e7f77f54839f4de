//! What became of the searches of a load.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer times are recorded as this: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;
/// A client that sends this much later than due, and by a tenth of the usual latency, adds to the latencies that it measures.
const LATE: Duration = Duration::from_millis(1);

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer.
    Answered,
    /// The server had too much to do. `has_delay`: it said when to try again.
    Refused {
        /// Whether it said when to try again.
        has_delay: bool,
    },
    /// The deadline passed.
    Late,
    /// With another error, by its name.
    Failed(&'static str),
}

/// What became of the searches so far.
#[derive(Debug)]
pub struct Load {
    latencies_ns: Histogram<u64>,
    lags_ns: Histogram<u64>,
    refused: u64,
    refused_with_delay: u64,
    late: u64,
    failed: BTreeMap<&'static str, u64>,
}

impl Default for Load {
    fn default() -> Self {
        let empty = || Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are valid");
        Self {
            latencies_ns: empty(),
            lags_ns: empty(),
            refused: 0,
            refused_with_delay: 0,
            late: 0,
            failed: BTreeMap::new(),
        }
    }
}

impl Load {
    /// Adds a search. `latency`: from when it was due to its end. `lag`: from when it was due to when it was sent.
    pub fn record(&mut self, ended: Ended, latency: Duration, lag: Duration) {
        self.lags_ns.saturating_record(lag.as_nanos() as u64);
        match ended {
            Ended::Answered => self.latencies_ns.saturating_record(latency.as_nanos() as u64),
            Ended::Refused { has_delay } => {
                self.refused += 1;
                self.refused_with_delay += u64::from(has_delay);
            }
            Ended::Late => self.late += 1,
            Ended::Failed(code) => *self.failed.entry(code).or_default() += 1,
        }
    }

    /// Returns the figures of a load of `length`, whose last search ended after `elapsed`.
    pub fn figures(&self, k: usize, length: Duration, elapsed: Duration) -> LoadFigures {
        let ms = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        let latency = |quantile| (!self.latencies_ns.is_empty()).then(|| ms(&self.latencies_ns, quantile));
        let lag_p99_ms = ms(&self.lags_ns, 0.99);
        let usual_ms = latency(0.5).unwrap_or_default();
        LoadFigures {
            k,
            offered_per_second: self.lags_ns.len() as f64 / length.as_secs_f64(),
            answered_per_second: self.latencies_ns.len() as f64 / elapsed.max(length).as_secs_f64(),
            sent: self.lags_ns.len(),
            answered: self.latencies_ns.len(),
            p50_ms: latency(0.5),
            p90_ms: latency(0.9),
            p99_ms: latency(0.99),
            p999_ms: latency(0.999),
            max_ms: latency(1.0),
            refused: self.refused,
            refused_with_delay: self.refused_with_delay,
            deadline_exceeded: self.late,
            errors: self.failed.clone(),
            lag_p99_ms,
            is_behind: lag_p99_ms > LATE.as_secs_f64() * 1e3 && lag_p99_ms > usual_ms / 10.0,
        }
    }
}

/// Rates and latencies of one load. Latencies are of answered searches, `None` without any.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/reference/scripts.md describes each")]
pub struct LoadFigures {
    pub k: usize,
    pub offered_per_second: f64,
    pub answered_per_second: f64,
    pub sent: u64,
    pub answered: u64,
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub p999_ms: Option<f64>,
    pub max_ms: Option<f64>,
    pub refused: u64,
    pub refused_with_delay: u64,
    pub deadline_exceeded: u64,
    pub errors: BTreeMap<&'static str, u64>,
    pub lag_p99_ms: f64,
    pub is_behind: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_are_counted_by_how_they_ended() {
        let mut load = Load::default();
        let (length, on_time) = (Duration::from_secs(2), Duration::from_micros(50));
        for ms in 1..=1000 {
            load.record(Ended::Answered, Duration::from_millis(ms), on_time);
        }
        for has_delay in [true, true, false] {
            load.record(Ended::Refused { has_delay }, Duration::from_secs(9), on_time);
        }
        load.record(Ended::Late, Duration::from_secs(9), on_time);
        load.record(Ended::Failed("INTERNAL"), Duration::from_secs(9), on_time);
        let figures = load.figures(10, length, Duration::from_secs(4));
        assert_eq!((figures.offered_per_second, figures.answered_per_second), (502.5, 250.0));
        assert_eq!((figures.sent, figures.answered), (1005, 1000));
        assert_eq!((figures.refused, figures.refused_with_delay, figures.deadline_exceeded), (3, 2, 1));
        assert_eq!(figures.errors, BTreeMap::from([("INTERNAL", 1)]));
        for (found, expected) in [(figures.p50_ms, 500.0), (figures.p999_ms, 999.0), (figures.max_ms, 1000.0)]
        {
            assert!((found.unwrap() - expected).abs() < 0.002 * expected, "{found:?}, not {expected}");
        }
        assert!(!figures.is_behind);
        // Without an answer, the load ran for as long as it was to run.
        let none = Load::default().figures(10, length, Duration::ZERO);
        assert_eq!((none.p50_ms, none.answered_per_second), (None, 0.0));
    }

    #[test]
    fn a_client_is_behind_if_it_adds_to_the_latency() {
        let is_behind = |latency_ms, lag_us| {
            let mut load = Load::default();
            load.record(Ended::Answered, Duration::from_millis(latency_ms), Duration::from_micros(lag_us));
            load.figures(10, Duration::from_secs(1), Duration::from_secs(1)).is_behind
        };
        assert!(!is_behind(2, 900));
        assert!(is_behind(5, 1100));
        assert!(!is_behind(50, 1100));
        assert!(is_behind(50, 6000));
    }
}
