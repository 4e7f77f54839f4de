//! What a request or a connection may take of the memory of the server.

use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::{
    BatchSearchRequest, ExplainRequest, GetRequest, SearchRequest, SearchResponse, batch_search_result,
};
use shortlist::service::{ServiceLimits, ServiceOptions};
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::harness::wire::fields;
use crate::harness::{DIM, Setup, TestIndex, TestServer, request, video_id};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];

fn limited(limits: ServiceLimits) -> Setup {
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    Setup { service, ..Setup::default() }
}

fn returning(names: &[&str], k: u32) -> SearchRequest {
    let return_attributes = names.iter().map(|name| (*name).to_owned()).collect();
    SearchRequest { return_attributes, ..request(&QUERY, k) }
}

#[track_caller]
fn is_repeated(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(fields(status), [field], "{status}");
    assert!(status.message().contains("expected each name once"), "{status}");
}

#[tokio::test]
async fn an_attribute_is_returned_once_whatever_the_method() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    for names in [&["title", "safe", "title"][..], &["*", "safe", "*"]] {
        let twice = returning(names, 5);
        let status = client.search(twice.clone()).await.unwrap_err();
        is_repeated(&status, "return_attributes[2]");
        let batch = BatchSearchRequest { requests: vec![returning(&["title"], 5), twice.clone()] };
        let results = client.batch_search(batch).await.unwrap().into_inner().results;
        let Some(batch_search_result::Result::Error(error)) = &results[1].result else {
            panic!("{results:?}")
        };
        assert!(error.message.starts_with("requests[1].return_attributes[2]: expected each name once"));
        let explain = ExplainRequest {
            request: Some(twice.clone()),
            video_id: video_id(3),
            ..ExplainRequest::default()
        };
        is_repeated(&client.explain(explain).await.unwrap_err(), "request.return_attributes[2]");
        let get = GetRequest {
            video_ids: vec![video_id(1)],
            return_attributes: twice.return_attributes,
            ..GetRequest::default()
        };
        let status = CatalogClient::new(server.channel().await).get(get).await.unwrap_err();
        is_repeated(&status, "return_attributes[2]");
    }
    assert_eq!(
        client.search(returning(&["title", "safe"], 5)).await.unwrap().into_inner().candidates.len(),
        5
    );
}

#[tokio::test]
async fn an_answer_larger_than_the_limit_is_refused_with_the_field_that_makes_it_large() {
    let index = TestIndex::new(200);
    let server = TestServer::start(
        &[("videos", &index)],
        limited(ServiceLimits { max_response_bytes: 5_000, ..ServiceLimits::default() }),
    )
    .await;
    let mut client = server.retrieval().await;
    let with_vectors = |k| SearchRequest { return_vectors: true, ..request(&QUERY, k) };
    for (sent, field) in [
        (returning(&["*"], 150), "return_attributes"),
        (with_vectors(150), "return_vectors"),
        (request(&QUERY, 260), "k"),
    ] {
        let k = sent.k;
        match client.search(sent).await {
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert_eq!(fields(&status), [field], "{status}");
                assert!(status.message().contains("5000 bytes"), "{status}");
            }
            Ok(answer) => assert_eq!((field, answer.into_inner().candidates.len()), ("k", 200), "k = {k}"),
        }
    }
    assert_eq!(client.search(returning(&["*"], 10)).await.unwrap().into_inner().candidates.len(), 10);
    let get = |videos, return_vectors| GetRequest {
        video_ids: (0..videos).map(video_id).collect(),
        return_attributes: vec!["*".to_owned()],
        return_vectors,
        ..GetRequest::default()
    };
    let mut catalog = CatalogClient::new(server.channel().await);
    let status = catalog.get(get(150, true)).await.unwrap_err();
    assert_eq!(
        (status.code(), fields(&status)),
        (Code::ResourceExhausted, vec!["return_attributes".to_owned()])
    );
    assert_eq!(catalog.get(get(10, true)).await.unwrap().into_inner().results.len(), 10);
}

/// An empty element of a list takes two bytes on the wire and a struct in memory.
#[tokio::test]
async fn a_list_of_empty_elements_is_refused_before_it_is_decoded_and_counted() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    // The codec sends the bytes in field 1: the first of the requests of a batch.
    let codec = || tonic_prost::ProstCodec::<Vec<u8>, SearchResponse>::default();
    let caps = [0x4a, 0].repeat(1_000_000);
    for encoding in [None, Some(CompressionEncoding::Gzip)] {
        let mut client = tonic::client::Grpc::new(server.channel().await);
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding);
        }
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/shortlist.v1.Retrieval/BatchSearch");
        let status = client.unary(Request::new(caps.clone()), path, codec()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(fields(&status), ["requests.caps"], "{status}");
    }
    let counted = "shortlist_requests_total{index=\"\",method=\"BatchSearch\",code=\"INVALID_ARGUMENT\"}";
    assert_eq!(server.metric(counted).await, Some(2.0));
    server.until("shortlist_bytes_in_flight", 0.0).await;
}
