//! One search or lookup, from admission to answer.
//!
//! What flows in: requests of one call. What flows out: answers, computed on the engine's pool; the async threads only wait
//! for them. The waiting task owns a [`Pending`], which cancels the work when it is dropped. So a search stops when its
//! caller hangs up or its deadline passes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status};

use super::access::check_named;
use super::admission::{Permit, Place, Turn, quota};
use super::aliases::{AliasMap, Named};
use super::answer::EncodedSearch;
use super::bounds::{AnswerCharge, CallMemory, Charge};
use super::caller::Caller;
use super::deadline::Deadline;
use super::filter_texts::FilterTexts;
use super::follow::Followed;
use super::metrics::Observation;
use super::options::CallerLimits;
use super::page_token::PageToken;
use super::proto::{ExplainRequest, ExplainResponse, GetRequest, GetResponse, SearchRequest};
use super::shared::{Shared, check_text_ids};
use super::traces::Trace;
use super::{convert, status};
use crate::engine::{self, Budget, EngineError};
use crate::service::error::{CallError, InvalidField};

/// One call, as the context of its searches and lookups.
pub(super) struct ReadCall<'a> {
    shared: &'a Arc<Shared>,
    method: &'static str,
    caller: Caller,
    /// What the caller may ask for.
    limits: CallerLimits,
    deadline: Deadline,
    memory: Option<&'a Arc<CallMemory>>,
    trace: Option<Trace>,
}

impl<'a> ReadCall<'a> {
    pub(super) fn of<T>(
        shared: &'a Arc<Shared>,
        method: &'static str,
        request: &Request<T>,
        memory: Option<&'a Arc<CallMemory>>,
    ) -> Result<Self, Status> {
        let trace = shared.shell.trace_of(request);
        Ok(Self::new(shared, method, Caller::of(request)?, Deadline::of(request), memory, trace))
    }

    pub(super) fn new(
        shared: &'a Arc<Shared>,
        method: &'static str,
        caller: Caller,
        deadline: Deadline,
        memory: Option<&'a Arc<CallMemory>>,
        trace: Option<Trace>,
    ) -> Self {
        let limits = shared.shell.limits.caller.with(&caller.rights.limits);
        Self { shared, method, caller, limits, deadline, memory, trace }
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
    pub(super) fn admit(&self, place: &Place) -> Result<Permit, Status> {
        let admission = &self.shared.admission;
        let admitted = match admission.admit_one() {
            Err(_) if self.make_room(place) => admission.admit_one(),
            admitted => admitted,
        };
        admitted.inspect_err(|status| self.count_refused(place, status))
    }

    /// Takes the place of a waiting search of the client with the most. Returns whether a place is free now.
    fn make_room(&self, place: &Place) -> bool {
        !self.shared.admission.is_closed() && self.shared.dispatcher.make_room(place)
    }

    fn count_refused(&self, place: &Place, status: &Status) {
        if status.code() == Code::ResourceExhausted {
            self.shared.shell.metrics.load.refused_search(&place.client, "in_flight");
        }
    }

    pub(super) fn admit_batch(&self, searches: usize) -> Result<Vec<Permit>, Status> {
        let max_batch = self.caller.rights.limits.max_batch.unwrap_or(self.shared.shell.limits.max_batch);
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
        admitted.inspect_err(|status| self.count_refused(&place, status))
    }

    pub(super) fn observe(&self, index: &str) -> Observation {
        self.shared.shell.observe(self.method, index, self.deadline)
    }

    /// Begins to record a request beyond its metrics. `path` is its path within the call.
    fn follow(&self, index: &str, path: &str) -> Option<Box<Followed>> {
        if !self.shared.shell.is_following {
            return None;
        }
        Followed::begin(self.shared, self.method, &self.caller, index, self.trace.as_ref(), path)
    }

    /// Queues one search. `aliases`: those of the call. `path` is the path of the request within the call.
    pub(super) fn search(
        &self,
        aliases: &AliasMap,
        mut request: SearchRequest,
        path: &str,
        admit: impl FnOnce(&Place) -> Result<Permit, Status>,
    ) -> Pending<EncodedSearch> {
        let (with_stats, peer) = (request.return_stats, self.caller.peer);
        let named = aliases.name(&mut request.index, &request.embedding_model, &*self.shared.shell.indexes);
        let by_alias = named.by_alias();
        let (observation, followed) = (self.observe(&request.index), self.follow(&request.index, path));
        let repeated = self.shared.shadows.take(&request);
        let admitted = |place: &Place| {
            let checked = self.checked(request, named, path)?;
            let cost = self.shared.engine.expected_cost(&checked.request);
            self.use_rates(place, 1, cost)?;
            Ok((cost, admit(place)?, checked))
        };
        self.queue(path, (observation, followed), admitted, move |job, checked| {
            let engine = &job.shared.engine;
            let found =
                job.in_time().and_then(|()| engine.search_of(Some(peer), &checked.request, &job.budget));
            if let Some(followed) = &job.followed {
                followed.searched(&job.observation, &checked.request, &found);
            }
            let response = found.map_err(|error| checked.named(error))?;
            if let Some(repeated) = repeated {
                job.shared.shadows.repeat(repeated);
            }
            job.observation.searched(&response);
            let next = next_page(&checked.request, engine.limits().max_k);
            let index = by_alias.then_some(checked.request.index.as_str());
            Ok(convert::search_response(response, with_stats, next, index))
        })
    }

    /// Queues the explanation of one video.
    pub(super) fn explain(&self, request: ExplainRequest) -> Pending<ExplainResponse> {
        let path = "request.";
        let ExplainRequest { request, video_id, text_id } = request;
        let mut request = request.unwrap_or_default();
        let aliases = self.shared.shell.aliases.current();
        let named = aliases.name(&mut request.index, &request.embedding_model, &*self.shared.shell.indexes);
        let (observation, followed) = (self.observe(&request.index), self.follow(&request.index, path));
        let admitted = |place: &Place| {
            let checked = self.checked(request, named, path)?;
            let video = convert::explained_id(video_id, &text_id);
            let video = video.map_err(|error| status::of(&error.into(), ""))?;
            if !text_id.is_empty() {
                check_text_ids(self.shared, &checked.request.index, "text_id".to_owned(), "")?;
            }
            quota::check_explanation(&self.limits)?;
            let cost = self.shared.engine.expected_cost_of_explanation(&checked.request);
            self.use_rates(place, 1, cost)?;
            Ok((cost, self.admit(place)?, (checked, video)))
        };
        self.queue(path, (observation, followed), admitted, move |job, (checked, video)| {
            job.in_time()?;
            let found = job.shared.engine.explain(&checked.request, video, &job.budget);
            if let Some(followed) = &job.followed {
                followed.computed("explain");
            }
            let mut explanation = found.map_err(|error| checked.named(error))?;
            if let Some(removal) = &mut explanation.removal {
                removal.field = checked.field(removal.field.clone());
            }
            Ok(convert::explanation(explanation))
        })
    }

    /// Queues a lookup of stored videos.
    pub(super) fn look_up(&self, mut request: GetRequest) -> Pending<GetResponse> {
        let aliases = self.shared.shell.aliases.current();
        let named = aliases.name(&mut request.index, &request.embedding_model, &*self.shared.shell.indexes);
        let (observation, followed) = (self.observe(&request.index), self.follow(&request.index, ""));
        let admitted = |place: &Place| {
            check_named(&self.shared.shell, &self.caller, self.method, named, &request.index, "")?;
            self.check_model(&request.index, &request.embedding_model)?;
            let lookups = convert::lookups(request, self.shared.shell.limits.max_batch_writes);
            let lookups = lookups.map_err(|error| status::of(&error.into(), ""))?;
            let convert::Lookups { index, videos, texts, attributes, with_vectors } = &lookups;
            if !texts.is_empty() {
                check_text_ids(self.shared, index, "text_ids".to_owned(), "")?;
            }
            let cost = self.shared.engine.expected_cost_of_lookup(index, videos, attributes, *with_vectors);
            self.use_rates(place, 0, cost)?;
            Ok((cost, self.admit(place)?, lookups))
        };
        self.queue("", (observation, followed), admitted, |job, lookups| {
            job.in_time()?;
            let convert::Lookups { index, videos, texts, attributes, with_vectors } = lookups;
            let engine = &job.shared.engine;
            let found = engine.get_within(&index, &videos, &attributes, with_vectors, &job.budget);
            if let Some(followed) = &job.followed {
                followed.computed("lookup");
            }
            let model = engine.embedding_model(&index)?.unwrap_or_default();
            found.map(|found| convert::get_response(found, texts, model))
        })
    }

    /// Checks that an index has the model that a lookup names, if it names one.
    fn check_model(&self, index: &str, model: &str) -> Result<(), Status> {
        if model.is_empty() || self.shared.shell.indexes.resolve(index).is_none() {
            return Ok(());
        }
        let expected = self.shared.shell.indexes.embedding_model(index);
        if expected.as_deref() == Some(model) {
            return Ok(());
        }
        let (index, found) = (index.to_owned(), model.to_owned());
        Err(status::of(&EngineError::EmbeddingModel { index, expected, found }.into(), ""))
    }

    /// Converts and checks a search.
    fn checked(&self, request: SearchRequest, named: Named, path: &str) -> Result<Checked, Status> {
        check_named(&self.shared.shell, &self.caller, self.method, named, &request.index, path)?;
        PageToken::check_index(&request.page_token, &request.index)
            .map_err(|error| status::of(&CallError::Precondition(error), path))?;
        let texts = FilterTexts::of(&request);
        if let Some(field) = convert::text_field(&request) {
            check_text_ids(self.shared, &request.index, field, path)?;
        }
        let request = convert::search_request(request).map_err(|error| status::of(&error.into(), path))?;
        quota::check(&self.limits, &request, path)?;
        let charge = match (texts.heap_bytes(&request.rules), self.memory) {
            (bytes @ 1.., Some(memory)) => Some(memory.charged(bytes)?),
            _ => None,
        };
        Ok(Checked { request, texts, _charge: charge })
    }

    /// Admits a request, and queues `work` on it for the compute pool. `admitted` returns its expected cost, its permit, and
    /// the request.
    fn queue<Q: Send + 'static, R: Message + Send + 'static>(
        &self,
        path: &str,
        (observation, followed): (Observation, Option<Box<Followed>>),
        admitted: impl FnOnce(&Place) -> Result<(u64, Permit, Q), Status>,
        work: impl FnOnce(&Job, Q) -> Result<R, EngineError> + Send + 'static,
    ) -> Pending<R> {
        let due = self.due();
        let place = self.place(due);
        let (cost, permit, request) = match admitted(&place) {
            Ok(admitted) => admitted,
            Err(status) => {
                observation.finish(status.code());
                if let Some(followed) = followed {
                    followed.finish(status.code());
                }
                return Pending::Refused(status);
            }
        };
        let engine_limits = self.caller.rights.limits.over_engine(self.shared.engine.limits());
        let charge = AnswerCharge::default();
        let room = charge.room(self.shared.shell.limits.max_response_bytes, self.memory.cloned());
        let mut budget = Budget::until(due).with_room(room).with_limits(engine_limits);
        budget.is_timed = followed.as_ref().is_some_and(|followed| followed.is_traced());
        let cancel = CancelOnDrop(budget.clone());
        let (shared, method) = (Arc::clone(self.shared), self.method);
        let mut job = Job { shared, method, budget, path: path.to_owned(), observation, followed };
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |turn| {
            let result = match turn {
                Turn::Compute(queued) => {
                    if let Some(followed) = &mut job.followed {
                        followed.begins(&queued);
                    }
                    job.run(|job| work(job, request))
                }
                Turn::Refused(status) => Err(status),
            };
            let is_answered = result.is_ok();
            // Before the answer is sent, so that the metrics already count a search whose answer the caller has.
            let code = result.as_ref().err().map_or(Code::Ok, Status::code);
            job.observation.finish(code);
            if let Some(followed) = job.followed {
                followed.finish(code);
            }
            drop(permit);
            // Fails if the caller is gone.
            let _ = answer.send(result);
            is_answered
        });
        self.shared.dispatcher.submit(&place, cost, run);
        Pending::Queued { answered, charge, _cancel: cancel }
    }

    /// Uses the rates of the client.
    fn use_rates(&self, place: &Place, searches: u64, cost: u64) -> Result<(), Status> {
        let Shared { quota, dispatcher, shell, .. } = &**self.shared;
        quota.take(&place.client, &self.limits, searches, cost, dispatcher.nanos(Instant::now())).map_err(
            |(reason, status)| {
                shell.metrics.load.refused_search(&place.client, reason);
                status
            },
        )
    }
}

/// Where the page after that of a request begins, within the limit of k.
fn next_page(request: &engine::SearchRequest, max_k: usize) -> Option<u32> {
    let next = request.offset.checked_add(request.k)?;
    let is_within = next.checked_add(request.k).is_some_and(|end| end <= max_k);
    u32::try_from(next).ok().filter(|_| is_within)
}

/// A search that may be queued.
struct Checked {
    request: engine::SearchRequest,
    texts: FilterTexts,
    _charge: Option<Charge>,
}

impl Checked {
    /// Names a field as the caller sent it.
    fn field(&self, field: engine::Field) -> engine::Field {
        self.texts.field(field)
    }

    /// Names the field of an error as the caller sent it.
    fn named(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::InvalidArgument { field, problem } => {
                EngineError::InvalidArgument { field: self.field(field), problem }
            }
            error => error,
        }
    }
}

/// The answer to a queued request. Dropping it cancels the search.
pub(super) enum Pending<R> {
    Refused(Status),
    Queued { answered: oneshot::Receiver<Result<R, Status>>, charge: AnswerCharge, _cancel: CancelOnDrop },
}

impl<R> Pending<R> {
    /// Returns the charge of the answer.
    pub(super) fn charge(&self) -> AnswerCharge {
        match self {
            Pending::Refused(_) => AnswerCharge::default(),
            Pending::Queued { charge, .. } => charge.clone(),
        }
    }

    /// Waits for the answer of a call with one request.
    pub(super) async fn response(self) -> Result<Response<R>, Status> {
        let charge = self.charge();
        self.answer().await.map(|answer| charge.attach(Response::new(answer)))
    }

    pub(super) async fn answer(self) -> Result<R, Status> {
        match self {
            Pending::Refused(status) => Err(status),
            Pending::Queued { answered, charge: _charge, _cancel } => {
                answered.await.unwrap_or_else(|_| Err(status::internal()))
            }
        }
    }
}

/// Ends the work of a caller that is gone.
pub(super) struct CancelOnDrop(pub(super) Budget);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// One admitted request, as it runs on the compute pool.
struct Job {
    shared: Arc<Shared>,
    method: &'static str,
    budget: Budget,
    /// The path of the request within the call.
    path: String,
    observation: Observation,
    /// `None` if nothing but its metrics is recorded.
    followed: Option<Box<Followed>>,
}

impl Job {
    /// Checks that the budget was not used up in the queue.
    fn in_time(&self) -> Result<(), EngineError> {
        if self.budget.is_expired() {
            Err(EngineError::DeadlineExceeded)
        } else if self.budget.is_cancelled() {
            Err(EngineError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Runs `work`.
    fn run<R: Message>(&self, work: impl FnOnce(&Self) -> Result<R, EngineError>) -> Result<R, Status> {
        // A panic would end the thread of the pool, and the process with it.
        let result = catch_unwind(AssertUnwindSafe(|| work(self))).map_err(|_| {
            tracing::error!(method = self.method, "a call panicked");
            status::internal()
        })?;
        let response = result.map_err(|error| match error {
            // A deadline ends a call by dropping it, which cancels the search. The reason is still the deadline.
            EngineError::Cancelled if self.budget.is_expired() => {
                status::of(&EngineError::DeadlineExceeded.into(), "")
            }
            error @ EngineError::NotInIndex { .. } => status::of(&error.into(), ""),
            error => status::of(&error.into(), &self.path),
        })?;
        status::check_size(&response, self.shared.shell.limits.max_response_bytes)?;
        Ok(response)
    }
}
