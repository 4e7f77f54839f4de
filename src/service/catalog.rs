//! `Catalog`: batches of writes, and videos one by one.
//!
//! What flows in: calls. What flows out: what was written, once it is on disk. Writing waits for the disk and
//! looking up for pages of a mapped file, so both run on blocking threads, a bounded number at a time. A write that
//! has begun is finished and answered, deadline or not.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status, Streaming};

use super::admission::Permit;
use super::convert::{self, Batch};
use super::deadline::{self, Begun, Deadline};
use super::metrics::Observation;
use super::proto::catalog_server::Catalog;
use super::proto::{
    DeleteRequest, GetRequest, GetResponse, RestoreRequest, StreamUpsertRequest, TakedownRequest,
    UpsertRequest, WriteResponse,
};
use super::retrieval::check_size;
use super::{Shared, status, write_stream};
use crate::base::id::VideoId;
use crate::engine::{EngineError, WriteMode};
use crate::live::Mutation;

/// `Catalog` over one engine.
pub(super) struct CatalogService {
    shared: Arc<Shared>,
}

impl CatalogService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// One mutation for each id.
    async fn of_ids<T>(
        &self,
        method: &'static str,
        request: Request<T>,
        parts: fn(T) -> (String, Vec<u64>),
        mutation: fn(VideoId) -> Mutation,
    ) -> Result<Response<WriteResponse>, Status> {
        let call = WriteCall::of(&self.shared, method, &request);
        let (index, video_ids) = parts(request.into_inner());
        let observation = call.observe(&index);
        let batch = convert::batch_of_ids(index, video_ids, self.shared.limits.max_batch_writes, mutation);
        call.start(batch, "", observation).answer().await.map(Response::new)
    }
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    async fn upsert(&self, request: Request<UpsertRequest>) -> Result<Response<WriteResponse>, Status> {
        let call = WriteCall::of(&self.shared, "Upsert", &request);
        call.start_upsert(request.into_inner(), "").answer().await.map(Response::new)
    }

    type StreamUpsertStream = write_stream::Answers;

    async fn stream_upsert(
        &self,
        request: Request<Streaming<StreamUpsertRequest>>,
    ) -> Result<Response<Self::StreamUpsertStream>, Status> {
        let deadline = Deadline::of(&request);
        Ok(Response::new(write_stream::answers(Arc::clone(&self.shared), request.into_inner(), deadline)))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<WriteResponse>, Status> {
        let parts = |DeleteRequest { index, video_ids }| (index, video_ids);
        self.of_ids("Delete", request, parts, Mutation::Delete).await
    }

    async fn takedown(&self, request: Request<TakedownRequest>) -> Result<Response<WriteResponse>, Status> {
        let parts = |TakedownRequest { index, video_ids }| (index, video_ids);
        self.of_ids("Takedown", request, parts, Mutation::Takedown).await
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<WriteResponse>, Status> {
        let parts = |RestoreRequest { index, video_ids }| (index, video_ids);
        self.of_ids("Restore", request, parts, Mutation::Restore).await
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        let observation = observe(&self.shared, "Get", &request.index, deadline);
        let result = get(&self.shared, request).await;
        observation.finish(result.as_ref().err().map_or(Code::Ok, Status::code));
        result.map(Response::new)
    }
}

async fn get(shared: &Arc<Shared>, request: GetRequest) -> Result<GetResponse, Status> {
    let refused = |error| status::of(&error, "");
    let lookups = convert::lookups(request, shared.limits.max_batch_writes).map_err(refused)?;
    // A look-up is no more than a search, and counted as one.
    let permit = shared.admission.admit_one()?;
    let of_lookups = Arc::clone(shared);
    let looked_up = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let convert::Lookups { index, videos, attributes, with_vectors } = lookups;
        of_lookups.engine.get(&index, &videos, &attributes, with_vectors).map(convert::get_response)
    });
    let response = looked_up.await.map_err(|error| failed("Get", &error))?.map_err(refused)?;
    check_size(&response, shared.limits.max_response_bytes)?;
    Ok(response)
}

/// Begins to observe a request for the index of this name.
fn observe(shared: &Shared, method: &'static str, index: &str, deadline: Deadline) -> Observation {
    Observation::begin(&shared.metrics, method, shared.engine.resolve(index).unwrap_or_default(), deadline)
}

/// What became of a thread that did not come to its end.
fn failed(method: &'static str, error: &tokio::task::JoinError) -> Status {
    tracing::error!(method, %error, "a request failed");
    status::internal()
}

/// What the writes of one call have in common.
#[derive(Clone)]
pub(super) struct WriteCall<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) method: &'static str,
    pub(super) deadline: Deadline,
    pub(super) begun: Begun,
}

impl<'a> WriteCall<'a> {
    fn of<T>(shared: &'a Arc<Shared>, method: &'static str, request: &Request<T>) -> Self {
        Self { shared, method, deadline: Deadline::of(request), begun: Begun::of(request) }
    }

    fn observe(&self, index: &str) -> Observation {
        observe(self.shared, self.method, index, self.deadline)
    }

    /// Begins to write videos. `path` leads to the request within the call.
    pub(super) fn start_upsert(&self, request: UpsertRequest, path: &'static str) -> PendingWrite {
        let observation = self.observe(&request.index);
        self.start(convert::upsert_batch(request, self.shared.limits.max_batch_writes), path, observation)
    }

    fn start(
        &self,
        batch: Result<Batch, EngineError>,
        path: &'static str,
        observation: Observation,
    ) -> PendingWrite {
        match self.admit(batch, path) {
            Ok((batch, permit)) => self.write(batch, path, permit, observation),
            Err(status) => {
                observation.finish(status.code());
                PendingWrite::Refused(status)
            }
        }
    }

    fn admit(
        &self,
        batch: Result<Batch, EngineError>,
        path: &'static str,
    ) -> Result<(Batch, Permit), Status> {
        let batch = batch.map_err(|error| status::of(&error, path))?;
        check_whole(&batch, path)?;
        Ok((batch, self.shared.write_admission.admit_one()?))
    }

    /// Whoever hangs up does not stop it.
    fn write(
        &self,
        batch: Batch,
        path: &'static str,
        permit: Permit,
        observation: Observation,
    ) -> PendingWrite {
        let (shared, method, deadline) = (Arc::clone(self.shared), self.method, self.deadline);
        let begun = self.begun.clone();
        let written = tokio::task::spawn_blocking(move || {
            let result =
                if begun.before(deadline) { write(&shared, batch, path) } else { Err(deadline::exceeded()) };
            // Before the answer is out, so that what the caller sees next has counted this write.
            observation.finish(result.as_ref().err().map_or(Code::Ok, Status::code));
            drop(permit);
            result
        });
        PendingWrite::Started { written, method }
    }
}

/// An answer to be waited for.
pub(super) enum PendingWrite {
    Refused(Status),
    Started { written: JoinHandle<Result<WriteResponse, Status>>, method: &'static str },
}

impl PendingWrite {
    pub(super) async fn answer(self) -> Result<WriteResponse, Status> {
        match self {
            PendingWrite::Refused(status) => Err(status),
            PendingWrite::Started { written, method } => {
                written.await.unwrap_or_else(|error| Err(failed(method, &error)))
            }
        }
    }
}

fn write(shared: &Shared, batch: Batch, path: &str) -> Result<WriteResponse, Status> {
    let Batch { index, mode, mutations, mut outcome } = batch;
    let mut written =
        shared.engine.write(&index, mutations, mode).map_err(|error| status::of(&error, path))?;
    outcome.add(std::mem::take(&mut written.refused));
    if mode == WriteMode::AllOrNothing {
        check_outcome(&outcome, path)?;
    }
    let response = outcome
        .response(&written, |error, item| status::to_item(&status::of(error, &format!("{path}{item}"))));
    check_size(&response, shared.limits.max_response_bytes)?;
    Ok(response)
}

/// # Errors
/// What is wrong with the first item that is not sound, if one is not and the others are not written without it.
fn check_whole(batch: &Batch, path: &str) -> Result<(), Status> {
    match batch.mode {
        WriteMode::AllOrNothing => check_outcome(&batch.outcome, path),
        WriteMode::EachAlone => Ok(()),
    }
}

fn check_outcome(outcome: &convert::Outcome, path: &str) -> Result<(), Status> {
    match outcome.refused.first() {
        Some((position, error)) => Err(status::of(error, &format!("{path}{}", outcome.path(*position)))),
        None => Ok(()),
    }
}
