//! `Retrieval` over shards: single searches, batches, streams, explanations.
//!
//! What flows in: calls. What flows out: answers. One search is the business of `search.rs`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::explain;
use super::search::search;
use super::state::{Router, RouterCall, code_of};
use crate::service::parts::{
    AliasMap, Answer, AnswerCharge, CallMemory, Caller, Deadline, EncodedBatch, EncodedResult, EncodedSearch,
    EncodedStreamItem, Incoming, InvalidField, Permit, Slot, Standing, deadline, status,
    without_blocking_others,
};
use crate::service::proto::retrieval_server::Retrieval;
use crate::service::proto::{BatchSearchRequest, ExplainRequest, ExplainResponse, SearchRequest};

/// `Retrieval` over the shards of each index.
pub(super) struct RetrievalService {
    router: Arc<Router>,
}

impl RetrievalService {
    pub(super) fn new(router: Arc<Router>) -> Self {
        Self { router }
    }
}

/// An encoded answer, and the charge of its memory, to be held until it is sent.
type Charged = (EncodedSearch, AnswerCharge);

/// Searches, and encodes the answer. Counts the search. `aliases`: those of the call.
async fn answer(
    call: &RouterCall<'_>,
    aliases: &AliasMap,
    mut request: SearchRequest,
    path: &str,
    permit: Result<Permit, Status>,
) -> Result<Charged, Status> {
    let named = call.named(aliases, &mut request.index, &request.embedding_model);
    let observation = call.observe(&request.index);
    let result = match permit {
        Ok(_permit) => search(call, named, request, path).await.and_then(|answer| {
            status::check_size(&answer, call.router.shell.limits.max_response_bytes)?;
            let charge = call.charged(answer.encoded_len())?.map(AnswerCharge::of).unwrap_or_default();
            Ok((EncodedSearch::new(answer.encode_to_vec()), charge))
        }),
        Err(refused) => {
            call.count_refused(&refused);
            Err(refused)
        }
    };
    observation.finish(code_of(&result));
    result
}

#[tonic::async_trait]
impl Retrieval for RetrievalService {
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<EncodedSearch>, Status> {
        let call = RouterCall::of(&self.router, "Search", &request)?;
        let permit = self.router.admission.admit_one();
        let aliases = self.router.shell.aliases.current();
        let (answer, charge) = answer(&call, &aliases, request.into_inner(), "", permit).await?;
        Ok(charge.attach(Response::new(answer)))
    }

    async fn batch_search(
        &self,
        request: Request<BatchSearchRequest>,
    ) -> Result<Response<EncodedBatch>, Status> {
        let call = RouterCall::of(&self.router, "BatchSearch", &request)?;
        let requests = request.into_inner().requests;
        let limits = &self.router.shell.limits;
        let max_batch = call.caller.rights.limits.max_batch.unwrap_or(limits.max_batch);
        let permits = if requests.len() > max_batch {
            let problem = format!("expected at most {max_batch} searches, found {}", requests.len());
            Err(status::of(&InvalidField::new("requests", problem).into(), ""))
        } else {
            self.router.admission.admit(requests.len()).inspect_err(|status| call.count_refused(status))
        };
        let permits = permits.inspect_err(|status| call.observe("").finish(status.code()))?;
        let (router, caller, deadline, memory) = (&self.router, call.caller, call.deadline, call.memory);
        let aliases = router.shell.aliases.current();
        let run = |(position, (request, permit))| {
            let aliases = Arc::clone(&aliases);
            let (router, caller, memory) = (Arc::clone(router), caller.clone(), memory.clone());
            async move {
                let call = RouterCall::new(&router, "BatchSearch", caller, deadline, memory);
                answer(&call, &aliases, request, &format!("requests[{position}]."), Ok(permit)).await
            }
        };
        let results = each(requests.into_iter().zip(permits).enumerate().map(run)).await;
        let charge = AnswerCharge::default();
        let results = results.into_iter().map(|result| EncodedResult { result: Some(item(result, &charge)) });
        let response = EncodedBatch { results: results.collect() };
        status::check_size(&response, limits.max_response_bytes)?;
        Ok(charge.attach(Response::new(response)))
    }

    type StreamSearchStream = Pin<Box<dyn Stream<Item = Result<EncodedStreamItem, Status>> + Send>>;

    async fn stream_search(
        &self,
        request: Request<Streaming<SearchRequest>>,
    ) -> Result<Response<Self::StreamSearchStream>, Status> {
        let (deadline, caller) = (Deadline::of(&request), Caller::of(&request)?);
        let memory = CallMemory::of(&request);
        let standing = Standing::of(&self.router.shell, &caller, &request);
        let shell = &self.router.shell;
        let incoming =
            Incoming::of(shell, "StreamSearch", request.into_inner(), deadline, memory.clone(), standing);
        let (started, answers) = mpsc::unbounded_channel();
        let router = Arc::clone(&self.router);
        tokio::spawn(async move {
            let read = read_stream(&router, incoming, caller, deadline, started);
            without_blocking_others(memory.as_deref(), read).await;
        });
        let charge = AnswerCharge::default();
        let of_stream = charge.clone();
        let answers = UnboundedReceiverStream::new(answers).then(move |started| {
            let of_stream = of_stream.clone();
            async move {
                let Started { mut running, slot } = started?;
                let answered = async {
                    match running.join_next().await {
                        Some(Ok(result)) => result,
                        Some(Err(_)) | None => Err(status::internal()),
                    }
                };
                let result = deadline.bound(answered).await.unwrap_or_else(|| Err(deadline::exceeded()));
                drop(slot);
                Ok(EncodedStreamItem { item: Some(item(result, &of_stream)) })
            }
        });
        let answers: Self::StreamSearchStream = Box::pin(answers);
        Ok(charge.attach(Response::new(answers)))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let call = RouterCall::of(&self.router, "Explain", &request)?;
        let mut request = request.into_inner();
        let search = request.request.get_or_insert_default();
        let aliases = self.router.shell.aliases.current();
        let named = call.named(&aliases, &mut search.index, &search.embedding_model);
        let observation = call.observe(&search.index);
        let result = match self.router.admission.admit_one() {
            Ok(_permit) => explain::explain(&call, named, request).await,
            Err(refused) => {
                call.count_refused(&refused);
                Err(refused)
            }
        };
        observation.finish(code_of(&result));
        result.map(Response::new)
    }
}

/// The answer to one of several requests. Its charge joins that of the call.
fn item(result: Result<Charged, Status>, of_call: &AnswerCharge) -> Answer {
    match result {
        Ok((response, charge)) => {
            of_call.join(&charge);
            Answer::Response(response)
        }
        Err(status) => Answer::Error(status::to_item(&status)),
    }
}

/// Runs each of `works` on a task of its own, and returns their results in their order. Dropping the wait ends the tasks.
async fn each<T: Send + 'static>(
    works: impl Iterator<Item = impl Future<Output = Result<T, Status>> + Send + 'static>,
) -> Vec<Result<T, Status>> {
    let mut running = JoinSet::new();
    let mut results = Vec::new();
    for (position, work) in works.enumerate() {
        running.spawn(async move { (position, work.await) });
        results.push(Err(status::internal()));
    }
    while let Some(done) = running.join_next().await {
        match done {
            Ok((position, result)) => results[position] = result,
            Err(error) => tracing::error!(%error, "a search of a batch failed"),
        }
    }
    results
}

/// A request of a stream in flight.
struct Started {
    /// Its only task, which ends when this is dropped.
    running: JoinSet<Result<Charged, Status>>,
    /// Its slot in the window of the stream, held until it is answered.
    slot: Slot,
}

/// Starts the requests of a stream as they arrive, a bounded number at a time.
async fn read_stream(
    router: &Arc<Router>,
    mut incoming: Incoming<SearchRequest>,
    caller: Caller,
    deadline: Deadline,
    started: mpsc::UnboundedSender<Result<Started, Status>>,
) {
    while let Some(next) = incoming.next(started.closed()).await {
        let item = next.map(|(slot, request)| {
            let mut running = JoinSet::new();
            let (router, caller, memory) = (Arc::clone(router), caller.clone(), incoming.memory());
            running.spawn(async move {
                let call = RouterCall::new(&router, "StreamSearch", caller, deadline, memory);
                let permit = router.admission.admit_one();
                answer(&call, &router.shell.aliases.current(), request, "", permit).await
            });
            Started { running, slot }
        });
        let is_last = item.is_err();
        if started.send(item).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn searches_of_a_batch_are_answered_in_order_and_a_panic_is_that_of_one() {
        let work = |millis: u64| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            assert_ne!(millis, 2, "on purpose");
            Ok(millis)
        };
        let results = each([3, 2, 1].into_iter().map(work)).await;
        let values: Vec<_> = results.iter().map(|result| result.as_ref().ok()).collect();
        assert_eq!(values, [Some(&3), None, Some(&1)]);
    }

    #[tokio::test]
    async fn searches_of_a_batch_end_when_nobody_waits_for_them() {
        struct Running(Arc<AtomicUsize>);
        impl Drop for Running {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let running = Arc::new(AtomicUsize::new(0));
        let work = |_| {
            running.fetch_add(1, Ordering::Relaxed);
            let held = Running(Arc::clone(&running));
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok(())
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(20), each((0..3).map(work))).await;
        assert!(waited.is_err());
        let ended = async {
            while running.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    }
}
