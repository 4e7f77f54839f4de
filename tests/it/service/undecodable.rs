//! Requests whose bytes do not decode are refused like other invalid requests, and the server continues.

use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchRequest, ExplainRequest, Filter, SearchRequest, SearchResponse, condition, search_stream_item,
};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::harness::wire::{bool_is, fields, must};
use crate::harness::{DIM, TestIndex, TestServer, request, video_id};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];

fn good() -> SearchRequest {
    request(&QUERY, 10)
}

/// With a filter nested this many levels deep.
fn deep(filters: usize) -> SearchRequest {
    let innermost = must(vec![bool_is("safe", true)]);
    let around = |inner: Filter, _| must(vec![condition::Condition::Filter(inner)]);
    SearchRequest { filter: Some((1..filters).fold(innermost, around)), ..good() }
}

async fn answers(client: &mut RetrievalClient<Channel>) -> bool {
    client.search(good()).await.unwrap().into_inner().candidates.len() == 10
}

#[track_caller]
fn is_too_deep(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(fields(status), [field], "{status}");
    let problem = "cannot be decoded: recursion limit reached; expected at most 16 nested filters";
    assert!(status.message().starts_with(&format!("{field}: {problem}")), "{status}");
}

async fn refused(server: &TestServer, method: &str) -> Option<f64> {
    let labels = format!("{{index=\"\",method=\"{method}\",code=\"INVALID_ARGUMENT\"}}");
    server.metric(&format!("shortlist_requests_total{labels}")).await
}

#[tokio::test]
async fn filters_too_deep_to_be_decoded_are_refused_and_counted() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    // These decode, and are refused with their path.
    for filters in [17, 45] {
        let status = client.search(deep(filters)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(fields(&status), [format!("filter{}", ".must[0].filter".repeat(16))], "{status}");
    }
    for filters in [60, 1_000] {
        is_too_deep(&client.search(deep(filters)).await.unwrap_err(), "filter");
        assert!(answers(&mut client).await);
        let requests = vec![good(), deep(filters), good()];
        let status = client.batch_search(BatchSearchRequest { requests }).await.unwrap_err();
        is_too_deep(&status, "requests.filter");
        let explained = ExplainRequest {
            request: Some(deep(filters)),
            video_id: video_id(3),
            ..ExplainRequest::default()
        };
        is_too_deep(&client.explain(explained).await.unwrap_err(), "request.filter");
    }
    assert!(answers(&mut client).await);
    for method in ["Search", "BatchSearch", "Explain"] {
        assert_eq!(refused(&server, method).await, Some(2.0), "{method}");
    }
    assert!(!server.metrics().await.contains("INTERNAL"));
}

#[tokio::test]
async fn a_stream_ends_at_a_request_that_cannot_be_decoded_after_the_answers_before_it() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let requests = tokio_stream::iter([good(), good(), deep(60), good()]);
    let mut answered = client.stream_search(requests).await.unwrap().into_inner();
    for _ in 0..2 {
        let item = answered.message().await.unwrap().unwrap().item.unwrap();
        assert!(matches!(item, search_stream_item::Item::Response(_)));
    }
    is_too_deep(&answered.message().await.unwrap_err(), "filter");
    assert!(answered.message().await.unwrap().is_none());
    assert_eq!(refused(&server, "StreamSearch").await, Some(1.0));
    assert!(answers(&mut client).await);
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_with_the_field() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    // The codec sends raw bytes in field 1, where a search has a string.
    let codec = tonic_prost::ProstCodec::<Vec<u8>, SearchResponse>::default();
    let mut client = tonic::client::Grpc::new(server.channel().await);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/shortlist.v1.Retrieval/Search");
    let status = client.unary(Request::new(vec![0xff, 0xfe]), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(fields(&status), ["index"], "{status}");
    assert!(status.message().starts_with("index: cannot be decoded: invalid string value"), "{status}");
    assert_eq!(refused(&server, "Search").await, Some(1.0));
    assert!(answers(&mut server.retrieval().await).await);
}
