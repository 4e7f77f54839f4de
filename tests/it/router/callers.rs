//! What a router owes to its callers and to the record of changes, as one server does: the replicas see only the router.

use serde_json::{Value, json};
use shortlist::base::element::Dtype;
use shortlist::base::metric::Metric;
use shortlist::engine::{Effort, SearchRequest};
use shortlist::index::Codes;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    BatchSearchRequest, BatchSearchResult, GetRequest, TakedownRequest, batch_search_result,
};
use shortlist::service::{AccessOptions, Audit, KeyOptions, OwnLimits, Role, ServiceLimits, ServiceOptions};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::access::audit::{Lines, every_change_is_one_event};
use crate::harness::credentials::{METHODS, call, connect, key, with_access};
use crate::harness::remote::message;
use crate::router::fixture::{SHARDS, Serving, list, serve_shards};
use crate::rules::dataset::{Components, RuledDataset, Shape};

/// No replica listens there.
const NOBODY: &str = "127.0.0.1:1,127.0.0.1:1";

#[tokio::test]
async fn a_call_without_a_right_to_the_index_is_one_refusal_without_ids() {
    let lines = Lines::default();
    let keys = vec![key("own", &Role::ALL, Some("a"))];
    let options = AccessOptions { keys, audit: Audit::to(lines.clone()), ..AccessOptions::default() };
    let router = Serving::router(NOBODY, with_access(options).service).await;
    let own = connect(router.address, Some("own")).await;
    for (method, _) in METHODS {
        // A batch is answered, search by search.
        let expected = if method == "BatchSearch" { Code::Ok } else { Code::PermissionDenied };
        assert_eq!(call(&own, method, "videos").await, expected, "{method}");
        let events = lines.take();
        let [event] = &events[..] else { panic!("{method}: {events:?}") };
        assert_eq!((&event["who"], &event["outcome"]), (&json!("own"), &json!("PERMISSION_DENIED")));
        assert_eq!((&event["index"], &event["video_ids"]), (&json!(""), &Value::Null), "{event}");
    }
}

#[tokio::test]
async fn every_attempt_of_a_change_is_one_event() {
    let lines = Lines::default();
    let keys = vec![key("ops", &Role::ALL, None)];
    let options = AccessOptions { keys, audit: Audit::to(lines.clone()), ..AccessOptions::default() };
    let router = Serving::router(NOBODY, with_access(options).service).await;
    let ops = connect(router.address, Some("ops")).await;
    let codes = every_change_is_one_event(&ops, &lines).await;
    assert!(!codes.contains(&Code::Ok), "{codes:?}");
    let ids = vec![1, 2];
    let request = TakedownRequest { video_ids: ids.clone(), ..TakedownRequest::default() };
    let status = CatalogClient::new(ops.clone()).takedown(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let events = lines.take();
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&event["count"], &event["video_ids"]), (&json!(2), &json!(ids)));
    // Too many videos are refused before they are named.
    let request = TakedownRequest { video_ids: (0..100_000).collect(), ..TakedownRequest::default() };
    let status = CatalogClient::new(ops).takedown(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let events = lines.take();
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event["video_ids"], Value::Null);
}

const SHAPE: Shape = Shape {
    videos: 400,
    dim: 16,
    metric: Metric::InnerProduct,
    dtype: Dtype::F32,
    codes: Codes::Sq8,
    components: Components::Grid,
    has_duplicates: false,
    seed: 79,
};

#[test]
fn the_limits_of_a_key_hold_once_for_all_shards() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let servers = serve_shards(&dataset).await;
        let limits = |limits| KeyOptions { limits, ..key("small", &[Role::Read], None) };
        let small = limits(OwnLimits { max_k: Some(40), max_ef_search: Some(80), ..OwnLimits::default() });
        let slow = KeyOptions {
            limits: OwnLimits { max_searches_per_second: Some(1), ..OwnLimits::default() },
            ..key("slow", &[Role::Read], None)
        };
        let options = AccessOptions { keys: vec![small, slow], ..AccessOptions::default() };
        let router = Serving::router(&list(&servers), with_access(options).service).await;

        let client = RetrievalClient::new(connect(router.address, Some("small")).await);
        let search = async |k, offset, effort| {
            let request = message(&SearchRequest { k, offset, effort, ..SearchRequest::vector([0.5; 16]) });
            client.clone().search(request).await.map(tonic::Response::into_inner)
        };
        // The shards are asked for more than the page, and the router for the next page.
        let page = search(20, 20, Effort::EfSearch(80)).await.unwrap();
        assert_eq!((page.candidates.len(), page.next_page_token.as_str()), (20, ""));
        assert_ne!(search(10, 20, Effort::Default).await.unwrap().next_page_token, "");
        for (k, offset, effort, expected) in [
            (41, 0, Effort::Default, "k: expected 1 to 40, found 41"),
            (20, 21, Effort::Default, "offset: expected at most 20 with k = 20, found 21"),
            (20, 0, Effort::EfSearch(81), "params.ef_search: expected 1 to 80, found 81"),
        ] {
            let status = search(k, offset, effort).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, expected));
        }

        let mut client = RetrievalClient::new(connect(router.address, Some("slow")).await);
        let requests = vec![message(&SearchRequest { k: 10, ..SearchRequest::vector([0.5; 16]) }); 5];
        let answered = client.batch_search(BatchSearchRequest { requests }).await.unwrap().into_inner();
        let is_answer = |result: &&BatchSearchResult| {
            matches!(result.result, Some(batch_search_result::Result::Response(_)))
        };
        assert_eq!(answered.results.iter().filter(is_answer).count(), 1);
    });
}

#[test]
fn the_answers_of_shards_to_a_lookup_count_in_the_memory_of_the_connection() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let servers = serve_shards(&dataset).await;
        // The answer for all videos has less than half of it, and takes more while it is decoded and merged.
        let limits = ServiceLimits { max_connection_bytes: 48 << 10, ..ServiceLimits::default() };
        let service = ServiceOptions { limits, ..ServiceOptions::default() };
        let router = Serving::router(&list(&servers), service).await;
        let ids: Vec<u64> = (0..SHARDS).flat_map(|shard| dataset.videos_of(shard)).collect();
        let mut catalog = CatalogClient::new(connect(router.address, None).await);
        let mut get = async |video_ids| {
            let request = GetRequest { video_ids, return_vectors: true, ..GetRequest::default() };
            catalog.get(request).await.map(tonic::Response::into_inner)
        };
        let status = get(ids.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.get_error_details().retry_info().is_some());
        // The memory is free again.
        for _ in 0..100 {
            assert_eq!(get(ids[..20].to_vec()).await.unwrap().results.len(), 20);
        }
    });
}
