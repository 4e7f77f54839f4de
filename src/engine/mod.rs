//! The engine: named indexes, each an atomically swapped snapshot, and the questions they answer.
//!
//! What flows in: requests in domain words. What flows out: candidates. The engine knows nothing of
//! gRPC and nothing of the bytes on disk.
//!
//! | file | duty |
//! |---|---|
//! | `query/`     | one request against one snapshot |
//! | `write/`     | the log of an index, and the delta that searches see |
//! | `publish/`   | which generation answers: checks, quality gate, swap, removal |
//! | `rebuild/`   | the next generation, built while the current one answers |
//! | `options.rs` | how an engine is set up |
//! | `status.rs`  | the state of its indexes |
//! | `error.rs`   | why a request has no answer |

mod error;
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
use crate::search::Searcher;
use publish::served::ServedIndex;

pub use crate::search::{Loss, Plan, Shortfall};
pub use error::EngineError;
pub use options::{EngineOptions, GateOptions, Limits, RebuildOptions, SampleOptions};
pub use publish::refresh::Refresh;
pub(crate) use query::context::RequestContext;
pub use query::request::{
    Budget, Candidate, Completeness, Effort, Explanation, Interest, Query, Removal, ReturnAttributes, Rule,
    SearchRequest, SearchResponse, SearchStats, Seed,
};
pub(crate) use query::snapshot::Snapshot;
pub use status::{IndexStatus, LiveRecall, LiveStatus, RECALL_K, Readiness, RebuildState, RebuildStatus};
pub use write::catalog::{Lookup, StoredVideo, WriteMode, Written};

/// Every index of one server, and the threads that search them.
#[derive(Debug)]
pub struct Engine {
    indexes: BTreeMap<String, Arc<ServedIndex>>,
    limits: Limits,
    searcher: Searcher,
    pool: rayon::ThreadPool,
    /// How often recall was measured.
    measured: AtomicUsize,
}

impl Engine {
    /// Opens the newest generation of every index whose structure is sound, and starts the compute pool. No
    /// checksums are compared yet: the first [`Engine::refresh`] does that.
    ///
    /// # Errors
    /// If a folder has no usable generation, a name is there twice, or threads cannot be started.
    pub fn open(options: EngineOptions) -> Result<Self, EngineError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|thread| format!("search-{thread}"))
            .build()
            .map_err(EngineError::Threads)?;
        let beside = rayon::ThreadPoolBuilder::new()
            .num_threads(options.rebuild.threads())
            .thread_name(|thread| format!("beside-{thread}"))
            .start_handler(|_| rebuild::rebuilds::step_back())
            .build()
            .map_err(EngineError::Threads)?;
        let beside = Arc::new(beside);
        let mut indexes = BTreeMap::new();
        for (name, dir) in &options.indexes {
            let served = ServedIndex::open(name.clone(), dir.clone(), &options, &beside)?;
            if indexes.insert(name.clone(), Arc::new(served)).is_some() {
                return Err(EngineError::invalid("index", format!("the name {name:?} is there twice")));
            }
        }
        for (field, files) in [
            ("rebuild.training_queries", &options.rebuild.training_queries),
            ("gate.query_files", &options.gate.query_files),
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

    /// The names of the indexes, in order.
    pub fn index_names(&self) -> Vec<String> {
        self.indexes.keys().cloned().collect()
    }

    /// The index that a request means: by name, or the only one where the name is empty.
    ///
    /// # Errors
    /// If there is no index of that name, or the name is empty and there are several.
    pub fn resolve(&self, name: &str) -> Result<&str, EngineError> {
        self.served(name).map(|served| served.name())
    }

    /// What a request may ask for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Answers one request from one generation. Computes on the calling thread: call it on [`Engine::spawn`]'s.
    ///
    /// # Errors
    /// [`EngineError`] naming the field that cannot be used, or that the budget ran out.
    pub fn search(&self, request: &SearchRequest, budget: &Budget) -> Result<SearchResponse, EngineError> {
        let served = self.served(&request.index)?;
        let snapshot = served.snapshot()?;
        let (response, _) = snapshot.search(&self.context(served.name(), budget), request, None)?;
        if served.asked().takes() {
            served.asked().take(&snapshot, request, &response);
        }
        Ok(response)
    }

    /// Compares one answer of the sample with the exact one, on the calling thread; false if none waits.
    pub fn measure_recall(&self) -> bool {
        // Each index in turn.
        let first = self.measured.fetch_add(1, Ordering::Relaxed) % self.indexes.len().max(1);
        for served in self.indexes.values().skip(first).chain(self.indexes.values().take(first)) {
            let Some(sample) = served.asked().next() else { continue };
            let exact = SearchRequest { effort: Effort::Exact, plan: None, ..sample.request.clone() };
            let budget = Budget::default();
            let answer = sample.snapshot.search(&self.context(served.name(), &budget), &exact, None);
            // It was answered before, so that only a shutdown of the index can be in the way.
            if let Ok((answer, _)) = answer {
                let exact: Vec<_> = answer.candidates.iter().map(|candidate| candidate.video_id).collect();
                served.asked().compare(&sample, &exact);
            }
            return true;
        }
        false
    }

    /// Why a video is, or is not, in the answer to a request. Scores every video.
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

    /// Runs `work` on the compute pool, after what is queued there already.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.pool.spawn(work);
    }

    /// Whether the index of this name should be asked. It answers while it is being warmed, only slower.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn readiness(&self, name: &str) -> Result<Readiness, EngineError> {
        Ok(self.served(name)?.readiness())
    }

    /// The state of one index. Lists its folder.
    ///
    /// # Errors
    /// If there is no such index or its folder cannot be read.
    pub fn status(&self, name: &str) -> Result<IndexStatus, EngineError> {
        self.served(name)?.status()
    }

    /// Publishes that `generation` is current from now on, and swaps it in.
    ///
    /// # Errors
    /// If there is no such index or generation, or the generation is damaged, was refused, or lacks writes that the
    /// log has no more; then nothing changes.
    pub fn activate(&self, name: &str, generation: u64) -> Result<IndexStatus, EngineError> {
        let served = self.served(name)?;
        served.activate(generation, false)?;
        served.status()
    }

    /// [`Engine::activate`], whatever the quality gate says of the generation, and whatever writes it lacks.
    ///
    /// # Errors
    /// If there is no such index or generation, the generation is damaged, or knows of writes that the log never had.
    pub fn activate_forced(&self, name: &str, generation: u64) -> Result<IndexStatus, EngineError> {
        let served = self.served(name)?;
        served.activate(generation, true)?;
        served.status()
    }

    /// Begins to build the next generation of an index, unless that is being done already. Does not wait for it.
    ///
    /// # Errors
    /// If there is no such index, or [`EngineError::ReadOnly`].
    pub fn start_rebuild(&self, name: &str) -> Result<RebuildStatus, EngineError> {
        let served = self.served(name)?;
        served.check_rebuildable()?;
        served.rebuilds().start(served, "asked for")?;
        Ok(served.rebuilds().status())
    }

    /// Asks a rebuild that runs to end. Does not wait for it.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn cancel_rebuild(&self, name: &str) -> Result<RebuildStatus, EngineError> {
        let served = self.served(name)?;
        served.rebuilds().cancel();
        Ok(served.rebuilds().status())
    }

    /// Makes up for what a start leaves out, and looks once for what was published since.
    ///
    /// What a start opened is warmed and its checksums are compared, once. Where one differs, the newest
    /// sound generation takes over; if there is none, the index is out of service until one is published
    /// or activated. A new publication is checked and warmed before it is swapped in; each one that cannot
    /// be served is reported once, and the old generation goes on serving. A new calibration of the
    /// generation that answers is taken. Last, what is served is made resident if that was asked for.
    /// Searches go on all the while.
    pub fn refresh(&self) -> Vec<Refresh> {
        self.indexes.values().flat_map(|served| served.refresh()).collect()
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
            _ => Err(EngineError::invalid("index", format!("expected one of {:?}, found none", available()))),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.indexes.values().for_each(|served| served.rebuilds().cancel());
        self.indexes.values().for_each(|served| served.rebuilds().stop());
    }
}
