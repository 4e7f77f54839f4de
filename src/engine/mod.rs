//! The engine: named indexes, each with an atomically swapped snapshot that answers requests.
//!
//! What flows in: requests and mutations in domain terms. What flows out: candidates. The engine does not know gRPC, the
//! command line or the bytes on disk.
//!
//! | file | duty |
//! |---|---|
//! | `query/`     | one request against one snapshot |
//! | `write/`     | the log of an index, and the delta that searches see |
//! | `publish/`   | which generation answers: checks, quality gate, swap, removal |
//! | `rebuild/`   | the next generation, built while the current one answers |
//! | `options.rs` | how an engine is set up |
//! | `status.rs`  | the state of the indexes |
//! | `error.rs`   | why a request has no answer |
//! | `field.rs`   | the fields that errors name |

mod error;
mod field;
mod options;
mod publish;
mod query;
mod rebuild;
mod status;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::id::VideoId;
use crate::live::Mutation;
use crate::search::Searcher;
use publish::next_generation;
use publish::served::ServedIndex;
use write::catalog::{Target, look_up, read_only};

pub use crate::search::{Loss, Plan, Shortfall};
pub use error::EngineError;
pub use field::Field;
pub use options::{EngineOptions, GateOptions, Limits, RebuildOptions, SampleOptions};
pub use publish::continuity::Predecessor;
pub use publish::refresh::Refresh;
pub(crate) use query::context::RequestContext;
pub use query::request::{
    Budget, Candidate, Completeness, Effort, Explanation, Interest, Query, Removal, ReturnAttributes, Rule,
    SearchRequest, SearchResponse, SearchStats, Seed,
};
pub(crate) use query::snapshot::Snapshot;
pub use status::{IndexStatus, LiveRecall, LiveStatus, RECALL_K, Readiness, RebuildState, RebuildStatus};
pub use write::catalog::{Lookup, StoredVideo, WriteMode, Written};

/// All indexes of one server, and the threads that search them.
#[derive(Debug)]
pub struct Engine {
    indexes: BTreeMap<String, Arc<ServedIndex>>,
    limits: Limits,
    searcher: Searcher,
    pool: rayon::ThreadPool,
    /// Number of calls to [`Engine::measure_recall`].
    measured: AtomicUsize,
}

impl Engine {
    /// Opens the newest structurally sound generation of every index, and starts the compute pool. Does not compare
    /// checksums: the first [`Engine::refresh`] does.
    ///
    /// # Errors
    /// If a folder has no usable generation, a name is used twice, or threads cannot be started.
    pub fn open(options: EngineOptions) -> Result<Self, EngineError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|thread| format!("search-{thread}"))
            .build()
            .map_err(EngineError::Threads)?;
        let background = rayon::ThreadPoolBuilder::new()
            .num_threads(options.rebuild.threads())
            .thread_name(|thread| format!("background-{thread}"))
            .start_handler(|_| rebuild::rebuilder::lower_priority())
            .build()
            .map_err(EngineError::Threads)?;
        let background = Arc::new(background);
        let mut indexes = BTreeMap::new();
        for (name, dir) in &options.indexes {
            let served = ServedIndex::open(name.clone(), dir.clone(), &options, &background)?;
            if indexes.insert(name.clone(), Arc::new(served)).is_some() {
                return Err(EngineError::invalid(Field::Index, format!("the name {name:?} is there twice")));
            }
        }
        for (field, files) in [
            (Field::TrainingQueries, &options.rebuild.training_queries),
            (Field::GateQueryFiles, &options.gate.query_files),
        ] {
            if let Some(name) = files.keys().find(|name| !indexes.contains_key(*name)) {
                let available: Vec<&String> = indexes.keys().collect();
                let problem = format!("expected names of {available:?}, found {name:?}");
                return Err(EngineError::invalid(field, problem));
            }
        }
        Ok(Self {
            indexes,
            limits: options.limits,
            searcher: Searcher::default(),
            pool,
            measured: AtomicUsize::new(0),
        })
    }

    /// Returns the names of the indexes, sorted.
    pub fn index_names(&self) -> Vec<String> {
        self.indexes.keys().cloned().collect()
    }

    /// Returns the name of the index that a request means; an empty name means the only index.
    ///
    /// # Errors
    /// If there is no index of that name, or the name is empty and there are several.
    pub fn resolve(&self, name: &str) -> Result<&str, EngineError> {
        self.served(name).map(|served| served.name())
    }

    /// Returns the limits of requests.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Answers one request from one snapshot. Computes on the calling thread: call it from [`Engine::spawn`].
    ///
    /// # Errors
    /// [`EngineError`]: the field that is invalid, or that the budget ended.
    pub fn search(&self, request: &SearchRequest, budget: &Budget) -> Result<SearchResponse, EngineError> {
        let served = self.served(&request.index)?;
        let snapshot = served.snapshot()?;
        let (response, _) = snapshot.search(&self.context(served.name(), budget), request, None)?;
        if served.sample().takes() {
            served.sample().take(&snapshot, request, &response);
        }
        Ok(response)
    }

    /// Compares one sampled answer with the exact one, on the calling thread. Returns false if none waits.
    pub fn measure_recall(&self) -> bool {
        // Round robin over the indexes.
        let first = self.measured.fetch_add(1, Ordering::Relaxed) % self.indexes.len().max(1);
        for served in self.indexes.values().skip(first).chain(self.indexes.values().take(first)) {
            let Some(sample) = served.sample().next() else { continue };
            let exact = SearchRequest { effort: Effort::Exact, plan: None, ..sample.request.clone() };
            let budget = Budget::default();
            let answer = sample.snapshot.search(&self.context(served.name(), &budget), &exact, None);
            // The request was answered before, so only a shutdown of the index can make it fail.
            if let Ok((answer, _)) = answer {
                served.sample().compare(&sample, &answer.candidates);
            }
            return true;
        }
        false
    }

    /// Writes `mutations` in their order. Returns once they are on disk and visible to every later search, so it blocks
    /// on the disk: do not call it on a thread that others wait for.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`] if nothing can be written; then nothing is acknowledged.
    pub fn write(
        &self,
        index: &str,
        mutations: Vec<Mutation>,
        mode: WriteMode,
    ) -> Result<Written, EngineError> {
        let served = self.served(index)?;
        if let Some(problem) = served.log().read_only() {
            return Err(read_only(served.name(), problem));
        }
        let snapshot = served.snapshot()?;
        Target { name: served.name(), log: served.log(), snapshot: &snapshot }.write(mutations, mode)
    }

    /// Looks up videos, in their order.
    ///
    /// # Errors
    /// If an attribute to return is unknown.
    pub fn get(
        &self,
        index: &str,
        videos: &[VideoId],
        attributes: &ReturnAttributes,
        with_vectors: bool,
    ) -> Result<Vec<Lookup>, EngineError> {
        let served = self.served(index)?;
        look_up(&*served.snapshot()?, served.shared(), videos, attributes, with_vectors)
    }

    /// Explains why a video is or is not in the answer to a request. Scores every video.
    ///
    /// # Errors
    /// As [`Engine::search`], or if the index does not have the video.
    pub fn explain(
        &self,
        request: &SearchRequest,
        video: VideoId,
        budget: &Budget,
    ) -> Result<Explanation, EngineError> {
        let served = self.served(&request.index)?;
        served.snapshot()?.explain(&self.context(served.name(), budget), request, video)
    }

    /// Queues `work` on the compute pool.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.pool.spawn(work);
    }

    /// Returns whether requests should be sent to an index. It answers while it is being warmed, but slower.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn readiness(&self, name: &str) -> Result<Readiness, EngineError> {
        Ok(self.served(name)?.readiness())
    }

    /// Returns the state of one index. Lists its folder.
    ///
    /// # Errors
    /// If there is no such index or its folder cannot be read.
    pub fn status(&self, name: &str) -> Result<IndexStatus, EngineError> {
        self.served(name)?.status()
    }

    /// Publishes that `generation` is current, and swaps it in.
    ///
    /// # Errors
    /// If there is no such index or generation, or the generation is damaged, was refused by the gate, or lacks writes
    /// that were trimmed from the log; then nothing changes.
    pub fn activate(&self, name: &str, generation: u64) -> Result<IndexStatus, EngineError> {
        let served = self.served(name)?;
        served.activate(generation, false)?;
        served.status()
    }

    /// Like [`Engine::activate`], but accepts a generation that the quality gate refused or that lacks writes.
    ///
    /// # Errors
    /// If there is no such index or generation, or the generation is damaged or contains writes that the log never had.
    pub fn activate_forced(&self, name: &str, generation: u64) -> Result<IndexStatus, EngineError> {
        let served = self.served(name)?;
        served.activate(generation, true)?;
        served.status()
    }

    /// Starts to build the next generation of an index unless a rebuild is running. Does not wait for it.
    ///
    /// # Errors
    /// If there is no such index, or [`EngineError::ReadOnly`].
    pub fn start_rebuild(&self, name: &str) -> Result<RebuildStatus, EngineError> {
        let served = self.served(name)?;
        next_generation::start(served, "requested")?;
        Ok(served.rebuilder().status())
    }

    /// Asks the running rebuild to end. Does not wait for it.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn cancel_rebuild(&self, name: &str) -> Result<RebuildStatus, EngineError> {
        let served = self.served(name)?;
        served.rebuilder().cancel();
        Ok(served.rebuilder().status())
    }

    /// Completes the start, and serves what was published since the last call. Searches continue meanwhile.
    ///
    /// Once per start, the opened generation is warmed and its checksums are compared. If one differs, the newest sound
    /// generation takes over; without one, the index is out of service until one is published or activated. A new
    /// publication is checked, warmed and measured before it is swapped in; each one that cannot be served is reported
    /// once, and the current generation goes on serving. A new calibration of the current generation is loaded. Then
    /// the generation is copied into memory if configured, large delta segments are compacted, and a rebuild starts if
    /// one is due.
    pub fn refresh(&self) -> Vec<Refresh> {
        let mut events = Vec::new();
        for served in self.indexes.values() {
            if served.refresh(&mut events) {
                next_generation::start_if_due(served);
            }
        }
        events
    }

    fn context<'a>(&'a self, name: &'a str, budget: &'a Budget) -> RequestContext<'a> {
        RequestContext { name, searcher: &self.searcher, limits: &self.limits, budget }
    }

    fn served(&self, name: &str) -> Result<&Arc<ServedIndex>, EngineError> {
        let available = || self.index_names();
        if !name.is_empty() {
            return self
                .indexes
                .get(name)
                .ok_or_else(|| EngineError::UnknownIndex { name: name.to_owned(), available: available() });
        }
        match self.indexes.values().next() {
            Some(only) if self.indexes.len() == 1 => Ok(only),
            _ => Err(EngineError::invalid(
                Field::Index,
                format!("expected one of {:?}, found none", available()),
            )),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.indexes.values().for_each(|served| served.rebuilder().cancel());
        self.indexes.values().for_each(|served| served.rebuilder().stop());
    }
}
