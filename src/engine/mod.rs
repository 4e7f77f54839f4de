//! The engine: named indexes, each an atomically swapped snapshot, and the questions they answer.
//!
//! What flows in: requests in domain words. What flows out: candidates. The engine knows nothing of
//! gRPC and nothing of the bytes on disk.
//!
//! | file | duty |
//! |---|---|
//! | `request.rs`    | what is asked and answered; limits |
//! | `catalog.rs`    | writes, and videos one by one |
//! | `parts.rs`      | what is searched: the generation, and what was written since |
//! | `query.rs`      | what is searched for, in terms of one generation |
//! | `rules.rs`      | the rules of a request, in the same terms |
//! | `snapshot.rs`   | one generation, open and searchable |
//! | `explain.rs`    | why a video is, or is not, in an answer |
//! | `calibrated.rs` | what recall it is known to reach |
//! | `served.rs`     | one named index: its snapshot, and how it is swapped |
//! | `live.rs`       | what was written since the build: parts, and what hides videos |
//! | `shared.rs`     | what searches and writes share |
//! | `writing.rs`    | the log that writes go to |

mod calibrated;
mod catalog;
mod error;
mod explain;
mod live;
mod parts;
mod query;
mod request;
mod rules;
mod served;
mod shared;
mod snapshot;
mod writing;

use std::collections::BTreeMap;

use crate::id::VideoId;
use crate::search::Searcher;
use served::ServedIndex;

pub use crate::search::{Loss, Plan, Shortfall};
pub use catalog::{Lookup, StoredVideo, WriteMode, Written};
pub use error::EngineError;
pub use request::{
    Budget, Candidate, Completeness, Effort, EngineOptions, Explanation, IndexStatus, Interest, Limits,
    LiveStatus, Query, Removal, ReturnAttributes, Rule, SearchRequest, SearchResponse, SearchStats, Seed,
};
pub use served::Refresh;

/// Every index of one server, and the threads that search them.
#[derive(Debug)]
pub struct Engine {
    indexes: BTreeMap<String, ServedIndex>,
    limits: Limits,
    searcher: Searcher,
    pool: rayon::ThreadPool,
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
            .build()?;
        let mut indexes = BTreeMap::new();
        for (name, dir) in options.indexes {
            let served = ServedIndex::open(name.clone(), dir, options.memory, options.is_writable)?;
            if indexes.insert(name.clone(), served).is_some() {
                return Err(EngineError::invalid("index", format!("the name {name:?} is there twice")));
            }
        }
        Ok(Self { indexes, limits: options.limits, searcher: Searcher::default(), pool })
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
        self.served(name).map(ServedIndex::name)
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
        served.snapshot()?.search(served.name(), &self.searcher, &self.limits, request, budget)
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
        served.snapshot()?.explain(served.name(), &self.searcher, &self.limits, (request, video), budget)
    }

    /// Runs `work` on the compute pool, after what is queued there already.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.pool.spawn(work);
    }

    /// Whether there is an index of this name that answers.
    pub fn is_serving(&self, name: &str) -> bool {
        self.served(name).and_then(ServedIndex::snapshot).is_ok()
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
    /// If there is no such index or generation, or the generation is damaged; then nothing changes.
    pub fn activate(&self, name: &str, generation: u64) -> Result<IndexStatus, EngineError> {
        let served = self.served(name)?;
        served.activate(generation)?;
        served.status()
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
        self.indexes.values().flat_map(ServedIndex::refresh).collect()
    }

    fn served(&self, name: &str) -> Result<&ServedIndex, EngineError> {
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
