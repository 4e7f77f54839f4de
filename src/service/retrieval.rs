//! `Retrieval`: one search, a batch, a stream.
//!
//! What flows in: calls. What flows out: answers, computed on the engine's pool; the async threads only
//! wait for them. Whoever waits holds a [`Pending`], which ends the search's budget when it is dropped,
//! so that a caller who hangs up, or a call whose deadline passes, stops the computing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use super::admission::Permit;
use super::deadline::{self, Deadline};
use super::metrics::Observation;
use super::proto::retrieval_server::Retrieval;
use super::proto::{
    BatchSearchRequest, BatchSearchResponse, BatchSearchResult, ExplainRequest, ExplainResponse,
    SearchRequest, SearchResponse, SearchStreamItem, batch_search_result, search_stream_item,
};
use super::{Shared, convert, status};
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
        let started: Vec<Pending> = requests.into_iter().zip(permits).enumerate().map(start).collect();
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

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Err(Status::unimplemented("not yet"))
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
    pending: Pending,
    /// Its place in the window of the stream, until it is answered.
    slot: OwnedSemaphorePermit,
}

/// Starts the requests of a stream as they come, a bounded number at a time, until the stream ends, the
/// deadline passes, the server drains, or nobody listens to `started` any more.
async fn read_stream(
    shared: Arc<Shared>,
    mut requests: Streaming<SearchRequest>,
    deadline: Deadline,
    started: mpsc::UnboundedSender<Result<Started, Status>>,
) {
    let call = Call { shared: &shared, method: "StreamSearch", deadline };
    let window = Arc::new(Semaphore::new(shared.limits.max_stream_window));
    let mut draining = shared.draining.clone();
    loop {
        let drain = async { _ = draining.wait_for(|draining| *draining).await };
        let next = async {
            let slot = Arc::clone(&window).acquire_owned().await.map_err(|_| status::internal())?;
            Ok((slot, requests.message().await?))
        };
        let next: Result<_, Status> = tokio::select! {
            biased;
            () = started.closed() => return,
            () = deadline.passed() => Err(deadline::exceeded()),
            () = drain => Err(status::draining()),
            next = next => next,
        };
        let item = match next {
            Ok((slot, Some(request))) => {
                Ok(Started { pending: call.start(request, "", || shared.admission.admit_one()), slot })
            }
            Ok((_, None)) => return,
            Err(status) => Err(status),
        };
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
    ) -> Pending {
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
        let budget = Budget::until(self.deadline.0);
        let (answer, answered) = oneshot::channel();
        let job = Job {
            shared: Arc::clone(self.shared),
            request,
            with_stats,
            budget: budget.clone(),
            path: path.to_owned(),
        };
        self.shared.engine.spawn(move || {
            let result = job.run();
            // Before the answer is out, so that what the caller sees next has counted this search.
            observation.finish(result.as_ref().err().map_or(Code::Ok, Status::code));
            drop(permit);
            // Nobody waits for the answer if the caller is gone.
            let _ = answer.send(result);
        });
        Pending::Queued { answered, _budget: CancelOnDrop(budget) }
    }
}

/// The answer to a search, to be waited for. Dropping it ends the search.
enum Pending {
    Refused(Status),
    Queued { answered: oneshot::Receiver<Result<SearchResponse, Status>>, _budget: CancelOnDrop },
}

impl Pending {
    async fn answer(self) -> Result<SearchResponse, Status> {
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
    with_stats: bool,
    budget: Budget,
    path: String,
}

impl Job {
    fn run(&self) -> Result<SearchResponse, Status> {
        // A panic would take the whole pool with it.
        let response = catch_unwind(AssertUnwindSafe(|| self.search())).unwrap_or_else(|_| {
            tracing::error!(index = self.request.index, "a search panicked");
            Err(status::internal())
        })?;
        check_size(&response, self.shared.limits.max_response_bytes)?;
        Ok(response)
    }

    fn search(&self) -> Result<SearchResponse, Status> {
        let engine = &self.shared.engine;
        // Waiting in the queue may have used up the budget. A deadline ends a call by hanging up on it,
        // and is the reason then.
        let response = if self.budget.is_expired() {
            Err(EngineError::DeadlineExceeded)
        } else if self.budget.is_cancelled() {
            Err(EngineError::Cancelled)
        } else {
            engine.search(&self.request, &self.budget)
        };
        let response = response.map_err(|error| match error {
            EngineError::Cancelled if self.budget.is_expired() => {
                status::of(&EngineError::DeadlineExceeded, "")
            }
            error => status::of(&error, &self.path),
        })?;
        self.shared
            .metrics
            .searched(engine.resolve(&self.request.index).unwrap_or_default(), &response.stats);
        Ok(convert::search_response(response, self.with_stats))
    }
}

/// # Errors
/// `RESOURCE_EXHAUSTED` if the message is larger than `limit`: sending it would end a whole stream.
fn check_size(message: &impl Message, limit: usize) -> Result<(), Status> {
    let bytes = message.encoded_len();
    if bytes > limit { Err(status::too_large(bytes, limit)) } else { Ok(()) }
}
