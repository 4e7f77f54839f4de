//! `Retrieval` over shards: single searches, batches, streams, explanations.
//!
//! What flows in: calls. What flows out: answers. One search is the business of `search.rs`.

use std::pin::Pin;
use std::sync::Arc;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::all::{Boxed, all};
use super::explain;
use super::search::search;
use super::state::{Router, RouterCall, code_of};
use crate::service::parts::{
    Answer, CallMemory, Caller, Deadline, EncodedBatch, EncodedResult, EncodedSearch, EncodedStreamItem,
    Incoming, InvalidField, Permit, Slot, Standing, deadline, status, without_blocking_others,
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

/// Searches, and encodes the answer. Counts the search.
async fn answer(
    call: &RouterCall<'_>,
    request: SearchRequest,
    path: &str,
    permit: Result<Permit, Status>,
) -> Result<EncodedSearch, Status> {
    let observation = call.observe(&request.index);
    let result = match permit {
        Ok(_permit) => search(call, request, path).await.and_then(|answer| {
            status::check_size(&answer, call.router.shell.limits.max_response_bytes)?;
            Ok(EncodedSearch::new(answer.encode_to_vec()))
        }),
        Err(refused) => {
            call.router.shell.metrics.load.refused_search(&call.client(), "in_flight");
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
        answer(&call, request.into_inner(), "", permit).await.map(Response::new)
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
            self.router.admission.admit(requests.len())
        };
        let permits = permits.inspect_err(|status| call.observe("").finish(status.code()))?;
        let one = |(position, (request, permit))| -> Boxed<'_, _> {
            let call = &call;
            Box::pin(
                async move { answer(call, request, &format!("requests[{position}]."), Ok(permit)).await },
            )
        };
        let running = requests.into_iter().zip(permits).enumerate().map(one).collect();
        let results =
            all(running).await.into_iter().map(|result| EncodedResult { result: Some(item(result)) });
        let response = EncodedBatch { results: results.collect() };
        status::check_size(&response, limits.max_response_bytes)?;
        Ok(Response::new(response))
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
        let answers = UnboundedReceiverStream::new(answers).then(move |started| async move {
            let Started { mut running, slot } = started?;
            let answered = async {
                match running.join_next().await {
                    Some(Ok(result)) => result,
                    Some(Err(_)) | None => Err(status::internal()),
                }
            };
            let result = deadline.bound(answered).await.unwrap_or_else(|| Err(deadline::exceeded()));
            drop(slot);
            Ok(EncodedStreamItem { item: Some(item(result)) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let call = RouterCall::of(&self.router, "Explain", &request)?;
        let request = request.into_inner();
        let observation = call.observe(request.request.as_ref().map_or("", |request| &request.index));
        let result = match self.router.admission.admit_one() {
            Ok(_permit) => explain::explain(&call, request).await,
            Err(refused) => Err(refused),
        };
        observation.finish(code_of(&result));
        result.map(Response::new)
    }
}

fn item(result: Result<EncodedSearch, Status>) -> Answer {
    match result {
        Ok(response) => Answer::Response(response),
        Err(status) => Answer::Error(status::to_item(&status)),
    }
}

/// A request of a stream in flight.
struct Started {
    /// Its only task, which ends when this is dropped.
    running: JoinSet<Result<EncodedSearch, Status>>,
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
                answer(&call, request, "", permit).await
            });
            Started { running, slot }
        });
        let is_last = item.is_err();
        if started.send(item).is_err() || is_last {
            return;
        }
    }
}
