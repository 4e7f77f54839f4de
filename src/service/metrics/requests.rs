//! Requests: how many, how long, how their answers came about.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use shortlist_client::code_name;
use tonic::Code;

use super::families::{IndexLabels, ReasonLabels, SECONDS, register};
use crate::engine::{Completeness, Plan, SearchResponse, Shortfall};
use crate::service::deadline::Deadline;
use crate::service::history::History;

/// Histogram buckets for distances per search: from a small graph to an exact scan of ten million videos.
const DISTANCES: [f64; 12] = [100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 1e6, 1e7];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    index: String,
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    index: String,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlanLabels {
    index: String,
    plan: &'static str,
}

/// The metrics of requests.
pub(crate) struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    distances: Family<IndexLabels, Histogram, fn() -> Histogram>,
    short_answers: Family<ReasonLabels, Counter>,
    plans: Family<PlanLabels, Counter>,
    slow_searches: Family<IndexLabels, Counter>,
    /// The last hour of each index.
    pub(crate) history: History,
}

impl RequestMetrics {
    /// Registers the metrics. The histograms of distances of these indexes exist from the start.
    pub(super) fn new(registry: &mut Registry, index_names: Vec<String>) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let distances: fn() -> Histogram = || Histogram::new(DISTANCES);
        let metrics = Self {
            requests: register(registry, "requests", "Requests answered", Family::default()),
            seconds: register(
                registry,
                "request_seconds",
                "Seconds from the decoded request to its answer",
                Family::new_with_constructor(seconds),
            ),
            distances: register(
                registry,
                "distances_per_query",
                "Embeddings scored per search",
                Family::new_with_constructor(distances),
            ),
            short_answers: register(
                registry,
                "short_answers",
                "Answers to searches with fewer candidates than requested or cut by the deadline, by reason",
                Family::default(),
            ),
            plans: register(registry, "plans", "Searches answered, by plan", Family::default()),
            slow_searches: register(
                registry,
                "slow_searches",
                "Searches that took longer than slow_search_threshold, logged or not",
                Family::default(),
            ),
            history: History::new(&index_names),
        };
        for index in index_names {
            let labels = IndexLabels { index: index.clone() };
            drop(metrics.slow_searches.get_or_create(&labels));
            drop(metrics.distances.get_or_create(&IndexLabels { index }));
        }
        metrics
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self, index: &str) {
        let (index, method) = (index.to_owned(), "Search");
        self.requests.get_or_create(&RequestLabels { index: index.clone(), method, code: "OK" }).inc();
        self.seconds.get_or_create(&MethodLabels { index: index.clone(), method }).observe(0.0);
        self.plans.get_or_create(&PlanLabels { index: index.clone(), plan: Plan::Graph.name() }).inc();
        self.short_answers.get_or_create(&ReasonLabels { index, reason: "deadline" }).inc();
    }
}

/// Measures one request, from when it was decoded to its answer. If it is dropped before [`Self::finish`], because the
/// caller no longer waits, the request counts as `DEADLINE_EXCEEDED` after its deadline and as `CANCELLED` before.
pub(crate) struct Observation {
    metrics: Arc<RequestMetrics>,
    labels: MethodLabels,
    deadline: Deadline,
    started: Instant,
    finished: bool,
}

impl Observation {
    /// Starts to measure. `index` is the name of a served index, or empty.
    pub(crate) fn begin(
        metrics: &Arc<RequestMetrics>,
        method: &'static str,
        index: &str,
        deadline: Deadline,
    ) -> Self {
        let labels = MethodLabels { index: index.to_owned(), method };
        Self { metrics: Arc::clone(metrics), labels, deadline, started: Instant::now(), finished: false }
    }

    /// Records the number of embeddings that a search scored, and whether its answer is short.
    pub(crate) fn searched(&self, response: &SearchResponse) {
        let labels = IndexLabels { index: self.labels.index.clone() };
        self.metrics.distances.get_or_create(&labels).observe(response.stats.distances as f64);
        let plan = response.stats.plan.name();
        self.metrics.plans.get_or_create(&PlanLabels { index: self.labels.index.clone(), plan }).inc();
        if let Some(reason) = reason_of(response.completeness) {
            let labels = ReasonLabels { index: self.labels.index.clone(), reason };
            self.metrics.short_answers.get_or_create(&labels).inc();
        }
    }

    /// How long the request has taken until now.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts a search as slow.
    pub(crate) fn is_slow(&self) {
        let labels = IndexLabels { index: self.labels.index.clone() };
        self.metrics.slow_searches.get_or_create(&labels).inc();
    }

    /// Counts the request under the code of its answer.
    pub(crate) fn finish(mut self, code: Code) {
        self.count(code);
    }

    fn count(&mut self, code: Code) {
        self.finished = true;
        let elapsed = self.started.elapsed();
        self.metrics.history.count(&self.labels.index, self.labels.method, code, elapsed);
        let seconds = elapsed.as_secs_f64();
        self.metrics.seconds.get_or_create(&self.labels).observe(seconds);
        let MethodLabels { index, method } = self.labels.clone();
        let code = code_name(code);
        tracing::debug!(method, index, code, seconds, "answered");
        self.metrics.requests.get_or_create(&RequestLabels { index, method, code }).inc();
    }
}

/// Why an answer is short; `None` if it is complete.
pub(crate) fn reason_of(completeness: Completeness) -> Option<&'static str> {
    match completeness {
        Completeness::Complete => None,
        Completeness::Deadline => Some("deadline"),
        Completeness::Short(Shortfall::IndexExhausted) => Some("index_exhausted"),
        Completeness::Short(Shortfall::TooFewMatches) => Some("too_few_matches"),
        Completeness::Short(Shortfall::Excluded) => Some("excluded"),
        Completeness::Short(Shortfall::CapsExhausted) => Some("caps_exhausted"),
        Completeness::Short(Shortfall::ScoreThreshold) => Some("score_threshold"),
        Completeness::Short(Shortfall::TooSimilar) => Some("too_similar"),
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.finished {
            self.count(if self.deadline.is_over() { Code::DeadlineExceeded } else { Code::Cancelled });
        }
    }
}
