//! `Retrieval`: single searches, batches, streams, explanations.
//!
//! What flows in: calls. What flows out: answers. One search is the business of `read.rs`.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::access::Standing;
use super::aliases::Aliases;
use super::answer::{Answer, EncodedBatch, EncodedResult, EncodedSearch, EncodedStreamItem};
use super::bounds::{AnswerCharge, CallMemory, without_blocking_others};
use super::caller::Caller;
use super::deadline::{self, Deadline};
use super::incoming::{Incoming, Slot};
use super::proto::retrieval_server::Retrieval;
use super::proto::{BatchSearchRequest, ExplainRequest, ExplainResponse, SearchRequest};
use super::read::{Pending, ReadCall};
use super::shared::Shared;
use super::status;

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
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<EncodedSearch>, Status> {
        let memory = CallMemory::of(&request);
        let call = ReadCall::of(&self.shared, "Search", &request, memory.as_ref())?;
        let aliases = self.shared.shell.aliases.current();
        call.search(&aliases, request.into_inner(), "", |place| call.admit(place)).response().await
    }

    async fn batch_search(
        &self,
        request: Request<BatchSearchRequest>,
    ) -> Result<Response<EncodedBatch>, Status> {
        let memory = CallMemory::of(&request);
        let call = ReadCall::of(&self.shared, "BatchSearch", &request, memory.as_ref())?;
        let requests = request.into_inner().requests;
        let permits = match call.admit_batch(requests.len()) {
            Ok(permits) => permits,
            Err(status) => {
                call.observe("").finish(status.code());
                return Err(status);
            }
        };
        let aliases = self.shared.shell.aliases.current();
        let start = |(position, (request, permit))| {
            call.search(&aliases, request, &format!("requests[{position}]."), |_| Ok(permit))
        };
        let started: Vec<Pending<EncodedSearch>> =
            requests.into_iter().zip(permits).enumerate().map(start).collect();
        let mut results = Vec::with_capacity(started.len());
        let charge = AnswerCharge::default();
        for pending in started {
            let own = pending.charge();
            let result = match pending.answer().await {
                Ok(response) => {
                    charge.join(&own);
                    Answer::Response(response)
                }
                Err(status) => Answer::Error(status::to_item(&status)),
            };
            results.push(EncodedResult { result: Some(result) });
        }
        let response = EncodedBatch { results };
        status::check_size(&response, self.shared.shell.limits.max_response_bytes)?;
        Ok(charge.attach(Response::new(response)))
    }

    type StreamSearchStream = Pin<Box<dyn Stream<Item = Result<EncodedStreamItem, Status>> + Send>>;

    async fn stream_search(
        &self,
        request: Request<Streaming<SearchRequest>>,
    ) -> Result<Response<Self::StreamSearchStream>, Status> {
        let (deadline, caller) = (Deadline::of(&request), Caller::of(&request)?);
        let trace = self.shared.shell.trace_of(&request);
        let memory = CallMemory::of(&request);
        let (started, answers) = mpsc::unbounded_channel();
        let shared = Arc::clone(&self.shared);
        let standing = Standing::of(&shared.shell, &caller, &request);
        let incoming =
            Incoming::of(&shared.shell, "StreamSearch", request.into_inner(), deadline, memory, standing);
        tokio::spawn(async move {
            let memory = incoming.memory();
            let call = ReadCall::new(&shared, "StreamSearch", caller, deadline, memory.as_ref(), trace);
            let read = read_stream(&call, &shared.shell.aliases, incoming, started);
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
                        Answer::Response(response)
                    }
                    Err(status) => Answer::Error(status::to_item(&status)),
                };
                Ok(EncodedStreamItem { item: Some(item) })
            }
        });
        let answers: Self::StreamSearchStream = Box::pin(answers);
        Ok(charge.attach(Response::new(answers)))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let memory = CallMemory::of(&request);
        let call = ReadCall::of(&self.shared, "Explain", &request, memory.as_ref())?;
        call.explain(request.into_inner()).response().await
    }
}

/// A request of a stream in flight.
struct Started {
    pending: Pending<EncodedSearch>,
    /// Its slot in the window of the stream, held until it is answered.
    slot: Slot,
}

/// Starts the requests of a stream as they arrive, a bounded number at a time, until the stream ends, the deadline
/// passes, the server drains, or the receiver of `started` is dropped.
async fn read_stream(
    call: &ReadCall<'_>,
    aliases: &Aliases,
    mut incoming: Incoming<SearchRequest>,
    started: mpsc::UnboundedSender<Result<Started, Status>>,
) {
    while let Some(next) = incoming.next(started.closed()).await {
        let item = next.map(|(slot, request)| Started {
            pending: call.search(&aliases.current(), request, "", |place| call.admit(place)),
            slot,
        });
        let is_last = item.is_err();
        if started.send(item).is_err() || is_last {
            return;
        }
    }
}
