//! What Prometheus scrapes.
//!
//! What flows in: searches begun and ended, the state of each index. What flows out: the text of
//! `GET /metrics`. The registry is the server's own, so that several servers in one process do not mix.
//! Labels take values of this program and names of served indexes only, never words of a caller.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use super::admission::Work;
use super::deadline::Deadline;
use crate::engine::{Engine, IndexStatus, RECALL_K, SearchStats};
use crate::index::MemoryMode;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds: 50 µs to 5 s.
const SECONDS: [f64; 16] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5,
    5.0,
];
/// Distances: from a small graph to an exact scan of ten million.
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
struct IndexLabels {
    index: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecallLabels {
    index: String,
    /// `+Inf` for any above the largest that is told apart.
    k: String,
}

/// The metrics of one server.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    writes_in_flight: Gauge,
    distances: Family<IndexLabels, Histogram, fn() -> Histogram>,
    generation: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    vectors: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    serving: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    resident: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    delta_vectors: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    deleted: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    held_entries: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    takedowns: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    sequence: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    writable: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    recall: Family<RecallLabels, Gauge<f64, AtomicU64>>,
    gate_passed: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    gate_recall: Family<IndexLabels, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// Metrics of a server of these indexes, whose distances are there from the start.
    pub(super) fn new(index_names: Vec<String>) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("shortlist"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_flight: Gauge::default(),
            writes_in_flight: Gauge::default(),
            distances: Family::new_with_constructor(|| Histogram::new(DISTANCES)),
            generation: Family::default(),
            vectors: Family::default(),
            serving: Family::default(),
            resident: Family::default(),
            delta_vectors: Family::default(),
            deleted: Family::default(),
            held_entries: Family::default(),
            takedowns: Family::default(),
            sequence: Family::default(),
            writable: Family::default(),
            recall: Family::default(),
            gate_passed: Family::default(),
            gate_recall: Family::default(),
        };
        let registry = &mut metrics.registry;
        // The encoder appends `_total`.
        registry.register("requests", "Searches and other requests answered", metrics.requests.clone());
        registry.register(
            "request_seconds",
            "Seconds from a request, read, to its answer, to be written",
            metrics.seconds.clone(),
        );
        registry.register("in_flight", "Searches queued or computing", metrics.in_flight.clone());
        registry.register(
            "writes_in_flight",
            "Batches of writes on their way to the disk",
            metrics.writes_in_flight.clone(),
        );
        registry.register("distances_per_query", "Embeddings scored per search", metrics.distances.clone());
        registry.register("generation", "The generation that answers", metrics.generation.clone());
        registry.register("vectors", "Videos in the index", metrics.vectors.clone());
        registry.register("serving", "1 if the index answers, 0 if it is damaged", metrics.serving.clone());
        registry.register(
            "resident",
            "1 if the index is searched in memory of the server, 0 if in the mapped file",
            metrics.resident.clone(),
        );
        registry.register(
            "delta_vectors",
            "Videos written since the generation was built, searched beside it",
            metrics.delta_vectors.clone(),
        );
        registry.register(
            "deleted_vectors",
            "Videos of the generation that are no candidates",
            metrics.deleted.clone(),
        );
        registry.register(
            "held_entries",
            "Upserts that wait for a generation that they fit",
            metrics.held_entries.clone(),
        );
        registry.register("takedowns", "Videos that are taken down", metrics.takedowns.clone());
        registry.register("sequence", "The last write", metrics.sequence.clone());
        registry.register("writable", "1 if writes are taken, 0 if not", metrics.writable.clone());
        registry.register(
            "recall_at_k",
            "Share of the exact candidates in a sample of the answers of late, by the largest k of them",
            metrics.recall.clone(),
        );
        registry.register(
            "gate_passed",
            "1 if the quality gate let the generation pass that it measured last, 0 if it refused it",
            metrics.gate_passed.clone(),
        );
        registry.register("gate_recall", "The recall of that generation", metrics.gate_recall.clone());
        for index in index_names {
            drop(metrics.distances.get_or_create(&IndexLabels { index }));
        }
        metrics
    }

    /// The answer to a scrape.
    pub(super) fn scrape(&self) -> Response {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                text.clear();
                let _ = writeln!(text, "{error}");
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        }
    }

    /// How many of `work` are in flight.
    pub(super) fn in_flight(&self, work: Work) -> &Gauge {
        match work {
            Work::Searches => &self.in_flight,
            Work::Writes => &self.writes_in_flight,
        }
    }

    /// A search of `index` was done.
    pub(super) fn searched(&self, index: &str, stats: &SearchStats) {
        let labels = IndexLabels { index: index.to_owned() };
        self.distances.get_or_create(&labels).observe(stats.distances as f64);
    }

    /// What `index` serves now.
    pub(super) fn index(&self, status: &IndexStatus) {
        let labels = IndexLabels { index: status.name.clone() };
        self.generation.get_or_create(&labels).set(status.generation);
        self.vectors.get_or_create(&labels).set(status.vectors);
        self.serving.get_or_create(&labels).set(status.serving.into());
        self.resident.get_or_create(&labels).set((status.memory == MemoryMode::Resident).into());
        let live = &status.live;
        self.delta_vectors.get_or_create(&labels).set(live.delta_vectors);
        self.deleted.get_or_create(&labels).set(live.deleted);
        self.held_entries.get_or_create(&labels).set(live.held_entries);
        self.takedowns.get_or_create(&labels).set(live.takedowns);
        self.sequence.get_or_create(&labels).set(live.sequence);
        self.writable.get_or_create(&labels).set(live.writable.into());
        if let Some(report) = &status.gate {
            self.gate_passed.get_or_create(&labels).set(report.problems.is_empty().into());
            if report.found.queries > 0 {
                let recall = f64::from(report.found.recall_ppm) / 1e6;
                self.gate_recall.get_or_create(&labels).set(recall);
            } else {
                self.gate_recall.remove(&labels);
            }
        }
        for k in RECALL_K.into_iter().map(Some).chain([None]) {
            let word = k.map_or("+Inf".to_owned(), |k| k.to_string());
            let labels = RecallLabels { index: status.name.clone(), k: word };
            match status.recall.iter().find(|recall| recall.k == k) {
                Some(recall) => _ = self.recall.get_or_create(&labels).set(recall.recall),
                // Another generation answers, and nothing was compared yet.
                None => _ = self.recall.remove(&labels),
            }
        }
    }
}

/// Brings what the metrics say of each index up to date.
pub(super) async fn observe_indexes(engine: &Arc<Engine>, metrics: &Arc<Metrics>) {
    let (engine, metrics) = (Arc::clone(engine), Arc::clone(metrics));
    let observed = tokio::task::spawn_blocking(move || {
        for name in engine.index_names() {
            match engine.status(&name) {
                Ok(status) => metrics.index(&status),
                Err(error) => tracing::warn!(index = name, %error, "cannot read the state of an index"),
            }
        }
    });
    if let Err(error) = observed.await {
        tracing::error!(%error, "reading the state of the indexes failed");
    }
}

/// One request, from when it was read to its answer. A request whose answer nobody waits for any more is
/// dropped and counts as cancelled, or as too late.
pub(super) struct Observation {
    metrics: Arc<Metrics>,
    labels: MethodLabels,
    deadline: Deadline,
    started: Instant,
    finished: bool,
}

impl Observation {
    /// Begins now. `index` is the name of a served index, or empty.
    pub(super) fn begin(
        metrics: &Arc<Metrics>,
        method: &'static str,
        index: &str,
        deadline: Deadline,
    ) -> Self {
        let labels = MethodLabels { index: index.to_owned(), method };
        Self { metrics: Arc::clone(metrics), labels, deadline, started: Instant::now(), finished: false }
    }

    /// Counts the request under the code of its answer.
    pub(super) fn finish(mut self, code: Code) {
        self.count(code);
    }

    fn count(&mut self, code: Code) {
        self.finished = true;
        self.metrics.seconds.get_or_create(&self.labels).observe(self.started.elapsed().as_secs_f64());
        let MethodLabels { index, method } = self.labels.clone();
        self.metrics.requests.get_or_create(&RequestLabels { index, method, code: code_name(code) }).inc();
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.finished {
            self.count(if self.deadline.is_over() { Code::DeadlineExceeded } else { Code::Cancelled });
        }
    }
}

/// The name of a code as the gRPC specification spells it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
