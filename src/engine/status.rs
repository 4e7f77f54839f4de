//! The state of the indexes of an engine. Data only.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::element::Dtype;
use crate::base::instant::Instant;
use crate::base::metric::Metric;
use crate::index::{AttributeSchema, GateReport, MemoryMode};
use crate::live::Digest;

/// Buckets of live recall: an answer counts in the smallest bucket that is at least its k.
pub const RECALL_K: [usize; 7] = [1, 10, 50, 100, 200, 500, 1_000];

/// Whether requests should be sent to an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It answers and accepts writes.
    Ready,
    /// It answers, but does not accept writes, for this reason.
    ReadOnly(String),
    /// It does not answer, or is still being warmed, for this reason.
    NotYet(String),
}

impl Readiness {
    /// Returns whether it answers as it will go on to.
    pub fn is_serving(&self) -> bool {
        !matches!(self, Self::NotYet(_))
    }
}

/// How far the checksums of what serves were compared in the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Bytes compared since the start.
    pub bytes: u64,
    /// When a generation was compared completely the last time.
    pub last_pass: Option<Timestamp>,
    /// Checksums that differed since the start.
    pub mismatches: u64,
}

/// The state of one served index.
#[derive(Clone, Debug)]
pub struct IndexStatus {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// The current generation.
    pub generation: u64,
    /// The manifest that made it current.
    pub manifest: u64,
    /// When that manifest was written.
    pub published_at: Timestamp,
    /// Generations on disk that could be activated, ascending.
    pub available_generations: Vec<u64>,
    /// Number of videos.
    pub vectors: u64,
    /// Components per embedding.
    pub dim: u32,
    /// Stored component type.
    pub dtype: Dtype,
    /// The metric of the scores.
    pub metric: Metric,
    /// `native` or `hnsw-rs`.
    pub builder: String,
    /// Edge slots per node in the upper layers.
    pub m: u32,
    /// Candidates kept while inserting.
    pub ef_construction: u32,
    /// The comparison of checksums in the background.
    pub scrub: ScrubStatus,
    /// Bytes of the generation file.
    pub bytes: u64,
    /// Wall-clock time of the build.
    pub build_time: Duration,
    /// The model that made the embeddings.
    pub embedding_model: Option<String>,
    /// The attribute columns.
    pub attributes: Vec<AttributeSchema>,
    /// Whether the ids of videos are text.
    pub has_text_ids: bool,
    /// The values that a target recall can have: each measured k with its best recall; empty if not calibrated.
    pub calibration: Vec<(usize, f64)>,
    /// The problem of the newest publication, if it was refused; or how the files in the folder differ from the opened
    /// ones.
    pub refused: Option<String>,
    /// Bytes of the copy in memory that is searched; 0 if the mapped file is searched.
    pub resident_bytes: u64,
    /// What the file consists of: name and bytes of the sections of each kind, the largest first.
    pub sections: Vec<(&'static str, u64)>,
    /// The memory that is searched now: the mapped file until a configured copy is complete.
    pub memory: MemoryMode,
    /// Whether it answers. It does not if its generation is damaged and no other is sound, or if another server writes.
    pub serving: bool,
    /// The writes since the generation was built.
    pub live: LiveStatus,
    /// The last report of the quality gate since the start.
    pub gate: Option<GateReport>,
    /// The recall of a sample of recent answers, by ascending k.
    pub recall: Vec<LiveRecall>,
}

/// The writes to an index, its delta and its rebuilds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveStatus {
    /// The sequence number of the last write; 0 if there was none.
    pub sequence: u64,
    /// The generation contains the writes up to this sequence number.
    pub generation_sequence: u64,
    /// Number of videos in the delta, which is searched next to the generation.
    pub delta_vectors: u64,
    /// Number of tombstones in the generation: deleted, replaced, taken down or expired videos.
    pub deleted: u64,
    /// Number of parked upserts, which wait for a generation that they fit: they have another embedding model, or
    /// attributes that this generation lacks.
    pub parked_entries: u64,
    /// Number of videos that are taken down.
    pub takedowns: u64,
    /// The size of the log file in bytes; 0 without a log.
    pub log_bytes: u64,
    /// When the oldest entry of the log was written; `None` without entries, or if an earlier release wrote it.
    pub log_oldest_entry: Option<Instant>,
    /// Number of entries of the log.
    pub log_entries: u64,
    /// The encoded bytes of these entries.
    pub log_entry_bytes: u64,
    /// Whether writes are accepted.
    pub writable: bool,
    /// Why not, if they are not.
    pub read_only_reason: Option<String>,
    /// The running rebuild, or the last one.
    pub rebuild: RebuildStatus,
    /// How what is received of the log stands, if other processes write to it, too.
    pub shared_log: Option<SharedLogStatus>,
}

/// How what is received of a log stands that other processes write to, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedLogStatus {
    /// Why nothing is received, if so.
    pub problem: Option<String>,
    /// The time since this process last knew what there is to receive.
    pub age: Duration,
    /// The hash of the last block of entries that was received as a whole.
    pub digest: Option<Digest>,
}

/// The state of a rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RebuildState {
    /// No rebuild has run since the start.
    #[default]
    Idle,
    /// A generation is being built.
    Running,
    /// The generation is built, and the quality gate compares it with the current one.
    Gating,
    /// The new generation answers.
    Done,
    /// No generation was built, or it does not answer.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RebuildState {
    /// Returns whether the rebuild is still running.
    pub fn is_underway(self) -> bool {
        matches!(self, RebuildState::Running | RebuildState::Gating)
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            RebuildState::Idle => "idle",
            RebuildState::Running => "running",
            RebuildState::Gating => "gating",
            RebuildState::Done => "done",
            RebuildState::Failed => "failed",
            RebuildState::Cancelled => "cancelled",
        }
    }
}

/// The progress of the running rebuild, or of the last one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RebuildStatus {
    /// Its state.
    pub state: RebuildState,
    /// The current phase; empty unless it is running.
    pub phase: String,
    /// The completed share of the phase, 0 to 1.
    pub progress: f64,
    /// Steps of the phase per second; a step is mostly one video.
    pub rows_per_second: f64,
    /// Number of upserts left out because they do not fit the generation.
    pub bad_records: u64,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// Why it failed.
    pub problem: Option<String>,
    /// The rebuilds that ended since the start.
    pub ended: EndedRebuilds,
}

/// How the rebuilds since the start ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedRebuilds {
    /// The new generation answers.
    pub done: u64,
    /// No generation was built, or it does not answer.
    pub failed: u64,
    /// They were cancelled.
    pub cancelled: u64,
}

/// The recall of recent answers in one bucket of k, compared with exact answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveRecall {
    /// The largest k of the bucket, one of [`RECALL_K`]; `None` for answers with a larger k than those.
    pub k: Option<usize>,
    /// The share of the exact candidates that the answers contained, 0 to 1.
    pub recall: f64,
    /// Number of answers compared.
    pub answers: usize,
    /// What these answers were to reach, if that is known of any.
    pub target: Option<LiveTarget>,
}

/// The recall that recent answers were to reach, and that they reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveTarget {
    /// The mean over the answers of the target recall of the request, or of the calibrated recall of its effort.
    pub target: f64,
    /// The share of the exact candidates that the same answers contained, 0 to 1.
    pub recall: f64,
    /// Number of these answers.
    pub answers: usize,
}
