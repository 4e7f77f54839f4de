//! How an engine and its indexes are set up. Data only.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Deserialize;

use crate::index::MemoryMode;

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
    /// Whether writes are taken, and those of before are known: then nobody else can have the log open.
    pub is_writable: bool,
    /// When and how the next generation of an index that takes writes is built.
    pub rebuild: RebuildOptions,
    /// What a generation must be like to answer.
    pub gate: GateOptions,
    /// What share of searches recall is measured with.
    pub sample: SampleOptions,
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

impl Limits {
    /// Most interests in one query.
    pub const MAX_INTERESTS: usize = 16;
    /// What the weight of an interest may be: with these no score runs over, nor is any lost.
    pub const INTEREST_WEIGHTS: RangeInclusive<f32> = 1e-6..=1e6;
    /// Most caps in one request.
    pub const MAX_CAPS: usize = 16;
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_k: 10_000, max_ef_search: 20_000, max_seeds: 100 }
    }
}

/// What a generation must be like to answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateOptions {
    /// Users that are asked for, at most; 0 to let every sound generation answer.
    pub queries: usize,
    /// Hits per query.
    pub k: usize,
    /// The least share of the true neighbors, 0 to 1.
    pub min_recall: f64,
    /// How much less that may be than of the generation before, 0 to 1.
    pub max_recall_loss: f64,
    /// The least share of the answers of the generation before, 0 to 1; 0 for none. Not asked of a generation of
    /// another embedding model.
    pub min_overlap: f64,
    /// How many times slower the slowest in a hundred queries may be; 0 for any.
    pub max_p99_ratio: f64,
    /// A file of user embeddings to ask each index for, by its name; users that asked before where there is none, or
    /// that the build held out.
    pub query_files: BTreeMap<String, PathBuf>,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            queries: 500,
            k: 100,
            min_recall: 0.8,
            max_recall_loss: 0.05,
            min_overlap: 0.0,
            max_p99_ratio: 3.0,
            query_files: BTreeMap::new(),
        }
    }
}

/// When and how generations are built.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RebuildOptions {
    /// Threads that build; 0 for half of the cores.
    pub threads: usize,
    /// Rebuild once the videos written since are this share of the generation; 0 for never.
    pub delta_share: f64,
    /// Rebuild once this share of the generation is deleted, replaced or expired; 0 for never.
    pub deleted_share: f64,
    /// But not before so many videos are.
    pub min_changes: usize,
    /// Generations that are kept, the current one with them; at least 1.
    pub keep_generations: usize,
    /// Writes that are kept although every generation knows of them, the last: a batch build may know of as many fewer.
    /// At most a quarter as many as there are videos, so that the log stays small beside the generations.
    pub keep_writes: u64,
    /// A file of user embeddings that teaches each index, by its name; the users that taught the generation before,
    /// and those that asked since, where there is none.
    pub training_queries: BTreeMap<String, PathBuf>,
}

impl Default for RebuildOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            delta_share: 0.1,
            deleted_share: 0.1,
            min_changes: 10_000,
            keep_generations: 2,
            keep_writes: 100_000,
            training_queries: BTreeMap::new(),
        }
    }
}

impl RebuildOptions {
    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1),
            threads => threads,
        }
    }
}

/// What share of searches is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleOptions {
    /// 0 to 1.
    pub share: f64,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self { share: 0.01 }
    }
}
