//! The options of an engine and its indexes. Data only.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::engine::memory::{MemoryGauge, MemoryPolicy};
use crate::engine::write::found_log::LogOpening;
use crate::live::OpenSharedLog;

/// The options of an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Name and folder of each index; names are unique.
    pub indexes: Vec<(String, PathBuf)>,
    /// Threads of the compute pool; 0 for one per core.
    pub threads: usize,
    /// Limits of requests.
    pub limits: Limits,
    /// The memory that generations are searched in.
    pub memory: MemoryPolicy,
    /// Where to read how much memory there is.
    pub memory_gauge: MemoryGauge,
    /// Where the generations of an index are built, by its name, if not here: it is not rebuilt by this engine.
    pub built_at: BTreeMap<String, String>,
    /// Whether to open the logs: accept writes and return earlier ones. No other process can open the same logs.
    pub is_writable: bool,
    /// Whether another process writes the logs: its writes are returned once they are durable, and none is accepted here.
    pub follows: bool,
    /// The logs that other processes write to, too, by the name of the index.
    pub shared_logs: BTreeMap<String, Arc<dyn OpenSharedLog>>,
    /// When and how the next generation of an index is built from its writes.
    pub rebuild: RebuildOptions,
    /// The requirements for a generation to answer.
    pub gate: GateOptions,
    /// The share of searches that is sampled to measure recall.
    pub sample: SampleOptions,
    /// Bytes per second of what serves whose checksums are compared in the background; 0 for none.
    pub scrub_bytes_per_second: u64,
}

impl EngineOptions {
    /// How the log of an index is opened.
    pub(crate) fn log_opening(&self, index: &str) -> LogOpening<'_> {
        match self.shared_logs.get(index) {
            _ if !self.is_writable => LogOpening::None,
            Some(opener) => LogOpening::Shared(&**opener),
            None if self.follows => LogOpening::Followed,
            None => LogOpening::Own,
        }
    }
}

/// Limits of requests.
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
    /// Valid weights of an interest: no score overflows or underflows.
    pub const INTEREST_WEIGHTS: RangeInclusive<f32> = 1e-6..=1e6;
    /// Most caps in one request.
    pub const MAX_CAPS: usize = 16;
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_k: 10_000, max_ef_search: 20_000, max_seeds: 100 }
    }
}

/// The requirements for a generation to answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateOptions {
    /// Most query vectors to measure with; 0 measures nothing. What a generation must have in common with the current
    /// one is compared in any case.
    pub queries: usize,
    /// Hits per query.
    pub k: usize,
    /// The least recall, 0 to 1.
    pub min_recall: f64,
    /// How much lower recall may be than that of the current generation, 0 to 1.
    pub max_recall_loss: f64,
    /// The least share of the current generation's results that must be found again, 0 to 1; 0 for none. Ignored for a
    /// generation of another embedding model.
    pub min_overlap: f64,
    /// How many times the p99 latency of the current generation is allowed; 0 for any.
    pub max_p99_ratio: f64,
    /// The least share of the current generation's videos that a generation must have, 0 to 1; 0 for any number.
    pub min_videos_share: f64,
    /// Whether to check the contents of every section of a generation, as `shortlist verify` does, before it answers. A
    /// build of this server passes; a file of another origin may be made to mislead.
    pub verify: bool,
    /// A file of query vectors for each index, by its name. Without one, sampled users judge, or those that the builds of
    /// both generations held out.
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
            min_videos_share: 0.5,
            verify: false,
            query_files: BTreeMap::new(),
        }
    }
}

/// When and how generations are built.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RebuildOptions {
    /// Number of build threads; 0 for half of the cores.
    pub threads: usize,
    /// Rebuild once the delta has this share of the videos of the generation, or the log has as many bytes as the
    /// generation; 0 for neither.
    pub delta_share: f64,
    /// Rebuild once this share of the generation is deleted, replaced or expired; 0 for never.
    pub deleted_share: f64,
    /// Do not rebuild before this many videos have changed.
    pub min_changes: usize,
    /// Number of generations to keep, including the current one; at least 1.
    pub keep_generations: usize,
    /// Number of recent log entries to keep although every generation contains them, so that a batch build may start
    /// from an older log position. Limited to a quarter of the number of videos, so that the log stays small
    /// compared with the generations.
    pub keep_writes: u64,
    /// A file of training queries for each index, by its name. Without one, the training queries of the current
    /// generation and the sampled users teach the next one.
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

/// The share of searches that is sampled.
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
