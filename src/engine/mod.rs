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
//! | `operations.rs` | what operators ask of an index: its state, another generation, a rebuild |
//! | `inspect/`   | what people look at: generations, users, values, a picture of the catalog |
//! | `candidate.rs` | generations that are compared with the one that answers |
//! | `options.rs` | how an engine is set up |
//! | `memory.rs`  | when generations are copied into memory, and when the copies are given back |
//! | `status.rs`  | the state of the indexes |
//! | `supervise.rs` | panics of background work |
//! | `error.rs`   | why a request has no answer |
//! | `field.rs`   | the fields that errors name |

mod candidate;
mod error;
mod field;
pub mod inspect;
mod memory;
mod operations;
mod options;
mod publish;
mod query;
mod rebuild;
mod status;
mod supervise;
mod write;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::id::VideoId;
use crate::live::Mutation;
use crate::search::Searcher;
use publish::hosted::HostedIndex;
use publish::served::ServedIndex;
use supervise::Background;
use write::catalog::{Target, look_up, read_only};

pub use crate::live::Append;
pub use crate::search::{Loss, Plan, Shortfall, Stage};
pub use candidate::CandidateGeneration;
pub use error::EngineError;
pub use field::Field;
pub use memory::{MemoryGauge, MemoryPolicy, Shortage, Size};
pub use options::{EngineOptions, GateOptions, Limits, RebuildOptions, SampleOptions};
pub use publish::continuity::Predecessor;
pub use publish::refresh::Refresh;
pub use query::budget::{AnswerRoom, Budget, Pause};
pub(crate) use query::context::RequestContext;
pub use query::request::{
    Candidate, Completeness, Effort, Explanation, Interest, Query, Removal, ReturnAttributes, Rule,
    SearchRequest, SearchResponse, SearchStages, SearchStats, Seed,
};
#[cfg(feature = "cluster")]
pub(crate) use query::resolved_query::sum_of_seeds;
pub(crate) use query::snapshot::{Snapshot, unexpired};
#[cfg(feature = "cluster")]
pub(crate) use rebuild::reshard::reshard;
pub use status::{
    EndedRebuilds, IndexStatus, LiveRecall, LiveStatus, LiveTarget, RECALL_K, Readiness, RebuildState,
    RebuildStatus, ScrubStatus, SharedLogStatus,
};
pub use supervise::{Supervisor, Task};
pub use write::catalog::{Lookup, StoredVideo, WriteMode, Written};

/// All indexes of one server, and the threads that search them.
#[derive(Debug)]
pub struct Engine {
    indexes: BTreeMap<String, HostedIndex>,
    supervisor: Arc<Supervisor>,
    limits: Limits,
    searcher: Searcher,
    /// Of searches that count in no sample: their thread must not keep others from a workspace.
    uncounted_searcher: Searcher,
    /// The axes of the pictures of the indexes.
    maps: inspect::MapCache,
    pool: rayon::ThreadPool,
    /// Number of calls to [`Engine::measure_recall`].
    measured: AtomicUsize,
}

impl Engine {
    /// Opens the newest structurally sound generation of every index, and starts the compute pool. A generation that nobody
    /// judged must have in common with the one before it what requests rely on, or else the older one is opened. Does not
    /// compare checksums: the first [`Engine::refresh`] does. An index that does not open is out of service until a refresh
    /// can open it; the others are served.
    ///
    /// # Errors
    /// If no index opens, with the error of the first; if a name is used twice, or threads cannot be started.
    pub fn open(options: EngineOptions) -> Result<Self, EngineError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|thread| format!("search-{thread}"))
            .build()
            .map_err(EngineError::Threads)?;
        let background = rayon::ThreadPoolBuilder::new()
            .num_threads(options.rebuild.threads())
            .thread_name(|thread| format!("background-{thread}"))
            .start_handler(|_| crate::base::priority::lower_priority())
            .build()
            .map_err(EngineError::Threads)?;
        let supervisor = Arc::<Supervisor>::default();
        let background = Background {
            pool: Arc::new(background),
            supervisor: Arc::clone(&supervisor),
            copying: Arc::default(),
        };
        let options = Arc::new(options);
        let (mut indexes, mut refused) = (BTreeMap::new(), Vec::new());
        for (name, dir) in &options.indexes {
            let (hosted, error) = HostedIndex::open(name.clone(), dir.clone(), &options, &background);
            refused.extend(error);
            if indexes.insert(name.clone(), hosted).is_some() {
                return Err(EngineError::invalid(Field::Index, format!("the name {name:?} is there twice")));
            }
        }
        if refused.len() == indexes.len()
            && let Some(error) = refused.into_iter().next()
        {
            return Err(error);
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
            supervisor,
            limits: options.limits,
            searcher: Searcher::default(),
            uncounted_searcher: Searcher::default(),
            maps: inspect::MapCache::default(),
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
        self.hosted(name).map(HostedIndex::name)
    }

    /// Returns the folder of an index.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn dir(&self, name: &str) -> Result<&Path, EngineError> {
        self.hosted(name).map(HostedIndex::dir)
    }

    /// Returns the supervisor of the background work.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
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
        self.search_of(None, request, budget)
    }

    /// Like [`Engine::search`], for the caller at this address: the sample of queries gives no caller more than its share.
    ///
    /// # Errors
    /// Those of [`Engine::search`].
    pub fn search_of(
        &self,
        caller: Option<IpAddr>,
        request: &SearchRequest,
        budget: &Budget,
    ) -> Result<SearchResponse, EngineError> {
        self.with(&request.index, |served| {
            let snapshot = served.snapshot()?;
            let (response, _) = snapshot.search(&self.context(served.name(), budget), request, None)?;
            if served.sample().takes() {
                served.sample().take(caller, &snapshot, request, &response);
            }
            Ok(response)
        })
    }

    /// Returns the expected cost of a request, in nanoseconds of one thread of a nominal machine. Reads no data of the
    /// index. A request that cannot be answered costs next to nothing.
    pub fn expected_cost(&self, request: &SearchRequest) -> u64 {
        self.expected_cost_at(request, request.effort)
    }

    /// Returns the expected cost of an explanation of an answer to a request, in the same unit. It searches, and scores
    /// every video.
    pub fn expected_cost_of_explanation(&self, request: &SearchRequest) -> u64 {
        self.expected_cost(request) + 2 * self.expected_cost_at(request, Effort::Exact)
    }

    /// Returns the expected cost of a lookup of these videos, in the same unit.
    pub fn expected_cost_of_lookup(
        &self,
        index: &str,
        videos: &[VideoId],
        attributes: &ReturnAttributes,
        with_vectors: bool,
    ) -> u64 {
        let cost = self.with(index, |served| {
            let snapshot = served.shared().current.load();
            Ok(query::estimate::lookup(&snapshot, videos.len(), attributes, with_vectors))
        });
        cost.unwrap_or(1)
    }

    fn expected_cost_at(&self, request: &SearchRequest, effort: Effort) -> u64 {
        let cost = self.with(&request.index, |served| {
            // Not the snapshot without expired videos, which the first search after an expiry makes.
            Ok(query::estimate::estimate(&served.shared().current.load(), &self.limits, request, effort))
        });
        cost.unwrap_or(1)
    }

    /// Returns the number of threads of the compute pool.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Compares one sampled answer with the exact one, on the calling thread. Returns false if none waits.
    pub fn measure_recall(&self) -> bool {
        // Round robin over the indexes.
        let first = self.measured.fetch_add(1, Ordering::Relaxed) % self.indexes.len().max(1);
        let mut hosted = self.indexes.values().skip(first).chain(self.indexes.values().take(first));
        hosted.any(|hosted| hosted.with(|served| Ok(self.measure_recall_of(served))).unwrap_or(false))
    }

    fn measure_recall_of(&self, served: &ServedIndex) -> bool {
        let Some(sample) = served.sample().next() else { return false };
        let exact = SearchRequest { effort: Effort::Exact, plan: None, ..sample.request.without_contents() };
        let budget = Budget::default();
        let answer = sample.snapshot.search(&self.context(served.name(), &budget), &exact, None);
        // The request was answered before, so only a shutdown of the index can make it fail.
        if let Ok((answer, _)) = answer {
            served.sample().compare(&sample, &answer.candidates);
        }
        true
    }

    /// Writes `mutations` in their order. Returns once they are on disk and visible to every later search, so it blocks
    /// on the disk: do not call it on a thread that others wait for.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`] if nothing can be written, or if it could not be found again, because the files of the
    /// index were removed or replaced; then nothing is acknowledged.
    pub fn write(
        &self,
        index: &str,
        mutations: Vec<Mutation>,
        mode: WriteMode,
    ) -> Result<Written, EngineError> {
        let takedowns = mutations.iter().all(Mutation::is_takedown).then(|| mutations.clone());
        let written = self.write_once(index, mutations, mode);
        match takedowns {
            Some(takedowns) if written.is_err() && self.hosted(index)?.make_room() => {
                self.write_once(index, takedowns, mode)
            }
            _ => written,
        }
    }

    fn write_once(
        &self,
        index: &str,
        mutations: Vec<Mutation>,
        mode: WriteMode,
    ) -> Result<Written, EngineError> {
        self.with(index, |served| {
            let snapshot = served.snapshot()?;
            served.check_writable()?;
            let target = Target { name: served.name(), log: served.log(), snapshot: &snapshot };
            let written = target.write(mutations, mode)?;
            // The files may have been replaced during the write: then nobody would find it in the log. A shared log is elsewhere.
            if served.log().tailed().is_none() {
                served.check_in_place().map_err(|detached| {
                    read_only(served.name(), format!("the write may be lost: {detached}"))
                })?;
            }
            Ok(written)
        })
    }

    /// Returns the model of the embeddings of an index; `None` if its build did not name one.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn embedding_model(&self, index: &str) -> Result<Option<String>, EngineError> {
        self.with(index, |served| Ok(served.shared().current.load().index.metadata().embedding_model.clone()))
    }

    /// Returns the position of the first mutation that [`Engine::write`] would refuse now, and why.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn refused(
        &self,
        index: &str,
        mutations: &[Mutation],
    ) -> Result<Option<(usize, EngineError)>, EngineError> {
        self.with(index, |served| {
            let snapshot = served.snapshot()?;
            served.check_writable()?;
            let target = Target { name: served.name(), log: served.log(), snapshot: &snapshot };
            Ok(target.first_refused(mutations))
        })
    }

    /// Whether the ids of an index are text. [`VideoId::of_text`] is the id of a text.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn has_text_ids(&self, index: &str) -> Result<bool, EngineError> {
        self.with(index, |served| Ok(served.shared().current.load().has_text_ids()))
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
        self.get_within(index, videos, attributes, with_vectors, &Budget::default())
    }

    /// Looks up videos like [`Engine::get`], within a budget.
    ///
    /// # Errors
    /// If an attribute to return is unknown, or the budget ends.
    pub fn get_within(
        &self,
        index: &str,
        videos: &[VideoId],
        attributes: &ReturnAttributes,
        with_vectors: bool,
        budget: &Budget,
    ) -> Result<Vec<Lookup>, EngineError> {
        self.with(index, |served| {
            let snapshot = served.snapshot()?;
            let found = look_up(&snapshot, served.shared(), videos, attributes, with_vectors, budget)?;
            snapshot.check_undamaged(served.name())?;
            Ok(found)
        })
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
        self.with(&request.index, |served| {
            let snapshot = served.snapshot()?;
            let explained = snapshot.explain(&self.context(served.name(), budget), request, video)?;
            snapshot.check_undamaged(served.name())?;
            Ok(explained)
        })
    }

    /// Queues `work` on the compute pool.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.pool.spawn(work);
    }

    fn context<'a>(&'a self, name: &'a str, budget: &'a Budget) -> RequestContext<'a> {
        RequestContext {
            name,
            searcher: &self.searcher,
            limits: budget.limits.as_ref().unwrap_or(&self.limits),
            budget,
        }
    }

    fn with<R>(
        &self,
        name: &str,
        work: impl FnOnce(&Arc<ServedIndex>) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        self.hosted(name)?.with(work)
    }

    fn hosted(&self, name: &str) -> Result<&HostedIndex, EngineError> {
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
        let each = |work: fn(&ServedIndex)| {
            for hosted in self.indexes.values() {
                // One that is not open has no rebuild.
                let _ = hosted.with(|served| {
                    work(served);
                    Ok(())
                });
            }
        };
        each(|served| {
            served.rebuilder().cancel();
            served.learner().cancel();
        });
        each(|served| {
            served.rebuilder().stop();
            served.learner().stop();
        });
    }
}
