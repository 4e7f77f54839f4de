//! The state of each index, and background tasks.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{Atomic, Gauge};
use prometheus_client::registry::Registry;

use super::families::{IndexLabels, ReasonLabels, register};
use crate::engine::{
    EndedRebuilds, Engine, EngineError, IndexStatus, RECALL_K, RebuildState, RebuildStatus, Supervisor, Task,
};
use crate::index::{MemoryMode, RefusalReason};
use crate::live::Digest;

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
struct PhaseLabels {
    index: String,
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    index: String,
    outcome: &'static str,
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
    /// Reads the value from the state of an index. Without a value, there is no series.
    value: fn(&IndexStatus) -> Option<u64>,
}

/// All gauges of an index with integer values.
const INDEX_GAUGES: [IndexGauge; 27] = [
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
        name: "mapped_bytes",
        help: "Bytes of the mapped file of the generation",
        value: |status| Some(status.bytes),
    },
    IndexGauge {
        name: "resident_bytes",
        help: "Bytes of the copy in the memory of the server; 0 if searches read the mapped file",
        value: |status| Some(status.resident_bytes),
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
        name: "log_oldest_entry_timestamp_seconds",
        help: "Unix time at which the oldest entry of the mutation log was written; absent without entries",
        value: |status| seconds(status.live.log_oldest_entry?.as_microsecond() / 1_000_000),
    },
    IndexGauge {
        name: "log_connected",
        help: "1 if the shared log is being received, 0 if not; absent if the log is a file of this server",
        value: |status| Some(status.live.shared_log.as_ref()?.problem.is_none().into()),
    },
    IndexGauge {
        name: "log_behind_seconds",
        help: "Seconds since this server was last up to date with the shared log",
        value: |status| Some(status.live.shared_log.as_ref()?.age.as_secs()),
    },
    IndexGauge {
        name: "log_digest",
        help: "Lower 32 bits of the hash of the last complete block of 256 entries of the shared log",
        value: |status| Some(digest(status)?.hash & u64::from(u32::MAX)),
    },
    IndexGauge {
        name: "log_digest_sequence",
        help: "Sequence of the last entry in the block that log_digest covers; replicas with equal sequences must have equal digests",
        value: |status| Some(digest(status)?.sequence),
    },
    IndexGauge {
        name: "rebuild_start_timestamp_seconds",
        help: "Unix time at which the running rebuild, or the last one, started; absent before the first",
        value: |status| seconds(status.live.rebuild.started_at?.as_second()),
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
        value: |status| seconds(status.scrub.last_pass?.as_second()),
    },
    IndexGauge {
        name: "generation_timestamp_seconds",
        help: "Unix time at which the generation that serves was published or activated",
        value: |status| seconds(status.published_at.as_second()),
    },
];

fn digest(status: &IndexStatus) -> Option<Digest> {
    status.live.shared_log.as_ref()?.digest
}

fn seconds(seconds: i64) -> Option<u64> {
    u64::try_from(seconds).ok()
}

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
    recall_answers: Family<RecallLabels, U64Gauge>,
    recall_target: Family<RecallLabels, F64Gauge>,
    targeted_recall: Family<RecallLabels, F64Gauge>,
    gate_recall: Family<IndexLabels, F64Gauge>,
    background_restarts: Family<TaskLabels, Counter>,
    rebuild_state: Family<StateLabels, U64Gauge>,
    rebuild_phase: Family<PhaseLabels, U64Gauge>,
    /// The phase of each index that has a series.
    phases: Mutex<HashMap<String, PhaseLabels>>,
    rebuild_progress: Family<IndexLabels, F64Gauge>,
    rebuilds: Family<OutcomeLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
}

impl EngineMetrics {
    /// Registers the metrics. The counters of refused publications of these indexes exist from the start, so that the first
    /// refusal is an increase.
    pub(crate) fn new(registry: &mut Registry, index_names: &[String]) -> Self {
        let metrics = Self {
            index_gauges: INDEX_GAUGES
                .map(|gauge| register(registry, gauge.name, gauge.help, Family::default())),
            recall: register(
                registry,
                "recall_at_k",
                "Share of the exact candidates in a sample of recent answers, by the largest k of the answers",
                Family::default(),
            ),
            recall_answers: register(
                registry,
                "recall_answers_at_k",
                "Answers that `shortlist_recall_at_k` is measured with; at most the last 1,000",
                Family::default(),
            ),
            recall_target: register(
                registry,
                "recall_target_at_k",
                "Mean recall that answers were to reach: the target of the request, or the calibrated recall of its \
                 effort; of the compared answers for which one is known",
                Family::default(),
            ),
            targeted_recall: register(
                registry,
                "targeted_recall_at_k",
                "Recall of the compared answers that `shortlist_recall_target_at_k` is the target of",
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
            rebuild_phase: register(
                registry,
                "rebuild_phase",
                "1 for the phase of the running rebuild; absent if none runs",
                Family::default(),
            ),
            phases: Mutex::default(),
            rebuild_progress: register(
                registry,
                "rebuild_progress_ratio",
                "Completed share of the phase of the running rebuild, 0 to 1; absent if none runs",
                Family::default(),
            ),
            rebuilds: register(registry, "rebuilds", "Rebuilds that ended, by outcome", Family::default()),
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
        for index in index_names {
            for reason in RefusalReason::ALL {
                let labels = ReasonLabels { index: index.clone(), reason: reason.name() };
                drop(metrics.refused.get_or_create(&labels));
            }
        }
        metrics
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self, index: &str) {
        let labels = IndexLabels { index: index.to_owned() };
        self.index_gauges.iter().for_each(|family| _ = family.get_or_create(&labels).set(0));
        let labels_of_recall = RecallLabels { index: index.to_owned(), k: "10".to_owned() };
        for family in [&self.recall, &self.recall_target, &self.targeted_recall] {
            family.get_or_create(&labels_of_recall).set(0.0);
        }
        self.recall_answers.get_or_create(&labels_of_recall).set(0);
        self.gate_recall.get_or_create(&labels).set(0.0);
        let rebuild = RebuildStatus {
            state: RebuildState::Running,
            phase: "inserting videos".to_owned(),
            ..RebuildStatus::default()
        };
        self.rebuild(index, &rebuild);
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

    fn rebuild(&self, index: &str, rebuild: &RebuildStatus) {
        for state in REBUILD_STATES {
            let labels = StateLabels { index: index.to_owned(), state: state.name() };
            self.rebuild_state.get_or_create(&labels).set((state == rebuild.state).into());
        }
        let EndedRebuilds { done, failed, cancelled } = rebuild.ended;
        for (state, count) in
            [(RebuildState::Done, done), (RebuildState::Failed, failed), (RebuildState::Cancelled, cancelled)]
        {
            let labels = OutcomeLabels { index: index.to_owned(), outcome: state.name() };
            let counter = self.rebuilds.get_or_create(&labels);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let labels = IndexLabels { index: index.to_owned() };
        let is_running = rebuild.state == RebuildState::Running;
        set(&self.rebuild_progress, &labels, is_running.then_some(rebuild.progress));
        let phase = match rebuild.state {
            RebuildState::Running => rebuild.phase.as_str(),
            RebuildState::Gating => "measuring the new generation",
            _ => "",
        };
        self.rebuild_phase(index, phase);
    }

    /// Sets the phase of a rebuild; empty if none runs.
    fn rebuild_phase(&self, index: &str, phase: &str) {
        let mut phases = self.phases.lock();
        if phases.get(index).is_some_and(|before| before.phase != phase)
            && let Some(before) = phases.remove(index)
        {
            self.rebuild_phase.remove(&before);
        }
        if !phase.is_empty() {
            let labels = PhaseLabels { index: index.to_owned(), phase: phase.to_owned() };
            self.rebuild_phase.get_or_create(&labels).set(1);
            phases.insert(index.to_owned(), labels);
        }
    }

    /// Updates the gauges of one index.
    pub(crate) fn index(&self, status: &IndexStatus) {
        let labels = IndexLabels { index: status.name.clone() };
        for (gauge, family) in INDEX_GAUGES.iter().zip(&self.index_gauges) {
            set(family, &labels, (gauge.value)(status));
        }
        self.rebuild(&status.name, &status.live.rebuild);
        if let Some(report) = &status.gate {
            let recall = f64::from(report.found.recall_ppm) / 1e6;
            set(&self.gate_recall, &labels, (report.found.queries > 0).then_some(recall));
        }
        for k in RECALL_K.into_iter().map(Some).chain([None]) {
            let word = k.map_or("+Inf".to_owned(), |k| k.to_string());
            let labels = RecallLabels { index: status.name.clone(), k: word };
            let live = status.recall.iter().find(|recall| recall.k == k);
            let target = live.and_then(|live| live.target);
            // Without a value, a new generation serves, and none of its answers were compared yet.
            set(&self.recall, &labels, live.map(|live| live.recall));
            set(&self.recall_target, &labels, target.map(|target| target.target));
            set(&self.targeted_recall, &labels, target.map(|target| target.recall));
            set(&self.recall_answers, &labels, live.map(|live| live.answers as u64));
        }
    }
}

/// Sets a gauge; removes its series without a value.
fn set<L, N>(family: &Family<L, Gauge<N, AtomicU64>>, labels: &L, value: Option<N>)
where
    L: Clone + Eq + Hash,
    AtomicU64: Atomic<N>,
{
    match value {
        Some(value) => _ = family.get_or_create(labels).set(value),
        None => _ = family.remove(labels),
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
