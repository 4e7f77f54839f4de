//! What a shadow compares an index with, and how it is searched.

use std::time::{Duration, Instant};

use shortlist_client::Client;
use tokio::runtime::Handle;

use crate::engine::{Budget, CandidateGeneration, Effort, Engine, Pause, SearchRequest};
use crate::service::convert;
use crate::service::proto::{self, search_params};

/// The longest time for one search.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What an index is compared with.
#[derive(Debug)]
pub(super) enum Candidate {
    Generation(CandidateGeneration),
    /// Another index of this server.
    Index(String),
    /// An index of another server.
    Server(Box<Server>),
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) index: String,
    pub(super) runtime: Handle,
}

/// An answer: videos with their scores, best first.
pub(super) struct Answer {
    pub(super) videos: Vec<(u64, f32)>,
    pub(super) elapsed: Duration,
    /// The generation that answered.
    pub(super) generation: u64,
}

/// How much work a search is.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// As much as the request says.
    AsAsked,
    /// It scores every video, with pauses.
    Exact(Pause),
}

/// Searches the index that a request names.
///
/// # Errors
/// Why it has no answer.
pub(super) fn search_index(
    engine: &Engine,
    request: &proto::SearchRequest,
    work: Work,
) -> Result<Answer, String> {
    local(request, work, |request, budget| {
        engine.search_uncounted(request, budget).map_err(|error| error.to_string())
    })
}

impl Candidate {
    /// Whether it is this generation of the index.
    pub(super) fn is_generation(&self, generation: u64) -> bool {
        matches!(self, Candidate::Generation(candidate) if candidate.generation() == generation)
    }

    /// Searches the candidate with a request to an index.
    ///
    /// # Errors
    /// Why it has no answer.
    pub(super) fn search(
        &self,
        engine: &Engine,
        request: &proto::SearchRequest,
        work: Work,
    ) -> Result<Answer, String> {
        match self {
            Candidate::Generation(candidate) => local(request, work, |request, budget| {
                engine.search_candidate(candidate, request, budget).map_err(|error| error.to_string())
            }),
            Candidate::Index(index) => {
                let request = proto::SearchRequest { index: index.clone(), ..request.clone() };
                search_index(engine, &request, work)
            }
            Candidate::Server(server) => server.search(request, work),
        }
    }
}

impl Server {
    fn search(&self, request: &proto::SearchRequest, work: Work) -> Result<Answer, String> {
        let mut request = proto::SearchRequest { index: self.index.clone(), ..request.clone() };
        if let Work::Exact(_) = work {
            let params = request.params.get_or_insert_default();
            (params.effort, params.plan) = (Some(search_params::Effort::Exact(true)), 0);
        }
        let client = self.client.with_timeout(TIMEOUT);
        let began = Instant::now();
        let answer = self.runtime.block_on(client.search(request)).map_err(|error| error.to_string())?;
        let elapsed = began.elapsed();
        let videos = answer.candidates.iter().map(|found| (found.video_id, found.score)).collect();
        Ok(Answer { videos, elapsed, generation: answer.generation })
    }
}

fn local(
    request: &proto::SearchRequest,
    work: Work,
    search: impl FnOnce(&SearchRequest, &Budget) -> Result<crate::engine::SearchResponse, String>,
) -> Result<Answer, String> {
    let mut request = convert::search_request(request.clone()).map_err(|error| error.to_string())?;
    let mut budget = Budget::until(Instant::now().checked_add(TIMEOUT));
    if let Work::Exact(pause) = work {
        (request.effort, request.plan) = (Effort::Exact, None);
        // With pauses, an exact search of a large index takes longer than any other.
        (budget.deadline, budget.pause) = (None, pause);
    }
    let began = Instant::now();
    let answer = search(&request, &budget)?;
    let elapsed = began.elapsed();
    let videos = answer.candidates.iter().map(|found| (found.video_id.0, found.score)).collect();
    Ok(Answer { videos, elapsed, generation: answer.generation })
}
