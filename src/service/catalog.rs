//! `Catalog`: writes and lookups of single videos.
//!
//! What flows in: calls. What flows out: the result of a write once it is on disk, and the videos of a lookup. Writes
//! wait for the disk, so they run on blocking threads, a bounded number at a time. Lookups are admitted and computed like
//! searches.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::access::Standing;
use super::bounds::CallMemory;
use super::caller::Caller;
use super::deadline::Deadline;
use super::incoming::Incoming;
use super::inspect;
use super::proto::catalog_server::Catalog;
use super::proto::{
    DeleteRequest, GetMapRequest, GetMapResponse, GetRequest, GetResponse, ListIndexesRequest,
    ListIndexesResponse, ListValuesRequest, ListValuesResponse, RestoreRequest, StreamUpsertRequest,
    TakedownRequest, UpsertRequest, WriteResponse,
};
use super::read::ReadCall;
use super::shared::Shared;
use super::write::WriteCall;
use super::write_stream;
use crate::base::id::VideoId;
use crate::live::Mutation;

/// Takes a request apart: the index, the ids, and the ids as text.
type Parts<T> = fn(T) -> (String, Vec<u64>, Vec<String>);

/// `Catalog` over one engine.
pub(super) struct CatalogService {
    shared: Arc<Shared>,
}

impl CatalogService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Writes one mutation per id.
    async fn of_ids<T>(
        &self,
        method: &'static str,
        request: Request<T>,
        parts: Parts<T>,
        mutation: fn(VideoId) -> Mutation,
    ) -> Result<Response<WriteResponse>, Status> {
        let call = WriteCall::of(&self.shared, method, &request)?;
        let (index, video_ids, text_ids) = parts(request.into_inner());
        call.start_ids(&index, &video_ids, &text_ids, mutation).answer().await.map(Response::new)
    }
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    async fn upsert(&self, request: Request<UpsertRequest>) -> Result<Response<WriteResponse>, Status> {
        let call = WriteCall::of(&self.shared, "Upsert", &request)?;
        call.start_upsert(request.into_inner(), "").answer().await.map(Response::new)
    }

    type StreamUpsertStream = write_stream::Answers;

    async fn stream_upsert(
        &self,
        request: Request<Streaming<StreamUpsertRequest>>,
    ) -> Result<Response<Self::StreamUpsertStream>, Status> {
        let (deadline, caller) = (Deadline::of(&request), Caller::of(&request)?);
        let trace = self.shared.shell.trace_of(&request);
        let memory = CallMemory::of(&request);
        let shared = Arc::clone(&self.shared);
        let standing = Standing::of(&shared.shell, &caller, &request);
        let incoming =
            Incoming::of(&shared.shell, "StreamUpsert", request.into_inner(), deadline, memory, standing);
        Ok(Response::new(write_stream::answers(shared, incoming, deadline, caller, trace)))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<WriteResponse>, Status> {
        let parts = |DeleteRequest { index, video_ids, text_ids }| (index, video_ids, text_ids);
        self.of_ids("Delete", request, parts, Mutation::Delete).await
    }

    async fn takedown(&self, request: Request<TakedownRequest>) -> Result<Response<WriteResponse>, Status> {
        let parts = |TakedownRequest { index, video_ids, text_ids }| (index, video_ids, text_ids);
        self.of_ids("Takedown", request, parts, Mutation::Takedown).await
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<WriteResponse>, Status> {
        let parts = |RestoreRequest { index, video_ids, text_ids }| (index, video_ids, text_ids);
        self.of_ids("Restore", request, parts, Mutation::Restore).await
    }

    async fn list_indexes(
        &self,
        request: Request<ListIndexesRequest>,
    ) -> Result<Response<ListIndexesResponse>, Status> {
        inspect::indexes(&self.shared, request).await
    }

    async fn list_values(
        &self,
        request: Request<ListValuesRequest>,
    ) -> Result<Response<ListValuesResponse>, Status> {
        inspect::list_values(&self.shared, request).await
    }

    async fn get_map(&self, request: Request<GetMapRequest>) -> Result<Response<GetMapResponse>, Status> {
        inspect::get_map(&self.shared, request).await
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let memory = CallMemory::of(&request);
        let call = ReadCall::of(&self.shared, "Get", &request, memory.as_ref())?;
        call.look_up(request.into_inner()).response().await
    }
}
