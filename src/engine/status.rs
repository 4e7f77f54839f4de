//! The state of the indexes of an engine. Data only.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::element::Dtype;
use crate::base::metric::Metric;
use crate::index::{AttributeSchema, GateReport, MemoryMode};

/// The k that recall is told apart by: each counts under the least that is not below its own.
pub const RECALL_K: [usize; 7] = [1, 10, 50, 100, 200, 500, 1_000];

/// Whether an index should be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It answers and takes writes.
    Ready,
    /// It answers, and takes no writes, for this reason.
    ReadOnly(String),
    /// Not yet, or not any more, for this reason.
    NotYet(String),
}

/// The state of one served index.
#[derive(Clone, Debug)]
pub struct IndexStatus {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// The generation that answers.
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
    /// How embeddings are compared.
    pub metric: Metric,
    /// `native` or `hnsw-rs`.
    pub builder: String,
    /// Edge slots per node in the upper layers.
    pub m: u32,
    /// Candidates kept while inserting.
    pub ef_construction: u32,
    /// Bytes of the generation file.
    pub bytes: u64,
    /// Wall-clock time of the build.
    pub build_time: Duration,
    /// The model that made the embeddings.
    pub embedding_model: Option<String>,
    /// The attribute columns.
    pub attributes: Vec<AttributeSchema>,
    /// What target_recall can ask for: each k measured and the best recall; empty if not calibrated.
    pub calibration: Vec<(usize, f64)>,
    /// What was wrong with the newest publication, if it was refused.
    pub refused: Option<String>,
    /// Where it is searched now; mapped until a copy that was asked for is done.
    pub memory: MemoryMode,
    /// Whether it answers: not after its generation was found damaged, if no other is sound.
    pub serving: bool,
    /// What was written since the generation was built.
    pub live: LiveStatus,
    /// What the quality gate found last, since the start.
    pub gate: Option<GateReport>,
    /// The recall of answers of late, by ascending k.
    pub recall: Vec<LiveRecall>,
}

/// What was written to an index, and what comes of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveStatus {
    /// The last write; 0 if there was none.
    pub sequence: u64,
    /// Writes up to this one are in the generation.
    pub generation_sequence: u64,
    /// Videos that were written since and are searched beside the generation.
    pub delta_vectors: u64,
    /// Videos of the generation that are no candidates: deleted, replaced, taken down or expired.
    pub deleted: u64,
    /// Upserts that wait for a generation that they fit: of another embedding model, or with attributes that it lacks.
    pub parked_entries: u64,
    /// Videos that are taken down.
    pub takedowns: u64,
    /// Whether writes are taken.
    pub writable: bool,
    /// Why not, if they are not.
    pub read_only_reason: Option<String>,
    /// The rebuild that runs, or the last one.
    pub rebuild: RebuildStatus,
}

/// What became of a rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RebuildState {
    /// There was none since the start.
    #[default]
    Idle,
    /// A generation is being built.
    Running,
    /// It is built, and its answers are compared with those of the current one.
    Gating,
    /// It answers.
    Done,
    /// There is none, or it does not answer.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RebuildState {
    /// Whether there is more to come.
    pub fn is_underway(self) -> bool {
        matches!(self, RebuildState::Running | RebuildState::Gating)
    }
}

/// How far a rebuild is: the one that runs, or the last one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RebuildStatus {
    /// What became of it.
    pub state: RebuildState,
    /// What it is at; empty unless it runs.
    pub phase: String,
    /// The share of the phase that is done, 0 to 1.
    pub progress: f64,
    /// Steps of the phase per second: mostly videos.
    pub rows_per_second: f64,
    /// Writes that cannot be in the generation: upserts that do not fit it.
    pub bad_records: u64,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// Why it failed.
    pub problem: Option<String>,
}

/// The recall of answers that were compared with the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveRecall {
    /// The largest k of them; `None` for any above 1,000.
    pub k: Option<usize>,
    /// The share of the true candidates that they had.
    pub recall: f64,
    /// How many there were, of late.
    pub answers: usize,
}
