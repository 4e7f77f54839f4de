//! Large messages, on a runtime of several threads as in the server.

use prost::Message;
use shortlist::service::proto::batch_search_result::Result as BatchResult;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::search_stream_item::Item;
use shortlist::service::proto::stream_upsert_response::Item as Upserted;
use shortlist::service::proto::{
    BatchSearchRequest, Candidate, Exclude, SearchRequest, StreamUpsertRequest, UpsertRequest, Vector, Video,
};
use shortlist::service::{ServiceLimits, ServiceOptions};
use tonic::Code;

use crate::harness::wire::{keyword, must};
use crate::harness::{DIM, Setup, TestIndex, TestServer, request, video_id};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];
/// Ids that no video has; their encoding takes about 90 kB.
const UNKNOWN: std::ops::Range<u64> = 1 << 62..(1 << 62) + 10_000;

/// A search of which the request is large and the answer is not.
fn large() -> SearchRequest {
    let exclude = Some(Exclude { video_ids: UNKNOWN.collect(), ..Exclude::default() });
    SearchRequest { exclude, ..request(&QUERY, 5) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_are_answered_as_small_ones() {
    let index = TestIndex::new(2_000);
    let limits = ServiceLimits { max_batch_writes: 10_000, ..ServiceLimits::default() };
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    let mut client = server.retrieval().await;
    let expected = client.search(request(&QUERY, 5)).await.unwrap().into_inner().candidates;
    assert_eq!(expected.len(), 5);

    assert_eq!(client.search(large()).await.unwrap().into_inner().candidates, expected);

    let batch = BatchSearchRequest { requests: vec![large(); 4] };
    for result in client.batch_search(batch).await.unwrap().into_inner().results {
        let Some(BatchResult::Response(response)) = result.result else { panic!("{result:?}") };
        assert_eq!(response.candidates, expected);
    }

    // About 1.2 MB.
    let whole = SearchRequest { return_attributes: vec!["*".to_owned()], ..request(&QUERY, 1000) };
    let batch = BatchSearchRequest { requests: vec![whole.clone(); 8] };
    let alone = client.search(whole).await.unwrap().into_inner().candidates;
    assert_eq!(alone.len(), 1000);
    for result in client.batch_search(batch).await.unwrap().into_inner().results {
        let Some(BatchResult::Response(response)) = result.result else { panic!("{result:?}") };
        assert_eq!(response.candidates, alone);
    }
    // Nothing stays charged to the connection, though it stays open.
    server.until("shortlist_bytes_in_flight", 0.0).await;

    let requests = [large(), request(&QUERY, 5), large()];
    let mut answers = client.stream_search(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for _ in 0..3 {
        let item = answers.message().await.unwrap().unwrap().item;
        let Some(Item::Response(response)) = item else { panic!("{item:?}") };
        assert_eq!(response.candidates, expected);
    }
    assert!(answers.message().await.unwrap().is_none());

    let videos: Vec<Video> = UNKNOWN
        .take(2_000)
        .map(|video_id| Video {
            video_id,
            vector: Some(Vector { values: vec![0.5; DIM], packed: None }),
            ..Video::default()
        })
        .collect();
    let upsert = Some(UpsertRequest { videos, ..UpsertRequest::default() });
    let requests = tokio_stream::iter([StreamUpsertRequest { upsert }]);
    let mut catalog = CatalogClient::new(server.channel().await);
    let item =
        catalog.stream_upsert(requests).await.unwrap().into_inner().message().await.unwrap().unwrap().item;
    match item.unwrap() {
        Upserted::Response(response) => assert_eq!(response.written, 2_000),
        // The index is not writable.
        Upserted::Error(error) => assert_eq!(error.code, Code::FailedPrecondition as i32, "{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_message_of_many_words_is_answered() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    // Few bytes each on the wire, and a string each once it is decoded.
    let mut words = vec!["a"; 20_000];
    words.push("title 7");
    let many = SearchRequest { filter: Some(must(vec![keyword("title", &words)])), ..request(&QUERY, 5) };
    assert!(many.encoded_len() < 64 << 10, "{}", many.encoded_len());
    let batch = BatchSearchRequest { requests: vec![many.clone(), request(&QUERY, 5)] };
    for _ in 0..3 {
        let found = client.search(many.clone()).await.unwrap().into_inner().candidates;
        assert_eq!(found.iter().map(|candidate| candidate.video_id).collect::<Vec<_>>(), [video_id(7)]);
        assert_eq!(client.batch_search(batch.clone()).await.unwrap().into_inner().results.len(), 2);
    }
    let mut answers = client.stream_search(tokio_stream::iter(batch.requests)).await.unwrap().into_inner();
    for wanted in [1, 5] {
        let item = answers.message().await.unwrap().unwrap().item;
        let Some(Item::Response(response)) = item else { panic!("{item:?}") };
        assert_eq!(response.candidates.len(), wanted);
    }
    server.until("shortlist_bytes_in_flight", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_that_is_invalid_is_refused_with_its_field() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let mut invalid = large();
    invalid.return_attributes = vec!["nobody has it".to_owned()];
    let refused = client.search(invalid).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().starts_with("return_attributes"), "{refused}");
    let found: Vec<Candidate> = client.search(large()).await.unwrap().into_inner().candidates;
    assert_eq!(found.len(), 5);
}
