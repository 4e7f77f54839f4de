//! The way to one replica.
//!
//! What flows in: a call and its timeout. What flows out: the reply, or the status. A trait, so that tests can put anything in
//! the place of a network.

use std::time::Duration;

use shortlist_client::Connection;
use shortlist_client::proto::admin_client::AdminClient;
use shortlist_client::proto::catalog_client::CatalogClient;
use shortlist_client::proto::retrieval_client::RetrievalClient;
use tonic::{Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::all::Boxed;
use crate::service::proto::{
    DeleteRequest, ExplainRequest, ExplainResponse, GetRequest, GetResponse, GetStatusRequest,
    GetStatusResponse, RestoreRequest, SearchRequest, SearchResponse, TakedownRequest, UpsertRequest,
    WriteResponse,
};

/// A call of one replica.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Search(SearchRequest),
    Explain(ExplainRequest),
    Get(GetRequest),
    Upsert(UpsertRequest),
    Delete(DeleteRequest),
    Takedown(TakedownRequest),
    Restore(RestoreRequest),
    GetStatus(GetStatusRequest),
    /// Whether the index of this name is served.
    Health(String),
}

impl Call {
    /// Whether a second replica may be asked before the first one has answered.
    pub(super) fn may_hedge(&self) -> bool {
        matches!(self, Call::Search(_) | Call::Get(_))
    }

    /// Whether it changes the index.
    pub(super) fn is_write(&self) -> bool {
        matches!(self, Call::Upsert(_) | Call::Delete(_) | Call::Takedown(_) | Call::Restore(_))
    }
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Search(Box<SearchResponse>),
    Explain(Box<ExplainResponse>),
    Get(GetResponse),
    Write(WriteResponse),
    Status(GetStatusResponse),
    Health(bool),
}

/// The way to one replica.
pub(super) trait Transport: Send + Sync {
    /// Makes a call. Dropping the future cancels it.
    fn call(&self, call: Call, timeout: Duration) -> Boxed<'static, Result<Reply, Status>>;
}

/// A replica at an address.
pub(super) struct Remote {
    connection: Connection,
    /// The largest answer that is read.
    max_bytes: usize,
}

impl Remote {
    pub(super) fn new(connection: Connection, max_bytes: usize) -> Self {
        Self { connection, max_bytes }
    }
}

fn with_timeout<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

impl Transport for Remote {
    fn call(&self, call: Call, timeout: Duration) -> Boxed<'static, Result<Reply, Status>> {
        let (connection, max) = (self.connection.clone(), self.max_bytes);
        let retrieval = |connection| RetrievalClient::new(connection).max_decoding_message_size(max);
        let catalog = |connection| CatalogClient::new(connection).max_decoding_message_size(max);
        let admin = |connection| AdminClient::new(connection).max_decoding_message_size(max);
        let write = |response: Response<WriteResponse>| Reply::Write(response.into_inner());
        match call {
            Call::Search(request) => {
                let (mut client, request) = (retrieval(connection), with_timeout(request, timeout));
                Box::pin(async move {
                    client
                        .search(request)
                        .await
                        .map(|response| Reply::Search(Box::new(response.into_inner())))
                })
            }
            Call::Explain(request) => {
                let (mut client, request) = (retrieval(connection), with_timeout(request, timeout));
                Box::pin(async move {
                    let response = client.explain(request).await?;
                    Ok(Reply::Explain(Box::new(response.into_inner())))
                })
            }
            Call::Get(request) => {
                let (mut client, request) = (catalog(connection), with_timeout(request, timeout));
                Box::pin(async move { client.get(request).await.map(|found| Reply::Get(found.into_inner())) })
            }
            Call::Upsert(request) => {
                let (mut client, request) = (catalog(connection), with_timeout(request, timeout));
                Box::pin(async move { client.upsert(request).await.map(write) })
            }
            Call::Delete(request) => {
                let (mut client, request) = (catalog(connection), with_timeout(request, timeout));
                Box::pin(async move { client.delete(request).await.map(write) })
            }
            Call::Takedown(request) => {
                let (mut client, request) = (catalog(connection), with_timeout(request, timeout));
                Box::pin(async move { client.takedown(request).await.map(write) })
            }
            Call::Restore(request) => {
                let (mut client, request) = (catalog(connection), with_timeout(request, timeout));
                Box::pin(async move { client.restore(request).await.map(write) })
            }
            Call::GetStatus(request) => {
                let (mut client, request) = (admin(connection), with_timeout(request, timeout));
                Box::pin(async move {
                    client.get_status(request).await.map(|found| Reply::Status(found.into_inner()))
                })
            }
            Call::Health(service) => {
                let mut client = HealthClient::new(connection);
                let request = with_timeout(HealthCheckRequest { service }, timeout);
                Box::pin(async move {
                    let status = client.check(request).await?.into_inner().status();
                    Ok(Reply::Health(status == ServingStatus::Serving))
                })
            }
        }
    }
}
