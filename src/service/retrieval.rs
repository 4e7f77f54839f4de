//! `Retrieval`: single searches, batches, streams, explanations.
//!
//! What flows in: calls. What flows out: answers, computed on the engine's pool; the async threads only wait for them.
//! The waiting task owns a [`Pending`], which cancels the search when it is dropped. So a search stops when its caller
//! hangs up or its deadline passes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use super::access::{Standing, check_index};
use super::admission::{Permit, Place, Turn, quota};
use super::bounds::{AnswerCharge, CallMemory, without_blocking_others};
use super::caller::Caller;
use super::deadline::{self, Deadline};
use super::incoming::{Incoming, Slot};
use super::metrics::Observation;
use super::options::CallerLimits;
use super::proto::retrieval_server::Retrieval;
use super::proto::{
    BatchSearchRequest, BatchSearchResponse, BatchSearchResult, ExplainRequest, ExplainResponse,
    SearchRequest, SearchResponse, SearchStreamItem, batch_search_result, search_stream_item,
};
use super::shared::Shared;
use super::{convert, status};
use crate::base::id::VideoId;
use crate::engine::{self, Budget, EngineError};
use crate::service::error::InvalidField;

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
        let memory = CallMemory::of(&request);
        let call = Call::of(&self.shared, "Search", &request, memory.as_ref())?;
        call.search(request.into_inner(), "", |place| call.admit(place)).response().await
    }

    async fn batch_search(
        &self,
        request: Request<BatchSearchRequest>,
    ) -> Result<Response<BatchSearchResponse>, Status> {
        let memory = CallMemory::of(&request);
        let call = Call::of(&self.shared, "BatchSearch", &request, memory.as_ref())?;
        let requests = request.into_inner().requests;
        let permits = match call.admit_batch(requests.len()) {
            Ok(permits) => permits,
            Err(status) => {
                call.observe("").finish(status.code());
                return Err(status);
            }
        };
        let start = |(position, (request, permit))| {
            call.search(request, &format!("requests[{position}]."), |_| Ok(permit))
        };
        let started: Vec<Pending<SearchResponse>> =
            requests.into_iter().zip(permits).enumerate().map(start).collect();
        let mut results = Vec::with_capacity(started.len());
        let charge = AnswerCharge::default();
        for pending in started {
            let own = pending.charge();
            let result = match pending.answer().await {
                Ok(response) => {
                    charge.join(&own);
                    batch_search_result::Result::Response(response)
                }
                Err(status) => batch_search_result::Result::Error(status::to_item(&status)),
            };
            results.push(BatchSearchResult { result: Some(result) });
        }
        let response = BatchSearchResponse { results };
        status::check_size(&response, self.shared.limits.max_response_bytes)?;
        Ok(charge.attach(Response::new(response)))
    }

    type StreamSearchStream = Pin<Box<dyn Stream<Item = Result<SearchStreamItem, Status>> + Send>>;

    async fn stream_search(
        &self,
        request: Request<Streaming<SearchRequest>>,
    ) -> Result<Response<Self::StreamSearchStream>, Status> {
        let (deadline, caller) = (Deadline::of(&request), Caller::of(&request)?);
        let memory = CallMemory::of(&request);
        let (started, answers) = mpsc::unbounded_channel();
        let shared = Arc::clone(&self.shared);
        let standing = Standing::of(&shared.access, &caller, &request);
        let incoming =
            Incoming::of(&shared, "StreamSearch", request.into_inner(), deadline, memory, standing);
        tokio::spawn(async move {
            let memory = incoming.memory();
            let read = read_stream(shared, incoming, caller, deadline, memory.as_ref(), started);
            without_blocking_others(memory.as_deref(), read).await;
        });
        let charge = AnswerCharge::default();
        let of_stream = charge.clone();
        let answers = UnboundedReceiverStream::new(answers).then(move |started| {
            let of_stream = of_stream.clone();
            async move {
                let Started { pending, slot } = started?;
                let own = pending.charge();
                let answer =
                    deadline.bound(pending.answer()).await.unwrap_or_else(|| Err(deadline::exceeded()));
                drop(slot);
                let item = match answer {
                    Ok(response) => {
                        of_stream.join(&own);
                        search_stream_item::Item::Response(response)
                    }
                    Err(status) => search_stream_item::Item::Error(status::to_item(&status)),
                };
                Ok(SearchStreamItem { item: Some(item) })
            }
        });
        let answers: Self::StreamSearchStream = Box::pin(answers);
        Ok(charge.attach(Response::new(answers)))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let memory = CallMemory::of(&request);
        let call = Call::of(&self.shared, "Explain", &request, memory.as_ref())?;
        let ExplainRequest { request, video_id } = request.into_inner();
        call.explain(request.unwrap_or_default(), VideoId(video_id)).response().await
    }
}

/// A request of a stream in flight.
struct Started {
    pending: Pending<SearchResponse>,
    /// Its slot in the window of the stream, held until it is answered.
    slot: Slot,
}

/// Starts the requests of a stream as they arrive, a bounded number at a time, until the stream ends, the deadline
/// passes, the server drains, or the receiver of `started` is dropped.
async fn read_stream(
    shared: Arc<Shared>,
    mut incoming: Incoming<SearchRequest>,
    caller: Caller,
    deadline: Deadline,
    memory: Option<&Arc<CallMemory>>,
    started: mpsc::UnboundedSender<Result<Started, Status>>,
) {
    let call = Call::new(&shared, "StreamSearch", caller, deadline, memory);
    while let Some(next) = incoming.next(started.closed()).await {
        let item = next.map(|(slot, request)| Started {
            pending: call.search(request, "", |place| call.admit(place)),
            slot,
        });
        let is_last = item.is_err();
        if started.send(item).is_err() || is_last {
            return;
        }
    }
}

/// One call, as the context of its searches.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    method: &'static str,
    caller: Caller,
    /// What the caller may ask for.
    limits: CallerLimits,
    deadline: Deadline,
    memory: Option<&'a Arc<CallMemory>>,
}

impl<'a> Call<'a> {
    fn of<T>(
        shared: &'a Arc<Shared>,
        method: &'static str,
        request: &Request<T>,
        memory: Option<&'a Arc<CallMemory>>,
    ) -> Result<Self, Status> {
        Ok(Self::new(shared, method, Caller::of(request)?, Deadline::of(request), memory))
    }

    fn new(
        shared: &'a Arc<Shared>,
        method: &'static str,
        caller: Caller,
        deadline: Deadline,
        memory: Option<&'a Arc<CallMemory>>,
    ) -> Self {
        let limits = shared.limits.caller.with(&caller.rights.limits);
        Self { shared, method, caller, limits, deadline, memory }
    }

    /// When a search that arrives now must be answered.
    fn due(&self) -> Option<Instant> {
        let latest = Instant::now().checked_add(self.limits.max_deadline);
        self.deadline.0.into_iter().chain(latest).min()
    }

    fn place(&self, due: Option<Instant>) -> Place {
        let deadline = due.map_or(u64::MAX, |due| self.shared.dispatcher.nanos(due));
        let max_waiting = self.limits.max_queued_per_client;
        Place { client: self.caller.client(), connection: self.caller.connection(), deadline, max_waiting }
    }

    /// Admits one search. If too many are in flight, one of the client with the most gives way.
    fn admit(&self, place: &Place) -> Result<Permit, Status> {
        let admission = &self.shared.admission;
        let admitted = match admission.admit_one() {
            Err(_) if self.make_room(place) => admission.admit_one(),
            admitted => admitted,
        };
        admitted.inspect_err(|status| self.count_refused(status))
    }

    /// Takes the place of a waiting search of the client with the most. Returns whether a place is free now.
    fn make_room(&self, place: &Place) -> bool {
        !self.shared.admission.is_closed() && self.shared.dispatcher.make_room(place)
    }

    fn count_refused(&self, status: &Status) {
        if status.code() == Code::ResourceExhausted {
            self.shared.metrics.load.refused_search("in_flight");
        }
    }

    fn admit_batch(&self, searches: usize) -> Result<Vec<Permit>, Status> {
        let max_batch = self.caller.rights.limits.max_batch.unwrap_or(self.shared.limits.max_batch);
        if searches > max_batch {
            let problem = format!("expected at most {max_batch} searches, found {searches}");
            return Err(status::of(&InvalidField::new("requests", problem).into(), ""));
        }
        let place = self.place(self.due());
        let mut admitted = self.shared.admission.admit(searches);
        // At most as often as there are searches: each time one place becomes free.
        for _ in 0..searches {
            if admitted.is_ok() || !self.make_room(&place) {
                break;
            }
            admitted = self.shared.admission.admit(searches);
        }
        admitted.inspect_err(|status| self.count_refused(status))
    }

    /// Starts to observe a request for the index of this name.
    fn observe(&self, index: &str) -> Observation {
        // A request for an index that is not served is counted under "", as is a batch that is rejected as a whole.
        let index = self.shared.engine.resolve(index).unwrap_or_default();
        Observation::begin(&self.shared.metrics.requests, self.method, index, self.deadline)
    }

    /// Queues one search. `path` is the path of the request within the call.
    fn search(
        &self,
        request: SearchRequest,
        path: &str,
        admit: impl FnOnce(&Place) -> Result<Permit, Status>,
    ) -> Pending<SearchResponse> {
        let with_stats = request.return_stats;
        let cost = |request: &engine::SearchRequest| Ok(self.shared.engine.expected_cost(request));
        let peer = self.caller.peer;
        self.queue(request, path, cost, admit, move |job| {
            let response = job.shared.engine.search_of(Some(peer), &job.request, &job.budget)?;
            job.observation.searched(&response);
            Ok(convert::search_response(response, with_stats))
        })
    }

    /// Queues the explanation of one video.
    fn explain(&self, request: SearchRequest, video: VideoId) -> Pending<ExplainResponse> {
        let cost = |request: &engine::SearchRequest| {
            quota::check_explanation(&self.limits)?;
            Ok(self.shared.engine.expected_cost_of_explanation(request))
        };
        self.queue(
            request,
            "request.",
            cost,
            |place| self.admit(place),
            move |job| job.shared.engine.explain(&job.request, video, &job.budget).map(convert::explanation),
        )
    }

    /// Converts and admits a request, and queues `work` on it for the compute pool. `cost` returns the expected cost, or why
    /// the caller may not ask for this.
    fn queue<R: Message + Send + 'static>(
        &self,
        request: SearchRequest,
        path: &str,
        cost: impl FnOnce(&engine::SearchRequest) -> Result<u64, Status>,
        admit: impl FnOnce(&Place) -> Result<Permit, Status>,
        work: impl FnOnce(&Job) -> Result<R, EngineError> + Send + 'static,
    ) -> Pending<R> {
        let observation = self.observe(&request.index);
        let due = self.due();
        let place = self.place(due);
        let admitted = check_index(self.shared, &self.caller, self.method, &request.index)
            .and_then(|()| convert::search_request(request).map_err(|error| status::of(&error.into(), path)))
            .and_then(|request| {
                quota::check(&self.limits, &request, path)?;
                let cost = cost(&request)?;
                self.use_rates(&place, cost)?;
                Ok((request, cost, admit(&place)?))
            });
        let (request, cost, permit) = match admitted {
            Ok(admitted) => admitted,
            Err(status) => {
                observation.finish(status.code());
                return Pending::Refused(status);
            }
        };
        let engine_limits = self.caller.rights.limits.over_engine(self.shared.engine.limits());
        let charge = AnswerCharge::default();
        let room = charge.room(self.shared.limits.max_response_bytes, self.memory.cloned());
        let budget = Budget::until(due).with_room(room).with_limits(engine_limits);
        let cancel = CancelOnDrop(budget.clone());
        let shared = Arc::clone(self.shared);
        let job = Job { shared, request, budget, path: path.to_owned(), observation };
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |turn| {
            let result = match turn {
                Turn::Compute => job.run(work),
                Turn::Refused(status) => Err(status),
            };
            let is_answered = result.is_ok();
            // Before the answer is sent, so that the metrics already count a search whose answer the caller has.
            job.observation.finish(result.as_ref().err().map_or(Code::Ok, Status::code));
            drop(permit);
            // Fails if the caller is gone.
            let _ = answer.send(result);
            is_answered
        });
        self.shared.dispatcher.submit(&place, cost, run);
        Pending::Queued { answered, charge, _cancel: cancel }
    }

    /// Uses the rates of the client.
    fn use_rates(&self, place: &Place, cost: u64) -> Result<(), Status> {
        let Shared { quota, dispatcher, metrics, .. } = &**self.shared;
        quota.take(&place.client, &self.limits, cost, dispatcher.nanos(Instant::now())).map_err(
            |(reason, status)| {
                metrics.load.refused_search(reason);
                status
            },
        )
    }
}

/// The answer to a queued request. Dropping it cancels the search.
enum Pending<R> {
    Refused(Status),
    Queued { answered: oneshot::Receiver<Result<R, Status>>, charge: AnswerCharge, _cancel: CancelOnDrop },
}

impl<R> Pending<R> {
    /// Returns the charge of the answer.
    fn charge(&self) -> AnswerCharge {
        match self {
            Pending::Refused(_) => AnswerCharge::default(),
            Pending::Queued { charge, .. } => charge.clone(),
        }
    }

    /// Waits for the answer of a call with one request.
    async fn response(self) -> Result<Response<R>, Status> {
        let charge = self.charge();
        self.answer().await.map(|answer| charge.attach(Response::new(answer)))
    }

    async fn answer(self) -> Result<R, Status> {
        match self {
            Pending::Refused(status) => Err(status),
            Pending::Queued { answered, charge: _charge, _cancel } => {
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

/// One admitted request, as it runs on the compute pool.
struct Job {
    shared: Arc<Shared>,
    request: engine::SearchRequest,
    budget: Budget,
    /// The path of the request within the call.
    path: String,
    observation: Observation,
}

impl Job {
    /// Runs `work`, unless the budget was used up in the queue.
    fn run<R: Message>(&self, work: impl FnOnce(&Self) -> Result<R, EngineError>) -> Result<R, Status> {
        let result = if self.budget.is_expired() {
            Err(EngineError::DeadlineExceeded)
        } else if self.budget.is_cancelled() {
            Err(EngineError::Cancelled)
        } else {
            // A panic would end the thread of the pool, and the process with it.
            catch_unwind(AssertUnwindSafe(|| work(self))).map_err(|_| {
                tracing::error!(index = self.request.index, "a search panicked");
                status::internal()
            })?
        };
        let response = result.map_err(|error| match error {
            // A deadline ends a call by dropping it, which cancels the search. The reason is still the deadline.
            EngineError::Cancelled if self.budget.is_expired() => {
                status::of(&EngineError::DeadlineExceeded.into(), "")
            }
            error @ EngineError::NotInIndex { .. } => status::of(&error.into(), ""),
            error => status::of(&error.into(), &self.path),
        })?;
        status::check_size(&response, self.shared.limits.max_response_bytes)?;
        Ok(response)
    }
}
