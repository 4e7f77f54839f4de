//! Batches and streams, and early ends of a search: deadline, cancelled call, admission limit.

use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{BatchSearchRequest, SearchRequest, batch_search_result, search_stream_item};
use shortlist::service::{ServiceLimits, ServiceOptions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};
use tonic_types::{BadRequest, StatusExt};

use crate::harness::wire::{exact, ids};
use crate::harness::{Setup, TestIndex, TestServer, request};

/// A search with the embedding of a row, so that each row has a distinct answer.
fn like(index: &TestIndex, row: usize) -> SearchRequest {
    SearchRequest { params: exact(), ..request(&index.rows[row], 3) }
}

fn expected(index: &TestIndex, row: usize) -> Vec<u64> {
    index.exact(&index.rows[row], 3).into_iter().map(|(id, _)| id).collect()
}

/// The one field of the BadRequest of an item.
fn field(error: &tonic_types::Status) -> String {
    let any = &error.details[0];
    assert_eq!(any.type_url, "type.googleapis.com/google.rpc.BadRequest");
    let bad: tonic_types::pb::BadRequest = prost::Message::decode(any.value.as_slice()).unwrap();
    assert_eq!(bad.field_violations.len(), 1);
    bad.field_violations[0].field.clone()
}

fn limited(limits: ServiceLimits) -> Setup {
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    Setup { threads: 1, service, ..Setup::default() }
}

/// A client that leaves the deadline to the server; tonic's channel would enforce it too.
fn patient_client(server: &TestServer) -> RetrievalClient<Client<HttpConnector, tonic::body::Body>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
    RetrievalClient::with_origin(http, format!("http://{}", server.address).parse().unwrap())
}

fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

#[tokio::test]
async fn a_batch_answers_in_order_and_a_bad_item_fails_alone() {
    let index = TestIndex::new(100);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let mut requests: Vec<SearchRequest> = (0..20).map(|row| like(&index, row)).collect();
    requests[7].k = 0;
    requests[11].index = "nowhere".into();
    requests[13].embedding_model = "nobody's".into();
    let response = client.batch_search(BatchSearchRequest { requests }).await.unwrap().into_inner();
    assert_eq!(response.results.len(), 20);
    for (row, result) in response.results.into_iter().enumerate() {
        match result.result.unwrap() {
            batch_search_result::Result::Response(response) => {
                assert!(![7, 11, 13].contains(&row));
                assert_eq!(ids(&response), expected(&index, row));
            }
            batch_search_result::Result::Error(error) if row == 7 => {
                assert_eq!(
                    (error.code, field(&error)),
                    (Code::InvalidArgument as i32, "requests[7].k".into())
                );
            }
            batch_search_result::Result::Error(error) if row == 13 => {
                let name = "requests[13].embedding_model";
                assert_eq!((error.code, field(&error)), (Code::FailedPrecondition as i32, name.to_owned()));
                assert!(error.message.starts_with(&format!("{name}: index ")), "{}", error.message);
            }
            batch_search_result::Result::Error(error) => {
                assert_eq!(row, 11);
                assert_eq!((error.code, field(&error)), (Code::NotFound as i32, "requests[11].index".into()));
            }
        }
    }
    let empty = client.batch_search(BatchSearchRequest::default()).await.unwrap().into_inner();
    assert!(empty.results.is_empty());
}

#[tokio::test]
async fn a_batch_over_the_limit_is_refused_whole() {
    let index = TestIndex::new(10);
    let limits = ServiceLimits { max_batch: 4, max_in_flight: 4, ..ServiceLimits::default() };
    let server = TestServer::start(&[("videos", &index)], limited(limits)).await;
    let mut client = server.retrieval().await;
    let batch = |searches| BatchSearchRequest { requests: vec![like(&index, 0); searches] };
    assert_eq!(client.batch_search(batch(4)).await.unwrap().into_inner().results.len(), 4);
    let status = client.batch_search(batch(5)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let bad: BadRequest = status.get_details_bad_request().unwrap();
    assert_eq!(bad.field_violations[0].field, "requests");
}

#[tokio::test]
async fn a_stream_answers_in_order_and_survives_a_bad_item() {
    let index = TestIndex::new(100);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let mut requests: Vec<SearchRequest> = (0..50).map(|row| like(&index, row)).collect();
    requests[20].query = None;
    let mut answers = client.stream_search(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for row in 0..50 {
        match answers.message().await.unwrap().unwrap().item.unwrap() {
            search_stream_item::Item::Response(response) => {
                assert_ne!(row, 20);
                assert_eq!(ids(&response), expected(&index, row));
            }
            search_stream_item::Item::Error(error) => {
                assert_eq!(row, 20);
                assert_eq!((error.code, field(&error)), (Code::InvalidArgument as i32, "query".into()));
            }
        }
    }
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_answers_before_it_has_heard_everything() {
    let index = TestIndex::new(50);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let (requests, receiver) = mpsc::channel(1);
    let mut answers = client.stream_search(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for row in 0..5 {
        requests.send(like(&index, row)).await.unwrap();
        assert!(answers.message().await.unwrap().is_some());
    }
    drop(requests);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_has_a_bounded_number_of_requests_in_flight() {
    let index = TestIndex::new(20);
    let limits = ServiceLimits { max_stream_window: 3, ..ServiceLimits::default() };
    let server = TestServer::start(&[("videos", &index)], limited(limits)).await;
    let gate = server.close_gate();
    let mut client = server.retrieval().await;
    let requests: Vec<SearchRequest> = (0..12).map(|row| like(&index, row)).collect();
    let mut answers = client.stream_search(tokio_stream::iter(requests)).await.unwrap().into_inner();
    server.until("shortlist_in_flight", 3.0).await;
    // The other requests were sent before this round trip began.
    server.metrics().await;
    assert_eq!(server.metric("shortlist_in_flight").await, Some(3.0));
    drop(gate);
    let mut answered = 0;
    while let Some(item) = answers.message().await.unwrap() {
        assert!(matches!(item.item, Some(search_stream_item::Item::Response(_))));
        answered += 1;
    }
    assert_eq!(answered, 12);
}

#[tokio::test]
async fn the_deadline_of_the_caller_is_kept_and_the_search_not_begun_after_it() {
    let index = TestIndex::new(20);
    let server = TestServer::start(&[("videos", &index)], limited(ServiceLimits::default())).await;
    let gate = server.close_gate();
    let mut client = patient_client(&server);
    let timeout = Duration::from_millis(20);
    let status = client.search(within(timeout, like(&index, 0))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let requests = vec![like(&index, 0); 3];
    let status = client.batch_search(within(timeout, BatchSearchRequest { requests })).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");

    let stream = tokio_stream::pending::<SearchRequest>();
    let mut answers = client.stream_search(within(timeout, stream)).await.unwrap().into_inner();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");

    drop(gate);
    server.until("shortlist_in_flight", 0.0).await;
    // None was computed, and all are counted as past their deadline, whenever they were read.
    let metrics = server.metrics().await;
    let counted: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("shortlist_requests_total{")).collect();
    assert!(counted.iter().all(|line| line.contains("code=\"DEADLINE_EXCEEDED\"")), "{counted:?}");
    assert_eq!(server.metric("shortlist_distances_per_query_count{index=\"videos\"}").await, Some(0.0));
    // With enough time the same call is answered.
    assert!(client.search(within(Duration::from_secs(60), like(&index, 0))).await.is_ok());
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_the_search() {
    let index = TestIndex::new(20);
    let server = TestServer::start(&[("videos", &index)], limited(ServiceLimits::default())).await;
    let gate = server.close_gate();
    let (mut client, mut admin) = {
        let channel = server.channel().await;
        let admin = shortlist::service::proto::admin_client::AdminClient::new(channel.clone());
        (RetrievalClient::new(channel), admin)
    };
    let call = {
        let (mut client, request) = (client.clone(), like(&index, 0));
        tokio::spawn(async move { client.search(request).await })
    };
    let requests: Vec<SearchRequest> = (0..5).map(|row| like(&index, row)).collect();
    let answers = client.stream_search(tokio_stream::iter(requests)).await.unwrap();
    server.until("shortlist_in_flight", 6.0).await;
    call.abort();
    drop(answers);
    assert!(call.await.unwrap_err().is_cancelled());
    // The server reads frames of one connection in order, so it has seen the cancellation by now.
    admin.get_status(shortlist::service::proto::GetStatusRequest::default()).await.unwrap();
    drop(gate);
    server.until("shortlist_in_flight", 0.0).await;
    let cancelled = |method| {
        format!("shortlist_requests_total{{index=\"videos\",method=\"{method}\",code=\"CANCELLED\"}}")
    };
    assert_eq!(server.metric(&cancelled("Search")).await, Some(1.0));
    assert_eq!(server.metric(&cancelled("StreamSearch")).await, Some(5.0));
    assert_eq!(server.metric("shortlist_distances_per_query_count{index=\"videos\"}").await, Some(0.0));
}

#[tokio::test]
async fn what_is_over_the_limit_is_shed_at_once_and_told_when_to_retry() {
    let index = TestIndex::new(20);
    let limits = ServiceLimits { max_in_flight: 2, ..ServiceLimits::default() };
    let server = TestServer::start(&[("videos", &index)], limited(limits)).await;
    let gate = server.close_gate();
    let mut client = server.retrieval().await;
    let admitted: Vec<_> = (0..2)
        .map(|row| {
            let (mut client, request) = (client.clone(), like(&index, row));
            tokio::spawn(async move { client.search(request).await })
        })
        .collect();
    server.until("shortlist_in_flight", 2.0).await;

    let is_shed = |status: Status| {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    };
    is_shed(client.search(like(&index, 3)).await.unwrap_err());
    is_shed(client.batch_search(BatchSearchRequest { requests: vec![like(&index, 0)] }).await.unwrap_err());
    let mut answers = client.stream_search(tokio_stream::iter([like(&index, 0)])).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().item.unwrap() {
        search_stream_item::Item::Error(error) => {
            assert_eq!(error.code, Code::ResourceExhausted as i32);
            assert_eq!(error.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
        }
        search_stream_item::Item::Response(_) => panic!("answered over the limit"),
    }

    drop(gate);
    for (row, call) in admitted.into_iter().enumerate() {
        assert_eq!(ids(&call.await.unwrap().unwrap().into_inner()), expected(&index, row));
    }
    assert!(client.search(like(&index, 3)).await.is_ok());
}
