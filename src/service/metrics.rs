//! Prometheus metrics.
//!
//! What flows in: requests begun and finished, the state of each index. What flows out: the text of `GET /metrics`.
//! Each server has its own registry, so the metrics of several servers in one process stay separate. Label values are
//! constants of this program and names of served indexes, never text from a caller.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use tonic::Code;

use super::deadline::Deadline;
use super::status::code_name;
use crate::engine::{
    Completeness, Engine, EngineError, IndexStatus, RECALL_K, RebuildState, SearchResponse, Shortfall,
    Supervisor, Task,
};
use crate::index::MemoryMode;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Histogram buckets for seconds: 50 µs to 5 s.
const SECONDS: [f64; 16] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5,
    5.0,
];
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
struct IndexLabels {
    index: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecallLabels {
    index: String,
    /// One of [`RECALL_K`], or `+Inf` for any larger k.
    k: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    index: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    index: String,
    state: &'static str,
}

/// A gauge of every index.
struct IndexGauge {
    /// The name, without the prefix `shortlist_`.
    name: &'static str,
    help: &'static str,
    /// Reads the value from the state of an index. `None` leaves the gauge as it is.
    value: fn(&IndexStatus) -> Option<u64>,
}

/// All gauges of an index with integer values.
const INDEX_GAUGES: [IndexGauge; 19] = [
    IndexGauge {
        name: "generation",
        help: "The generation that serves",
        value: |status| Some(status.generation),
    },
    IndexGauge { name: "vectors", help: "Videos in the index", value: |status| Some(status.vectors) },
    IndexGauge {
        name: "serving",
        help: "1 if the index answers, 0 if it is damaged, not open, or written by another server",
        value: |status| Some(status.serving.into()),
    },
    IndexGauge {
        name: "resident",
        help: "1 if searches read a copy in the memory of the server, 0 if they read the mapped file",
        value: |status| Some((status.memory == MemoryMode::Resident).into()),
    },
    IndexGauge {
        name: "delta_vectors",
        help: "Videos written since the generation was built, searched next to it",
        value: |status| Some(status.live.delta_vectors),
    },
    IndexGauge {
        name: "deleted_vectors",
        help: "Videos of the generation with a tombstone: deleted, replaced, taken down or expired",
        value: |status| Some(status.live.deleted),
    },
    IndexGauge {
        name: "held_entries",
        help: "Parked upserts, which wait for a generation that they fit",
        value: |status| Some(status.live.parked_entries),
    },
    IndexGauge {
        name: "takedowns",
        help: "Videos that are taken down",
        value: |status| Some(status.live.takedowns),
    },
    IndexGauge {
        name: "sequence",
        help: "Sequence of the last write",
        value: |status| Some(status.live.sequence),
    },
    IndexGauge {
        name: "log_bytes",
        help: "Size of the mutation log on disk in bytes",
        value: |status| Some(status.live.log_bytes),
    },
    IndexGauge {
        name: "log_entries",
        help: "Entries in the mutation log",
        value: |status| Some(status.live.log_entries),
    },
    IndexGauge {
        name: "log_entry_bytes",
        help: "Bytes of the entries of the mutation log",
        value: |status| Some(status.live.log_entry_bytes),
    },
    IndexGauge {
        name: "writable",
        help: "1 if the index accepts writes, 0 if not",
        value: |status| Some(status.live.writable.into()),
    },
    IndexGauge {
        name: "gate_passed",
        help: "1 if the generation that the quality gate measured last passed, 0 if it was refused",
        value: |status| status.gate.as_ref().map(|report| report.problems.is_empty().into()),
    },
    IndexGauge {
        name: "gate_queries",
        help: "Queries that the quality gate measured the last generation with; 0 if it measured nothing",
        value: |status| status.gate.as_ref().map(|report| report.found.queries.into()),
    },
    IndexGauge {
        name: "scrub_bytes",
        help: "Bytes of what serves whose checksums were compared in the background since the start",
        value: |status| Some(status.scrub.bytes),
    },
    IndexGauge {
        name: "scrub_mismatches",
        help: "Checksums of what serves that differed in the background since the start",
        value: |status| Some(status.scrub.mismatches),
    },
    IndexGauge {
        name: "scrub_last_pass_timestamp_seconds",
        help: "Unix time at which all checksums of a generation were compared in the background the last time",
        value: |status| status.scrub.last_pass.and_then(|pass| u64::try_from(pass.as_second()).ok()),
    },
    IndexGauge {
        name: "generation_timestamp_seconds",
        help: "Unix time at which the generation that serves was published or activated",
        value: |status| u64::try_from(status.published_at.as_second()).ok(),
    },
];

/// The states of a rebuild.
const REBUILD_STATES: [RebuildState; 6] = [
    RebuildState::Idle,
    RebuildState::Running,
    RebuildState::Gating,
    RebuildState::Done,
    RebuildState::Failed,
    RebuildState::Cancelled,
];

type U64Gauge = Gauge<u64, AtomicU64>;
type F64Gauge = Gauge<f64, AtomicU64>;

/// The metrics of one server.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    /// Searches queued or computing.
    pub(super) in_flight: Gauge,
    /// Batches of writes admitted and not yet answered.
    pub(super) writes_in_flight: Gauge,
    distances: Family<IndexLabels, Histogram, fn() -> Histogram>,
    /// In the order of [`INDEX_GAUGES`].
    index_gauges: [Family<IndexLabels, U64Gauge>; INDEX_GAUGES.len()],
    recall: Family<RecallLabels, F64Gauge>,
    gate_recall: Family<IndexLabels, F64Gauge>,
    background_restarts: Family<TaskLabels, Counter>,
    rebuild_state: Family<StateLabels, U64Gauge>,
    refused: Family<ReasonLabels, Counter>,
    short_answers: Family<ReasonLabels, Counter>,
    refused_searches: Family<CauseLabels, Counter>,
    admitted_cost: Counter<f64, AtomicU64>,
    queue_seconds: Histogram,
    bytes_in_flight: Gauge,
    refused_for_memory: Family<CauseLabels, Counter>,
    pub(super) connections: ConnectionMetrics,
}

/// The metrics of connections.
#[derive(Clone, Debug)]
pub(super) struct ConnectionMetrics {
    pub(super) open: Gauge,
    refused: Family<CauseLabels, Counter>,
    pub(super) closed: ClosedConnections,
    /// Answers that were cut because the client did not take them.
    pub(super) stalled: Counter,
}

impl ConnectionMetrics {
    /// Counts a connection that was refused.
    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&CauseLabels { reason }).inc();
    }
}

/// Counts the connections that were closed, by reason.
#[derive(Clone, Debug)]
pub(super) struct ClosedConnections(Family<CauseLabels, Counter>);

impl ClosedConnections {
    pub(super) fn count(&self, reason: &'static str) {
        self.0.get_or_create(&CauseLabels { reason }).inc();
    }
}

/// The gauges of an index that is not open; all of them are 0.
const GAUGES_WHEN_CLOSED: [&str; 2] = ["serving", "writable"];

impl Metrics {
    /// Creates the metrics of a server of these indexes. The distance histograms exist from the start.
    pub(super) fn new(index_names: Vec<String>) -> Self {
        fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
            registry.register(name, help, metric.clone());
            metric
        }
        let mut registry = Registry::with_prefix("shortlist");
        let all = &mut registry;
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let distances: fn() -> Histogram = || Histogram::new(DISTANCES);
        let metrics = Self {
            // The encoder appends `_total`.
            requests: register(all, "requests", "Requests answered", Family::default()),
            seconds: register(
                all,
                "request_seconds",
                "Seconds from the decoded request to its answer",
                Family::new_with_constructor(seconds),
            ),
            in_flight: register(all, "in_flight", "Searches queued or computing", Gauge::default()),
            writes_in_flight: register(
                all,
                "writes_in_flight",
                "Batches of writes in flight to the disk",
                Gauge::default(),
            ),
            distances: register(
                all,
                "distances_per_query",
                "Embeddings scored per search",
                Family::new_with_constructor(distances),
            ),
            index_gauges: INDEX_GAUGES.map(|gauge| register(all, gauge.name, gauge.help, Family::default())),
            recall: register(
                all,
                "recall_at_k",
                "Share of the exact candidates in a sample of recent answers, by the largest k of the answers",
                Family::default(),
            ),
            gate_recall: register(
                all,
                "gate_recall",
                "Recall of the generation that the quality gate measured last",
                Family::default(),
            ),
            background_restarts: register(
                all,
                "background_restarts",
                "Runs of background tasks that ended by a panic; the task goes on with its next run",
                Family::default(),
            ),
            rebuild_state: register(
                all,
                "rebuild_state",
                "1 for the state of the running rebuild or of the last one, 0 for the other states",
                Family::default(),
            ),
            refused: register(
                all,
                "refused_publications",
                "Publications that are not served, by reason; one with several reasons counts under each",
                Family::default(),
            ),
            short_answers: register(
                all,
                "short_answers",
                "Answers to searches with fewer candidates than requested or cut by the deadline, by reason",
                Family::default(),
            ),
            refused_searches: register(
                all,
                "refused_searches",
                "Searches refused before they were computed, by reason",
                Family::default(),
            ),
            // The encoder appends `_total`.
            admitted_cost: register(
                all,
                "admitted_cost_seconds",
                "Expected cost of the admitted searches, in seconds of one thread",
                Counter::default(),
            ),
            queue_seconds: register(
                all,
                "queue_seconds",
                "Seconds that searches waited for the compute pool",
                Histogram::new(SECONDS),
            ),
            bytes_in_flight: register(
                all,
                "bytes_in_flight",
                "Memory of the requests and answers in flight, in bytes",
                Gauge::default(),
            ),
            refused_for_memory: register(
                all,
                "refused_for_memory",
                "Times that a connection, or all of them together, had no memory left for a request or an answer",
                Family::default(),
            ),
            connections: ConnectionMetrics {
                open: register(all, "connections", "Open connections", Gauge::default()),
                refused: register(
                    all,
                    "refused_connections",
                    "Connections refused because there were too many in total or of their peer, by reason",
                    Family::default(),
                ),
                closed: ClosedConnections(register(
                    all,
                    "closed_connections",
                    "Connections closed, by reason",
                    Family::default(),
                )),
                stalled: register(
                    all,
                    "stalled_answers",
                    "Answers cut because the client did not take them in time",
                    Counter::default(),
                ),
            },
            registry,
        };
        for task in Task::ALL {
            drop(metrics.background_restarts.get_or_create(&TaskLabels { task: task.name() }));
        }
        for index in index_names {
            drop(metrics.distances.get_or_create(&IndexLabels { index }));
        }
        metrics
    }

    /// The text of a scrape in which every metric has a value: the source of the reference page.
    pub(super) fn example() -> String {
        let index = "videos".to_owned();
        let metrics = Self::new(vec![index.clone()]);
        let by_index = IndexLabels { index: index.clone() };
        metrics
            .requests
            .get_or_create(&RequestLabels { index: index.clone(), method: "Search", code: "OK" })
            .inc();
        metrics.seconds.get_or_create(&MethodLabels { index: index.clone(), method: "Search" }).observe(0.0);
        metrics.index_gauges.iter().for_each(|family| _ = family.get_or_create(&by_index).set(0));
        metrics.recall.get_or_create(&RecallLabels { index: index.clone(), k: "10".to_owned() }).set(0.0);
        metrics.gate_recall.get_or_create(&by_index).set(0.0);
        metrics.rebuild_state(&index, RebuildState::Idle);
        let by_reason = |reason| ReasonLabels { index: index.clone(), reason };
        metrics.refused.get_or_create(&by_reason("videos")).inc();
        metrics.short_answers.get_or_create(&by_reason("deadline")).inc();
        metrics.refused_search("deadline");
        metrics.connections.refused("peer");
        metrics.connections.closed.count("silent");
        metrics.refused_for_memory("server").inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry)
            .expect("a string takes any text");
        text
    }

    /// Counts a search that is refused before it is computed.
    pub(super) fn refused_search(&self, reason: &'static str) {
        self.refused_searches.get_or_create(&CauseLabels { reason }).inc();
    }

    /// Counts a search that is queued, with its expected cost in nanoseconds.
    pub(super) fn admitted_cost(&self, nanos: u64) {
        self.admitted_cost.inc_by(nanos as f64 / 1e9);
    }

    /// Records how long a search waited.
    pub(super) fn queued(&self, waited: Duration) {
        self.queue_seconds.observe(waited.as_secs_f64());
    }

    /// The counter of the refusals for lack of memory: of a `connection`, or of the whole `server`.
    pub(super) fn refused_for_memory(&self, reason: &'static str) -> Counter {
        self.refused_for_memory.get_or_create(&CauseLabels { reason }).clone()
    }

    /// Updates the memory of requests and answers in flight.
    pub(super) fn memory(&self, bytes: usize) {
        self.bytes_in_flight.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Answers a scrape.
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

    /// Updates the gauges of an index that is not open.
    fn closed_index(&self, index: &str) {
        let labels = IndexLabels { index: index.to_owned() };
        for (gauge, family) in INDEX_GAUGES.iter().zip(&self.index_gauges) {
            if GAUGES_WHEN_CLOSED.contains(&gauge.name) {
                family.get_or_create(&labels).set(0);
            }
        }
    }

    /// Updates the counters of background tasks.
    fn tasks(&self, supervisor: &Supervisor) {
        for task in Task::ALL {
            let counter = self.background_restarts.get_or_create(&TaskLabels { task: task.name() });
            counter.inc_by(supervisor.restarts(task).saturating_sub(counter.get()));
        }
    }

    /// Counts a publication that is not served.
    pub(super) fn refused(&self, index: &str, error: &EngineError) {
        for reason in error.refusal_reasons() {
            let labels = ReasonLabels { index: index.to_owned(), reason: reason.name() };
            self.refused.get_or_create(&labels).inc();
        }
    }

    fn rebuild_state(&self, index: &str, current: RebuildState) {
        for state in REBUILD_STATES {
            let labels = StateLabels { index: index.to_owned(), state: state.name() };
            self.rebuild_state.get_or_create(&labels).set((state == current).into());
        }
    }

    /// Updates the gauges of one index.
    pub(super) fn index(&self, status: &IndexStatus) {
        let labels = IndexLabels { index: status.name.clone() };
        for (gauge, family) in INDEX_GAUGES.iter().zip(&self.index_gauges) {
            if let Some(value) = (gauge.value)(status) {
                family.get_or_create(&labels).set(value);
            }
        }
        self.rebuild_state(&status.name, status.live.rebuild.state);
        if let Some(report) = &status.gate {
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
                // A new generation serves, and none of its answers were compared yet.
                None => _ = self.recall.remove(&labels),
            }
        }
    }
}

/// Updates the gauges of the indexes `names`, and the counters of background tasks.
pub(super) async fn observe_indexes(engine: &Arc<Engine>, metrics: &Arc<Metrics>, names: Vec<String>) {
    let (engine, metrics) = (Arc::clone(engine), Arc::clone(metrics));
    let observed = tokio::task::spawn_blocking(move || {
        for name in names {
            match engine.status(&name) {
                Ok(status) => metrics.index(&status),
                Err(EngineError::OutOfService { .. }) => metrics.closed_index(&name),
                Err(error) => tracing::warn!(index = name, %error, "cannot read the state of an index"),
            }
        }
        metrics.tasks(engine.supervisor());
    });
    if let Err(error) = observed.await {
        tracing::error!(%error, "reading the state of the indexes failed");
    }
}

/// Measures one request, from when it was decoded to its answer. If it is dropped before [`Self::finish`], because the
/// caller no longer waits, the request counts as `DEADLINE_EXCEEDED` after its deadline and as `CANCELLED` before.
pub(super) struct Observation {
    metrics: Arc<Metrics>,
    labels: MethodLabels,
    deadline: Deadline,
    started: Instant,
    finished: bool,
}

impl Observation {
    /// Starts to measure. `index` is the name of a served index, or empty.
    pub(super) fn begin(
        metrics: &Arc<Metrics>,
        method: &'static str,
        index: &str,
        deadline: Deadline,
    ) -> Self {
        let labels = MethodLabels { index: index.to_owned(), method };
        Self { metrics: Arc::clone(metrics), labels, deadline, started: Instant::now(), finished: false }
    }

    /// Records the number of embeddings that a search scored, and whether its answer is short.
    pub(super) fn searched(&self, response: &SearchResponse) {
        let labels = IndexLabels { index: self.labels.index.clone() };
        self.metrics.distances.get_or_create(&labels).observe(response.stats.distances as f64);
        if let Some(reason) = reason_of(response.completeness) {
            let labels = ReasonLabels { index: self.labels.index.clone(), reason };
            self.metrics.short_answers.get_or_create(&labels).inc();
        }
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

/// Why an answer is short; `None` if it is complete.
fn reason_of(completeness: Completeness) -> Option<&'static str> {
    match completeness {
        Completeness::Complete => None,
        Completeness::Deadline => Some("deadline"),
        Completeness::Short(Shortfall::IndexExhausted) => Some("index_exhausted"),
        Completeness::Short(Shortfall::TooFewMatches) => Some("too_few_matches"),
        Completeness::Short(Shortfall::Excluded) => Some("excluded"),
        Completeness::Short(Shortfall::CapsExhausted) => Some("caps_exhausted"),
        Completeness::Short(Shortfall::ScoreThreshold) => Some("score_threshold"),
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.finished {
            self.count(if self.deadline.is_over() { Code::DeadlineExceeded } else { Code::Cancelled });
        }
    }
}
