//! Generations that do not answer requests, searched to compare them with the one that does.

use std::fmt;
use std::sync::Arc;

use super::Engine;
use super::error::EngineError;
use super::publish::servable::check_position;
use super::publish::served::ServedIndex;
use super::query::budget::Budget;
use super::query::context::RequestContext;
use super::query::request::{SearchRequest, SearchResponse};
use super::query::snapshot::{Snapshot, check_and_warm};
use super::write::shared::Shared;

/// A generation of an index that does not answer, with the writes since it was built.
pub struct CandidateGeneration {
    served: Arc<ServedIndex>,
    shared: Shared,
    generation: u64,
}

impl fmt::Debug for CandidateGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, generation) = (self.served.name(), self.generation);
        f.debug_struct("CandidateGeneration").field("index", &index).field("generation", &generation).finish()
    }
}

impl CandidateGeneration {
    /// The number of the generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl Engine {
    /// Opens a generation of an index that does not answer, and checks it. Reads all of its file.
    ///
    /// # Errors
    /// If there is no such index or generation, or the generation is damaged or lacks writes that the log no longer has.
    pub fn open_candidate(&self, index: &str, generation: u64) -> Result<CandidateGeneration, EngineError> {
        self.with(index, |served| {
            let opened = served.store().open_generation(generation)?;
            check_and_warm(&opened)?;
            check_position(&opened, served.attached_log()?.as_deref(), false)?;
            let snapshot = Snapshot::of_generation(generation, opened, served.store())?;
            let shared = Shared::new(snapshot, &|| served.attached_log())?;
            Ok(CandidateGeneration { served: Arc::clone(served), shared, generation })
        })
    }

    /// Searches a candidate, which sees all writes up to now. Counts in no sample of queries.
    ///
    /// # Errors
    /// Those of [`Engine::search`], and if the log can no longer be read.
    pub fn search_candidate(
        &self,
        candidate: &CandidateGeneration,
        request: &SearchRequest,
        budget: &Budget,
    ) -> Result<SearchResponse, EngineError> {
        let CandidateGeneration { served, shared, .. } = candidate;
        shared.catch_up(&|| served.attached_log())?;
        let snapshot = shared.unexpired();
        let answer = snapshot.search(&self.uncounted(served.name(), budget), request, None)?.0;
        snapshot.check_undamaged(served.name())?;
        Ok(answer)
    }

    fn uncounted<'a>(&'a self, name: &'a str, budget: &'a Budget) -> RequestContext<'a> {
        RequestContext { searcher: &self.uncounted_searcher, ..self.context(name, budget) }
    }

    /// Like [`Engine::search`], but counts in no sample of queries.
    ///
    /// # Errors
    /// Those of [`Engine::search`].
    pub fn search_uncounted(
        &self,
        request: &SearchRequest,
        budget: &Budget,
    ) -> Result<SearchResponse, EngineError> {
        self.with(&request.index, |served| {
            Ok(served.snapshot()?.search(&self.uncounted(served.name(), budget), request, None)?.0)
        })
    }
}
