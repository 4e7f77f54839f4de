//! One method per call.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, TimeoutExpired};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::builder::Builder;
use crate::error::Error;
use crate::proto::admin_client::AdminClient;
use crate::proto::batch_search_result::Result as BatchResult;
use crate::proto::catalog_client::CatalogClient;
use crate::proto::retrieval_client::RetrievalClient;
use crate::proto::{
    ActivateRequest, ActivateResponse, BatchSearchRequest, CancelRebuildRequest, CancelRebuildResponse,
    CompareGenerationsRequest, CompareGenerationsResponse, DeleteRequest, ExplainRequest, ExplainResponse,
    GetHistoryRequest, GetHistoryResponse, GetMapRequest, GetMapResponse, GetRequest, GetResponse,
    GetStatusRequest, GetStatusResponse, ListAliasesRequest, ListAliasesResponse, ListChangesRequest,
    ListChangesResponse, ListGenerationsRequest, ListGenerationsResponse, ListIndexesRequest,
    ListIndexesResponse, ListValuesRequest, ListValuesResponse, RebuildRequest, RebuildResponse,
    RestoreRequest, SampleUsersRequest, SampleUsersResponse, SearchRequest, SearchResponse, SearchStreamItem,
    SetAliasRequest, SetAliasResponse, SetShadowRequest, SetShadowResponse, StreamUpsertRequest,
    StreamUpsertResponse, TakedownRequest, UpsertRequest, WriteResponse,
};
use crate::retry::{self, Budget};
use crate::servers::{Connection, Servers};

/// The largest answer to accept, in bytes. Larger than what servers send by default.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A client of one or more servers.
///
/// Calls go to the servers in turn. An attempt that another server, or the same one a little later, may answer is
/// repeated, up to four times within the timeout.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

/// What the clones of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) servers: Servers,
    pub(crate) budget: Budget,
    pub(crate) has_retries: bool,
}

/// A method that sends its request to the first server that answers.
macro_rules! call {
    ($(#[$doc:meta])* $name:ident, $client:ident: $request:ty => $response:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`Error`] if the server refuses the request, or none answers within the timeout.
        pub async fn $name(&self, request: $request) -> Result<$response, Error> {
            self.call(request, |connection, request| async move {
                let client = $client::new(connection).max_decoding_message_size(MAX_ANSWER_BYTES);
                { client }.$name(request).await
            })
            .await
        }
    };
}

impl Client {
    /// Starts the description of a client of these servers, separated by commas, such as `10.0.0.1:50051,10.0.0.2:50051`.
    pub fn builder(addresses: &str) -> Builder {
        Builder::new(addresses)
    }

    pub(crate) fn new(shared: Arc<Shared>, timeout: Duration) -> Self {
        Self { shared, timeout }
    }

    /// The same client with another time for a call and its retries.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    call! {
        /// Returns the best candidates for one query.
        search, RetrievalClient: SearchRequest => SearchResponse
    }

    /// Returns whether a service or an index of a server says that it serves. The name of the server as a whole is empty.
    /// Needs no credential.
    ///
    /// # Errors
    /// [`Error`] if no server answers within the timeout, or it has nothing of this name.
    pub async fn is_serving(&self, name: &str) -> Result<bool, Error> {
        let request = HealthCheckRequest { service: name.to_owned() };
        let check = |connection, request| async move { HealthClient::new(connection).check(request).await };
        Ok(self.call(request, check).await?.status() == ServingStatus::Serving)
    }

    /// Runs several searches. Returns one result per request, in their order.
    ///
    /// # Errors
    /// [`Error`] if the batch as a whole is refused, or no server answers within the timeout.
    pub async fn batch_search(
        &self,
        requests: Vec<SearchRequest>,
    ) -> Result<Vec<Result<SearchResponse, Error>>, Error> {
        let request = BatchSearchRequest { requests };
        let answer = self
            .call(request, |connection, request| async move {
                let client = RetrievalClient::new(connection).max_decoding_message_size(MAX_ANSWER_BYTES);
                { client }.batch_search(request).await
            })
            .await?;
        let result = |result| match result {
            Some(BatchResult::Response(response)) => Ok(response),
            Some(BatchResult::Error(status)) => Err(Error::of_item(&status)),
            None => Err(Error::from(&Status::internal("the server sent no result for this search"))),
        };
        Ok(answer.results.into_iter().map(|item| result(item.result)).collect())
    }

    /// Searches over one long-lived stream, which one server answers in the order of the requests. It has no timeout and is
    /// not repeated.
    ///
    /// # Errors
    /// [`Error`] if the server refuses the stream or cannot be reached.
    pub async fn stream_search(
        &self,
        requests: impl Stream<Item = SearchRequest> + Send + 'static,
    ) -> Result<Streaming<SearchStreamItem>, Error> {
        let connection = self.shared.servers.next(&mut Vec::new());
        let client = RetrievalClient::new(connection).max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = { client }.stream_search(requests).await;
        answer.map(Response::into_inner).map_err(|status| Error::from(&status))
    }

    call! {
        /// Explains why a video is, or is not, in the answer to a request. Scores every video of the index.
        explain, RetrievalClient: ExplainRequest => ExplainResponse
    }
    call! {
        /// Inserts or replaces videos.
        upsert, CatalogClient: UpsertRequest => WriteResponse
    }
    /// Inserts or replaces videos over one long-lived stream, which one server answers in the order of the requests. It has no
    /// timeout and is not repeated. The next request is taken when the server has room for it.
    ///
    /// # Errors
    /// [`Error`] if the server refuses the stream or cannot be reached.
    pub async fn stream_upsert(
        &self,
        requests: impl Stream<Item = StreamUpsertRequest> + Send + 'static,
    ) -> Result<Streaming<StreamUpsertResponse>, Error> {
        let connection = self.shared.servers.next(&mut Vec::new());
        let client = CatalogClient::new(connection).max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = { client }.stream_upsert(requests).await;
        answer.map(Response::into_inner).map_err(|status| Error::from(&status))
    }

    call! {
        /// Deletes videos.
        delete, CatalogClient: DeleteRequest => WriteResponse
    }
    call! {
        /// Takes videos down until they are restored.
        takedown, CatalogClient: TakedownRequest => WriteResponse
    }
    call! {
        /// Restores videos that were taken down.
        restore, CatalogClient: RestoreRequest => WriteResponse
    }
    call! {
        /// Looks videos up.
        get, CatalogClient: GetRequest => GetResponse
    }
    call! {
        /// Returns the state of one index, or of all.
        get_status, AdminClient: GetStatusRequest => GetStatusResponse
    }
    call! {
        /// Makes a generation current.
        activate, AdminClient: ActivateRequest => ActivateResponse
    }
    call! {
        /// Starts to build the next generation.
        rebuild, AdminClient: RebuildRequest => RebuildResponse
    }
    call! {
        /// Cancels a running rebuild.
        cancel_rebuild, AdminClient: CancelRebuildRequest => CancelRebuildResponse
    }
    call! {
        /// Sets what an alias stands for.
        set_alias, AdminClient: SetAliasRequest => SetAliasResponse
    }
    call! {
        /// Returns all aliases.
        list_aliases, AdminClient: ListAliasesRequest => ListAliasesResponse
    }
    call! {
        /// Returns the last hour of the searches of an index.
        get_history, AdminClient: GetHistoryRequest => GetHistoryResponse
    }
    call! {
        /// Describes the generations of an index.
        list_generations, AdminClient: ListGenerationsRequest => ListGenerationsResponse
    }
    call! {
        /// Compares two generations by answers to searches of sample users.
        compare_generations, AdminClient: CompareGenerationsRequest => CompareGenerationsResponse
    }
    call! {
        /// Returns some users, to try searches with.
        sample_users, AdminClient: SampleUsersRequest => SampleUsersResponse
    }
    call! {
        /// Returns the newest changes.
        list_changes, AdminClient: ListChangesRequest => ListChangesResponse
    }
    call! {
        /// Describes the indexes that the caller may use.
        list_indexes, CatalogClient: ListIndexesRequest => ListIndexesResponse
    }
    call! {
        /// Returns the most frequent values of an attribute.
        list_values, CatalogClient: ListValuesRequest => ListValuesResponse
    }
    call! {
        /// Returns a picture of an index.
        get_map, CatalogClient: GetMapRequest => GetMapResponse
    }
    call! {
        /// Begins or ends to repeat searches on a candidate.
        set_shadow, AdminClient: SetShadowRequest => SetShadowResponse
    }

    /// Calls one server after another, until one answers, none can, or the time is up.
    async fn call<Q, R, F>(&self, request: Q, once: impl Fn(Connection, Request<Q>) -> F) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let Shared { servers, budget, has_retries } = &*self.shared;
        // A timeout that never ends is none.
        let deadline = Instant::now().checked_add(self.timeout);
        let mut asked = Vec::with_capacity(retry::MAX_ATTEMPTS as usize);
        let mut failure: Option<Error> = None;
        for attempt in 0.. {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut sent = Request::new(request.clone());
            if let Some(left) = left {
                sent.set_timeout(left);
            }
            let answer = once(servers.next(&mut asked), sent);
            let answer = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, answer).await,
                None => Ok(answer.await),
            };
            let status = match answer {
                Ok(Ok(response)) => {
                    budget.succeed();
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) if !has_timed_out(&status) => status,
                // What failed before says more.
                _ => return Err(failure.unwrap_or_else(Error::deadline_exceeded)),
            };
            let retry = || retry::delay(budget, &status, attempt, asked.len() < servers.len());
            let delay = has_retries.then(retry).flatten();
            let error = Error::from(&status);
            match delay {
                Some(delay) if deadline.is_none_or(|deadline| Instant::now() + delay < deadline) => {
                    tokio::time::sleep(delay).await;
                    failure = Some(error);
                }
                _ => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }
}

/// Whether the connection ended a call at its timeout, which it does, too: a little earlier, as it rounds the time down.
fn has_timed_out(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_timeout_of_the_connection_is_no_other_cancellation() {
        let timed_out = Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(timed_out.code(), Code::Cancelled);
        assert!(has_timed_out(&timed_out));
        assert!(!has_timed_out(&Status::cancelled("Timeout expired")));
        assert!(!has_timed_out(&Status::from_error(Box::new(std::io::Error::other("broken")))));
    }
}
