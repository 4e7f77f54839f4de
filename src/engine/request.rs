//! What is asked of the engine and what it answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::attributes::Value;
use crate::element::Dtype;
use crate::id::VideoId;
use crate::index::{AttributeSchema, MemoryMode};
use crate::metric::Metric;
use crate::rules::Rules;
use crate::search::Plan;

/// One search.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// The index by name; empty for the only one.
    pub index: String,
    /// What to search for.
    pub query: Query,
    /// How many candidates are wanted.
    pub k: usize,
    /// How hard to search.
    pub effort: Effort,
    /// How to search, for measurement; what seems fastest unless told.
    pub plan: Option<Plan>,
    /// What is asked of the candidates besides the best scores.
    pub rules: Rules,
    /// How many candidates to pass over: those of the pages before.
    pub offset: usize,
    /// Which attributes come with the candidates.
    pub return_attributes: ReturnAttributes,
    /// Whether the embeddings come with the candidates.
    pub return_vectors: bool,
    /// The model that made the query; must match the index's when given.
    pub embedding_model: Option<String>,
}

/// What to search for.
#[derive(Clone, Debug)]
pub enum Query {
    /// A user embedding, `[dim]`.
    Vector(Vec<f32>),
    /// What a user is interested in. A video scores what it scores for the one it fits best.
    Interests(Vec<Interest>),
    /// Videos like these: the weighted sum of their embeddings. The seeds themselves are not returned.
    Seeds(Vec<Seed>),
}

/// One interest of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Interest {
    /// `[dim]`.
    pub vector: Vec<f32>,
    /// What its scores are multiplied with.
    pub weight: f32,
    /// The share of k, rounded down, that at least is attributed to it, where there are so many.
    pub min_share: f32,
}

/// One video of a query by example.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// The video.
    pub video_id: VideoId,
    /// Its share; negative to move away from it.
    pub weight: f32,
}

/// How hard to search.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Effort {
    /// What the server thinks sensible for k.
    #[default]
    Default,
    /// How many candidates, the best, are expanded on layer 0.
    EfSearch(usize),
    /// The least effort that is known to find this share of the true top k, above 0 and at most 1.
    TargetRecall(f32),
    /// Every video is scored: the ground truth.
    Exact,
}

/// Which attributes come with the candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReturnAttributes {
    /// None.
    #[default]
    None,
    /// All of them.
    All,
    /// These, by name.
    Named(Vec<String>),
}

/// The answer to one search, from one generation.
#[derive(Clone, Debug)]
pub struct SearchResponse {
    /// Best first; equal scores by video id.
    pub candidates: Vec<Candidate>,
    /// How many were asked for.
    pub requested: usize,
    /// Seeds that are not in the index.
    pub unknown_seeds: Vec<VideoId>,
    /// The generation that answered.
    pub generation: u64,
    /// What the search cost.
    pub stats: SearchStats,
}

/// One retrieved video.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The video.
    pub video_id: VideoId,
    /// Larger is better, for every metric.
    pub score: f32,
    /// The position of the interest that it is attributed to; `None` where the query has none.
    pub interest: Option<usize>,
    /// The attributes asked for that have a value, by name.
    pub attributes: Vec<(String, Value)>,
    /// The embedding, `[dim]`, of norm 1 under cosine; only if it was asked for.
    pub vector: Option<Vec<f32>>,
}

/// What a search cost.
#[derive(Clone, Copy, Debug)]
pub struct SearchStats {
    /// How it was done.
    pub plan: Plan,
    /// Candidate list size used; 0 for an exact scan.
    pub ef_search: usize,
    /// Share of the true top k that this effort found of users when the generation was calibrated; `None`
    /// for an exact scan, and where that was not measured.
    pub measured_recall: Option<f64>,
    /// Nodes whose neighbours were looked at.
    pub visited: u64,
    /// Embeddings scored.
    pub distances: u64,
    /// Time in the searcher.
    pub elapsed: Duration,
}

/// When to stop although the search is not done: the deadline passed or the caller is gone.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// When the answer is no longer wanted.
    pub deadline: Option<Instant>,
    cancelled: Arc<AtomicBool>,
}

impl Budget {
    /// A budget that ends at `deadline`, if there is one.
    pub fn until(deadline: Option<Instant>) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// Ends the budget now; every clone of it sees that.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Budget::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Whether the deadline passed.
    pub fn is_expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// What a request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest k.
    pub max_k: usize,
    /// Largest ef_search.
    pub max_ef_search: usize,
    /// Most seeds in one query.
    pub max_seeds: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_k: 10_000, max_ef_search: 20_000, max_seeds: 100 }
    }
}

/// How an engine is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Name and folder of each index; names are unique.
    pub indexes: Vec<(String, PathBuf)>,
    /// Threads of the compute pool; 0 for one per core.
    pub threads: usize,
    /// What a request may ask for.
    pub limits: Limits,
    /// Where generations are to be searched.
    pub memory: MemoryMode,
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
}
