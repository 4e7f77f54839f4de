//! The state of each index, and background tasks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::{IndexLabels, ReasonLabels, register};
use crate::engine::{Engine, EngineError, IndexStatus, RECALL_K, RebuildState, Supervisor, Task};
use crate::index::MemoryMode;

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

/// The gauges of an index that is not open; all of them are 0.
const GAUGES_WHEN_CLOSED: [&str; 2] = ["serving", "writable"];

/// The metrics of the engine.
pub(crate) struct EngineMetrics {
    /// In the order of [`INDEX_GAUGES`].
    index_gauges: [Family<IndexLabels, U64Gauge>; INDEX_GAUGES.len()],
    recall: Family<RecallLabels, F64Gauge>,
    gate_recall: Family<IndexLabels, F64Gauge>,
    background_restarts: Family<TaskLabels, Counter>,
    rebuild_state: Family<StateLabels, U64Gauge>,
    refused: Family<ReasonLabels, Counter>,
}

impl EngineMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            index_gauges: INDEX_GAUGES
                .map(|gauge| register(registry, gauge.name, gauge.help, Family::default())),
            recall: register(
                registry,
                "recall_at_k",
                "Share of the exact candidates in a sample of recent answers, by the largest k of the answers",
                Family::default(),
            ),
            gate_recall: register(
                registry,
                "gate_recall",
                "Recall of the generation that the quality gate measured last",
                Family::default(),
            ),
            background_restarts: register(
                registry,
                "background_restarts",
                "Runs of background tasks that ended by a panic; the task goes on with its next run",
                Family::default(),
            ),
            rebuild_state: register(
                registry,
                "rebuild_state",
                "1 for the state of the running rebuild or of the last one, 0 for the other states",
                Family::default(),
            ),
            refused: register(
                registry,
                "refused_publications",
                "Publications that are not served, by reason; one with several reasons counts under each",
                Family::default(),
            ),
        };
        for task in Task::ALL {
            drop(metrics.background_restarts.get_or_create(&TaskLabels { task: task.name() }));
        }
        metrics
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self, index: &str) {
        let labels = IndexLabels { index: index.to_owned() };
        self.index_gauges.iter().for_each(|family| _ = family.get_or_create(&labels).set(0));
        let labels_of_recall = RecallLabels { index: index.to_owned(), k: "10".to_owned() };
        self.recall.get_or_create(&labels_of_recall).set(0.0);
        self.gate_recall.get_or_create(&labels).set(0.0);
        self.rebuild_state(index, RebuildState::Idle);
        self.refused.get_or_create(&ReasonLabels { index: index.to_owned(), reason: "videos" }).inc();
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
    pub(crate) fn refused(&self, index: &str, error: &EngineError) {
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
    pub(crate) fn index(&self, status: &IndexStatus) {
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
pub(crate) async fn observe_indexes(engine: &Arc<Engine>, metrics: &Arc<EngineMetrics>, names: Vec<String>) {
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
