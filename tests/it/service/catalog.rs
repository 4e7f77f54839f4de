//! `Catalog`: refused requests, streams of writes, and lookups. Nothing here depends on whether the index is writable.

use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use shortlist::service::proto::attribute_value::Value;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::lookup::State;
use shortlist::service::proto::stream_upsert_response::Item;
use shortlist::service::proto::{
    AttributeValue, DeleteRequest, ExplainRequest, GetRequest, GetStatusRequest, IndexStatus, PackedVector,
    RestoreRequest, SearchRequest, StreamUpsertRequest, TakedownRequest, UpsertRequest, Vector, Video,
};
use shortlist::service::{ServiceLimits, ServiceOptions};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::harness::wire::fields;
use crate::harness::{DIM, Setup, TestIndex, TestServer, eventually, request, video_id};

async fn catalog(server: &TestServer) -> CatalogClient<Channel> {
    CatalogClient::new(server.channel().await)
}

async fn status(server: &TestServer) -> IndexStatus {
    let status = server.admin().await.get_status(GetStatusRequest::default()).await.unwrap();
    status.into_inner().indexes.remove(0)
}

fn limited(limits: ServiceLimits) -> Setup {
    Setup { service: ServiceOptions { limits, ..ServiceOptions::default() }, ..Setup::default() }
}

fn sound(video_id: u64) -> Video {
    let vector = Some(Vector { values: vec![0.5; DIM], packed: None });
    Video { video_id, vector, ..Video::default() }
}

fn upsert(videos: Vec<Video>) -> UpsertRequest {
    UpsertRequest { videos, ..UpsertRequest::default() }
}

/// A batch in which only the video at `position` is invalid.
fn bad_at(position: usize) -> UpsertRequest {
    let mut videos: Vec<Video> = (0..=position as u64).map(sound).collect();
    videos[position].vector = None;
    upsert(videos)
}

/// Checks that a write succeeds if and only if the index is writable.
fn check<T>(written: Result<T, Status>, writable: bool) {
    match written {
        Ok(_) => assert!(writable),
        Err(status) => assert_eq!((status.code(), writable), (Code::FailedPrecondition, false), "{status}"),
    }
}

#[tokio::test]
async fn a_video_that_cannot_be_used_is_named_by_its_path() {
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    let mut client = catalog(&server).await;
    let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let with = |name: &str, value| Video {
        attributes: [(name.to_owned(), AttributeValue { value })].into(),
        ..sound(9)
    };
    let vector = |vector| Video { vector, ..sound(9) };
    let packed =
        |data, dtype| vector(Some(Vector { values: Vec::new(), packed: Some(PackedVector { data, dtype }) }));
    let cases = [
        (vector(None), "vector"),
        (vector(Some(Vector { values: vec![f32::NAN; DIM], packed: None })), "vector"),
        (packed(vec![0; 3], 1), "vector.packed.data"),
        (packed(vec![0; 4 * DIM], 0), "vector.packed.dtype"),
        (with("title", None), "attributes[\"title\"]"),
        (with("color", Some(Value::Bool(true))), "attributes[\"color\"]"),
        (with("title", Some(Value::Bool(true))), "attributes[\"title\"]"),
        (
            with("published_at", at(i64::MAX, 0).map(Value::Timestamp)),
            "attributes[\"published_at\"].timestamp",
        ),
        (Video { expires_at: at(0, -1), ..sound(9) }, "expires_at"),
        (Video { embedding_model: "x".repeat(1001), ..sound(9) }, "embedding_model"),
    ];
    for (video, field) in cases {
        let refused = client.upsert(upsert(vec![sound(1), sound(2), video])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!(fields(&refused), [format!("videos[2].{field}")]);
    }
    let video_ids = vec![1, 2, 9];
    let found = client.get(GetRequest { video_ids, ..GetRequest::default() }).await.unwrap().into_inner();
    assert!(found.results.iter().all(|result| result.state() == State::Unknown), "{found:?}");
}

#[tokio::test]
async fn batches_are_bounded_and_an_unknown_index_is_not_found() {
    let index = TestIndex::new(10);
    let limits = ServiceLimits { max_batch_writes: 2, ..ServiceLimits::default() };
    let server = TestServer::start(&[("videos", &index)], limited(limits)).await;
    let mut client = catalog(&server).await;
    let video_ids = vec![1, 2, 3];
    let too_many = [
        (client.upsert(upsert(vec![sound(1); 3])).await.unwrap_err(), "videos"),
        (
            client
                .delete(DeleteRequest { video_ids: video_ids.clone(), ..Default::default() })
                .await
                .unwrap_err(),
            "video_ids",
        ),
        (
            client
                .takedown(TakedownRequest { video_ids: video_ids.clone(), ..Default::default() })
                .await
                .unwrap_err(),
            "video_ids",
        ),
        (
            client
                .restore(RestoreRequest { video_ids: video_ids.clone(), ..Default::default() })
                .await
                .unwrap_err(),
            "video_ids",
        ),
        (client.get(GetRequest { video_ids, ..Default::default() }).await.unwrap_err(), "video_ids"),
    ];
    for (refused, field) in too_many {
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!(fields(&refused), [field]);
        assert!(refused.message().ends_with("expected at most 2 videos, found 3"), "{refused}");
    }

    let index = || "nowhere".to_owned();
    let video_ids = vec![1];
    let nowhere = [
        client.upsert(UpsertRequest { index: index(), ..upsert(vec![sound(1)]) }).await.unwrap_err(),
        client
            .delete(DeleteRequest {
                index: index(),
                video_ids: video_ids.clone(),
                ..DeleteRequest::default()
            })
            .await
            .unwrap_err(),
        client.get(GetRequest { index: index(), video_ids, ..Default::default() }).await.unwrap_err(),
    ];
    for refused in nowhere {
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
        assert_eq!(refused.get_details_resource_info().unwrap().resource_name, "nowhere");
    }
}

#[tokio::test]
async fn writes_are_taken_where_the_index_says_so() {
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    let IndexStatus { writable, read_only_reason, .. } = status(&server).await;
    assert_eq!(writable, read_only_reason.is_empty(), "{read_only_reason}");
    let mut client = catalog(&server).await;
    let video_ids = || vec![1];
    check(client.upsert(upsert(vec![sound(1)])).await, writable);
    check(client.upsert(upsert(Vec::new())).await, writable);
    check(client.delete(DeleteRequest { video_ids: video_ids(), ..Default::default() }).await, writable);
    check(client.takedown(TakedownRequest { video_ids: video_ids(), ..Default::default() }).await, writable);
    check(client.restore(RestoreRequest { video_ids: video_ids(), ..Default::default() }).await, writable);
}

#[tokio::test]
async fn writes_over_the_limit_are_shed_and_told_when_to_retry() {
    let index = TestIndex::new(10);
    let limits = ServiceLimits { max_concurrent_writes: 0, ..ServiceLimits::default() };
    let server = TestServer::start(&[("videos", &index)], limited(limits)).await;
    let mut client = catalog(&server).await;
    let shed = client.upsert(upsert(vec![sound(1)])).await.unwrap_err();
    assert_eq!(shed.code(), Code::ResourceExhausted);
    assert!(shed.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    let items = tokio_stream::iter([StreamUpsertRequest { upsert: Some(upsert(vec![sound(1)])) }]);
    let mut answers = client.stream_upsert(items).await.unwrap().into_inner();
    let Some(Item::Error(error)) = answers.message().await.unwrap().unwrap().item else { panic!("written") };
    assert_eq!(error.code, Code::ResourceExhausted as i32);
    assert_eq!(error.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    assert!(answers.message().await.unwrap().is_none());
    assert!(client.get(GetRequest { video_ids: vec![1], ..Default::default() }).await.is_ok());
}

#[tokio::test]
async fn nothing_is_written_after_the_deadline() {
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    // The deadline is left to the server; tonic's channel would enforce it too.
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<tonic::body::Body>();
    let mut client = CatalogClient::with_origin(http, format!("http://{}", server.address).parse().unwrap());
    let series = "shortlist_requests_total{index=\"videos\",method=\"Upsert\",code=\"DEADLINE_EXCEEDED\"}";
    // A call whose deadline passes before its message arrives is not counted.
    eventually(series, async || {
        let mut late = Request::new(upsert(vec![sound(1)]));
        late.set_timeout(Duration::ZERO);
        assert_eq!(client.upsert(late).await.unwrap_err().code(), Code::DeadlineExceeded);
        server.metric(series).await.is_some_and(|count| count >= 1.0)
    })
    .await;
    let found = client.get(GetRequest { video_ids: vec![1], ..Default::default() }).await.unwrap();
    assert_eq!(found.into_inner().results[0].state(), State::Unknown);
}

#[tokio::test]
async fn a_stream_answers_in_order_and_survives_bad_items() {
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    let writable = status(&server).await.writable;
    let item = |position: usize| match position % 3 {
        0 => bad_at(position),
        1 => UpsertRequest { index: format!("nowhere-{position}"), ..upsert(vec![sound(1)]) },
        // All of them have a video in common.
        _ => upsert(vec![sound(1), sound(position as u64)]),
    };
    let items = (0..60).map(item).map(|upsert| StreamUpsertRequest { upsert: Some(upsert) });
    let answers = catalog(&server).await.stream_upsert(tokio_stream::iter(items.collect::<Vec<_>>())).await;
    let mut answers = answers.unwrap().into_inner();
    let mut sequence = 0;
    for position in 0..60 {
        let item = answers.message().await.unwrap().unwrap().item.unwrap();
        match (position % 3, item) {
            (0, Item::Error(error)) => {
                assert_eq!(error.code, Code::InvalidArgument as i32);
                let start = format!("upsert.videos[{position}].vector: ");
                assert!(error.message.starts_with(&start), "{}", error.message);
            }
            (1, Item::Error(error)) => {
                assert_eq!(error.code, Code::NotFound as i32);
                assert!(error.message.contains(&format!("\"nowhere-{position}\"")), "{}", error.message);
            }
            (2, Item::Error(error)) => {
                assert_eq!((error.code, writable), (Code::FailedPrecondition as i32, false));
            }
            (2, Item::Response(response)) => {
                assert_eq!((response.written, writable), (2, true));
                assert!(response.sequence > sequence);
                sequence = response.sequence;
            }
            (_, item) => panic!("item {position}: {item:?}"),
        }
    }
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn get_answers_one_entry_for_each_id_in_order() {
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    let mut client = catalog(&server).await;
    let unknown = |video_ids: Vec<u64>| GetRequest { video_ids, ..GetRequest::default() };
    let video_ids = vec![7, 3, 7, video_id(10), 0];
    let found = client.get(unknown(video_ids.clone())).await.unwrap().into_inner();
    let ids: Vec<u64> = found.results.iter().map(|result| result.video_id).collect();
    assert_eq!(ids, video_ids);
    assert!(found.results.iter().all(|result| result.state() == State::Unknown && result.video.is_none()));
    let none = client.get(unknown(Vec::new())).await.unwrap().into_inner();
    assert!(none.results.is_empty());
}

#[tokio::test]
async fn a_search_for_writes_not_yet_seen_is_refused_with_a_delay() {
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let sent = |min_sequence| SearchRequest { min_sequence, ..request(&[1.0; DIM], 3) };
    let sequence = status(&server).await.sequence;
    let answer = client.search(sent(sequence)).await.unwrap().into_inner();
    assert_eq!((answer.sequence, answer.candidates.len()), (sequence, 3));

    let refused = client.search(sent(u64::MAX)).await.unwrap_err();
    assert_eq!((refused.code(), fields(&refused)), (Code::Unavailable, vec!["min_sequence".to_owned()]));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    let explain =
        ExplainRequest { request: Some(sent(u64::MAX)), video_id: video_id(0), ..ExplainRequest::default() };
    let refused = client.explain(explain).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(fields(&refused), ["request.min_sequence"]);
}

#[tokio::test]
async fn writes_are_counted_by_method_and_code() {
    let index = TestIndex::new(10);
    let server = TestServer::of(&index).await;
    let mut client = catalog(&server).await;
    client.upsert(bad_at(0)).await.unwrap_err();
    client
        .takedown(TakedownRequest {
            index: "x\", ..TakedownRequest::default() }".into(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    client.get(GetRequest::default()).await.unwrap();
    let bad = StreamUpsertRequest { upsert: Some(bad_at(0)) };
    let mut answers =
        client.stream_upsert(tokio_stream::iter([bad.clone(), bad])).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    for (labels, count) in [
        ("index=\"videos\",method=\"Upsert\",code=\"INVALID_ARGUMENT\"", 1.0),
        ("index=\"\",method=\"Takedown\",code=\"NOT_FOUND\"", 1.0),
        ("index=\"videos\",method=\"Get\",code=\"OK\"", 1.0),
        ("index=\"videos\",method=\"StreamUpsert\",code=\"INVALID_ARGUMENT\"", 2.0),
    ] {
        assert_eq!(server.metric(&format!("shortlist_requests_total{{{labels}}}")).await, Some(count));
    }
    assert_eq!(server.metric("shortlist_writes_in_flight").await, Some(0.0));
}
