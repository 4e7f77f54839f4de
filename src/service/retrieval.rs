//! `Retrieval`: one search, a batch, a stream.
//!
//! What flows in: calls. What flows out: answers, computed on the engine's pool; the async threads only
//! wait for them. Whoever waits holds a [`Pending`], which ends the search's budget when it is dropped,
//! so that a caller who hangs up, or a call whose deadline passes, stops the computing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use super::admission::Permit;
use super::deadline::{self, Deadline};
use super::incoming::Incoming;
use super::metrics::Observation;
use super::proto::retrieval_server::Retrieval;
use super::proto::{
    BatchSearchRequest, BatchSearchResponse, BatchSearchResult, ExplainRequest, ExplainResponse,
    SearchRequest, SearchResponse, SearchStreamItem, batch_search_result, search_stream_item,
};
use super::{Shared, convert, status};
use crate::base::id::VideoId;
use crate::engine::{self, Budget, EngineError};

/// `Retrieval` over one engine.
pub(super) struct RetrievalService {
    shared: Arc<Shared>,
}

impl RetrievalService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl Retrieval for RetrievalService {
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let call = Call { shared: &self.shared, method: "Search", deadline: Deadline::of(&request) };
        let pending = call.start(request.into_inner(), "", || self.shared.admission.admit_one());
        pending.answer().await.map(Response::new)
    }

    async fn batch_search(
        &self,
        request: Request<BatchSearchRequest>,
    ) -> Result<Response<BatchSearchResponse>, Status> {
        let call = Call { shared: &self.shared, method: "BatchSearch", deadline: Deadline::of(&request) };
        let requests = request.into_inner().requests;
        let permits = match self.admit_batch(requests.len()) {
            Ok(permits) => permits,
            Err(status) => {
                call.observe("").finish(status.code());
                return Err(status);
            }
        };
        let start = |(position, (request, permit))| {
            call.start(request, &format!("requests[{position}]."), || Ok(permit))
        };
        let started: Vec<Pending<SearchResponse>> =
            requests.into_iter().zip(permits).enumerate().map(start).collect();
        let mut results = Vec::with_capacity(started.len());
        for pending in started {
            let result = match pending.answer().await {
                Ok(response) => batch_search_result::Result::Response(response),
                Err(status) => batch_search_result::Result::Error(status::to_item(&status)),
            };
            results.push(BatchSearchResult { result: Some(result) });
        }
        let response = BatchSearchResponse { results };
        check_size(&response, self.shared.limits.max_response_bytes)?;
        Ok(Response::new(response))
    }

    type StreamSearchStream = Pin<Box<dyn Stream<Item = Result<SearchStreamItem, Status>> + Send>>;

    async fn stream_search(
        &self,
        request: Request<Streaming<SearchRequest>>,
    ) -> Result<Response<Self::StreamSearchStream>, Status> {
        let deadline = Deadline::of(&request);
        let (started, answers) = mpsc::unbounded_channel();
        tokio::spawn(read_stream(Arc::clone(&self.shared), request.into_inner(), deadline, started));
        let answers = UnboundedReceiverStream::new(answers).then(move |started| async move {
            let Started { pending, slot } = started?;
            let answer = deadline.bound(pending.answer()).await.unwrap_or_else(|| Err(deadline::exceeded()));
            drop(slot);
            let item = match answer {
                Ok(response) => search_stream_item::Item::Response(response),
                Err(status) => search_stream_item::Item::Error(status::to_item(&status)),
            };
            Ok(SearchStreamItem { item: Some(item) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let call = Call { shared: &self.shared, method: "Explain", deadline: Deadline::of(&request) };
        let ExplainRequest { request, video_id } = request.into_inner();
        call.start_explain(request.unwrap_or_default(), VideoId(video_id)).answer().await.map(Response::new)
    }
}

impl RetrievalService {
    fn admit_batch(&self, searches: usize) -> Result<Vec<Permit>, Status> {
        let max_batch = self.shared.limits.max_batch;
        if searches > max_batch {
            let problem = format!("expected at most {max_batch} searches, found {searches}");
            return Err(status::of(&EngineError::invalid("requests", problem), ""));
        }
        self.shared.admission.admit(searches)
    }
}

/// A request of a stream, on its way.
struct Started {
    pending: Pending<SearchResponse>,
    /// Its place in the window of the stream, until it is answered.
    slot: OwnedSemaphorePermit,
}

/// Starts the requests of a stream as they come, a bounded number at a time, until the stream ends, the
/// deadline passes, the server drains, or nobody listens to `started` any more.
async fn read_stream(
    shared: Arc<Shared>,
    requests: Streaming<SearchRequest>,
    deadline: Deadline,
    started: mpsc::UnboundedSender<Result<Started, Status>>,
) {
    let call = Call { shared: &shared, method: "StreamSearch", deadline };
    let mut incoming = Incoming::of(&shared, call.method, requests, deadline);
    while let Some(next) = incoming.next(started.closed()).await {
        let item = next.map(|(slot, request)| Started {
            pending: call.start(request, "", || shared.admission.admit_one()),
            slot,
        });
        let is_last = item.is_err();
        if started.send(item).is_err() || is_last {
            return;
        }
    }
}

/// What the searches of one call have in common.
#[derive(Clone, Copy)]
struct Call<'a> {
    shared: &'a Arc<Shared>,
    method: &'static str,
    deadline: Deadline,
}

impl Call<'_> {
    /// Begins to observe a request for the index of this name.
    fn observe(self, index: &str) -> Observation {
        // One that is not served, and a batch as a whole where there are several, are counted under "".
        let index = self.shared.engine.resolve(index).unwrap_or_default();
        Observation::begin(&self.shared.metrics, self.method, index, self.deadline)
    }

    /// Queues one search for the compute pool. `path` leads to the request within the call.
    fn start(
        self,
        request: SearchRequest,
        path: &str,
        admit: impl FnOnce() -> Result<Permit, Status>,
    ) -> Pending<SearchResponse> {
        let observation = self.observe(&request.index);
        let with_stats = request.return_stats;
        let admitted = convert::search_request(request)
            .map_err(|error| status::of(&error, path))
            .and_then(|request| Ok((request, admit()?)));
        let (request, permit) = match admitted {
            Ok(admitted) => admitted,
            Err(status) => {
                observation.finish(status.code());
                return Pending::Refused(status);
            }
        };
        let job = self.job(request, path);
        queue(job, observation, permit, move |job| job.search(with_stats))
    }

    /// Queues the explanation of one video.
    fn start_explain(self, request: SearchRequest, video: VideoId) -> Pending<ExplainResponse> {
        const PATH: &str = "request.";
        let observation = self.observe(&request.index);
        let admitted = convert::search_request(request)
            .map_err(|error| status::of(&error, PATH))
            .and_then(|request| Ok((request, self.shared.admission.admit_one()?)));
        match admitted {
            Ok((request, permit)) => {
                queue(self.job(request, PATH), observation, permit, move |job| job.explain(video))
            }
            Err(status) => {
                observation.finish(status.code());
                Pending::Refused(status)
            }
        }
    }

    fn job(self, request: engine::SearchRequest, path: &str) -> Job {
        let budget = Budget::until(self.deadline.0);
        Job { shared: Arc::clone(self.shared), request, budget, path: path.to_owned() }
    }
}

/// Has the compute pool do `work`, and finishes what observes it.
fn queue<R: Message + Send + 'static>(
    job: Job,
    observation: Observation,
    permit: Permit,
    work: impl FnOnce(&Job) -> Result<R, Status> + Send + 'static,
) -> Pending<R> {
    let (answer, answered) = oneshot::channel();
    let shared = Arc::clone(&job.shared);
    let budget = CancelOnDrop(job.budget.clone());
    shared.engine.spawn(move || {
        let result = job.run(work);
        // Before the answer is out, so that what the caller sees next has counted this search.
        observation.finish(result.as_ref().err().map_or(Code::Ok, Status::code));
        drop(permit);
        // Nobody waits for the answer if the caller is gone.
        let _ = answer.send(result);
    });
    Pending::Queued { answered, _budget: budget }
}

/// An answer to be waited for. Dropping it ends the search.
enum Pending<R> {
    Refused(Status),
    Queued { answered: oneshot::Receiver<Result<R, Status>>, _budget: CancelOnDrop },
}

impl<R> Pending<R> {
    async fn answer(self) -> Result<R, Status> {
        match self {
            Pending::Refused(status) => Err(status),
            Pending::Queued { answered, _budget } => {
                answered.await.unwrap_or_else(|_| Err(status::internal()))
            }
        }
    }
}

struct CancelOnDrop(Budget);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// One search, as the compute pool runs it.
struct Job {
    shared: Arc<Shared>,
    request: engine::SearchRequest,
    budget: Budget,
    path: String,
}

impl Job {
    fn run<R: Message>(&self, work: impl FnOnce(&Self) -> Result<R, Status>) -> Result<R, Status> {
        // A panic would take the whole pool with it.
        let response = catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            tracing::error!(index = self.request.index, "a search panicked");
            Err(status::internal())
        })?;
        check_size(&response, self.shared.limits.max_response_bytes)?;
        Ok(response)
    }

    fn search(&self, with_stats: bool) -> Result<SearchResponse, Status> {
        let response = self.ask(|engine| engine.search(&self.request, &self.budget))?;
        let index = self.shared.engine.resolve(&self.request.index).unwrap_or_default();
        self.shared.metrics.searched(index, &response.stats);
        Ok(convert::search_response(response, with_stats))
    }

    fn explain(&self, video: VideoId) -> Result<ExplainResponse, Status> {
        self.ask(|engine| engine.explain(&self.request, video, &self.budget)).map(convert::explanation)
    }

    /// Asks the engine, if there is time left.
    fn ask<R>(&self, ask: impl FnOnce(&engine::Engine) -> Result<R, EngineError>) -> Result<R, Status> {
        // Waiting in the queue may have used up the budget. A deadline ends a call by hanging up on it,
        // and is the reason then.
        let answer = if self.budget.is_expired() {
            Err(EngineError::DeadlineExceeded)
        } else if self.budget.is_cancelled() {
            Err(EngineError::Cancelled)
        } else {
            ask(&self.shared.engine)
        };
        answer.map_err(|error| match error {
            EngineError::Cancelled if self.budget.is_expired() => {
                status::of(&EngineError::DeadlineExceeded, "")
            }
            error @ EngineError::NotInIndex { .. } => status::of(&error, ""),
            error => status::of(&error, &self.path),
        })
    }
}

/// # Errors
/// `RESOURCE_EXHAUSTED` if the message is larger than `limit`: sending it would end a whole stream.
pub(super) fn check_size(message: &impl Message, limit: usize) -> Result<(), Status> {
    let bytes = message.encoded_len();
    if bytes > limit { Err(status::too_large(bytes, limit)) } else { Ok(()) }
}
