//! Answers and errors of `Retrieval.Search`.

use shortlist::engine::Limits;
use shortlist::service::proto::attribute_value::Value;
use shortlist::service::proto::completeness::Reason;
use shortlist::service::proto::{
    Condition, Dtype, Filter, Fresh, Interest, Interests, KeywordList, PackedVector, Plan, SearchParams,
    SearchRequest, SearchResponse, Vector, condition, search_request,
};
use shortlist::service::{ServiceLimits, ServiceOptions};
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic_types::StatusExt;

use crate::harness::wire::{ef_search, exact, fields, seeds};
use crate::harness::{DIM, MODEL, Setup, TestIndex, TestServer, request, video_id};

const QUERY: [f32; DIM] = [0.5, -1.0, 0.25, 2.0, -0.125, 1.0, 0.75, -0.5];

fn packed(data: Vec<u8>, dtype: i32) -> Option<search_request::Query> {
    let packed = PackedVector { data, dtype };
    Some(search_request::Query::Vector(Vector { values: Vec::new(), packed: Some(packed) }))
}

/// `levels` nested filters without conditions.
fn deep_filter(levels: usize) -> Filter {
    (1..levels).fold(Filter::default(), |inner, _| {
        let condition = Some(condition::Condition::Filter(inner));
        Filter { must: vec![Condition { condition }], ..Filter::default() }
    })
}

fn hits(response: &SearchResponse) -> Vec<(u64, f32)> {
    response.candidates.iter().map(|candidate| (candidate.video_id, candidate.score)).collect()
}

#[tokio::test]
async fn answers_the_true_top_k_best_first() {
    let index = TestIndex::new(500);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    for params in [exact(), ef_search(500)] {
        let request = SearchRequest { params, return_stats: true, ..request(&QUERY, 10) };
        let response = client.search(request).await.unwrap().into_inner();
        let (found, expected) = (hits(&response), index.exact(&QUERY, 10));
        assert_eq!(found.len(), 10);
        for ((found_id, found_score), (expected_id, expected_score)) in found.iter().zip(&expected) {
            assert_eq!(found_id, expected_id);
            assert!((found_score - expected_score).abs() < 1e-4);
        }
        let completeness = response.completeness.unwrap();
        assert_eq!((completeness.requested, completeness.returned), (10, 10));
        assert_eq!(completeness.reason(), Reason::Complete);
        assert_eq!(response.generation, 1);
        assert!(response.candidates.iter().all(|candidate| candidate.attributes.is_empty()));
    }
}

#[tokio::test]
async fn a_token_leads_to_the_next_page_of_the_same_generation() {
    let mut index = TestIndex::new(100);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let expected = index.exact(&QUERY, 40);
    let mut page = SearchRequest { params: exact(), ..request(&QUERY, 20) };
    let first = client.search(page.clone()).await.unwrap().into_inner();
    page.page_token = first.next_page_token.clone();
    let second = client.search(page.clone()).await.unwrap().into_inner();
    let found: Vec<u64> =
        first.candidates.iter().chain(&second.candidates).map(|found| found.video_id).collect();
    assert_eq!(found, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    let all = SearchRequest { params: exact(), ..request(&QUERY, 200) };
    assert_eq!(client.search(all).await.unwrap().into_inner().next_page_token, "");

    for (field, changed) in [
        ("page_token", SearchRequest { page_token: format!("{}0", page.page_token), ..page.clone() }),
        ("page_token", SearchRequest { page_token: "x".repeat(5000), ..page.clone() }),
        ("offset", SearchRequest { offset: 20, ..page.clone() }),
    ] {
        let status = client.search(changed).await.unwrap_err();
        assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    index.publish(100);
    let engine = std::sync::Arc::clone(&server.engine);
    tokio::task::spawn_blocking(move || engine.refresh()).await.unwrap();
    let status = client.search(page.clone()).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::FailedPrecondition, vec!["page_token".to_owned()]));
    page.page_token.clear();
    let coverage = client.search(page).await.unwrap().into_inner().coverage.unwrap();
    assert_eq!((coverage.videos_total, coverage.videos_searched), (100, 100));
    assert_eq!((coverage.shards_total, coverage.shards_answered), (1, 1));
}

#[tokio::test]
async fn says_what_a_search_cost_when_asked() {
    let index = TestIndex::new(300);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let silent = client.search(request(&QUERY, 5)).await.unwrap().into_inner();
    assert_eq!(silent.stats, None);
    let with = |params| SearchRequest { params, return_stats: true, ..request(&QUERY, 5) };
    let stats = client.search(with(exact())).await.unwrap().into_inner().stats.unwrap();
    assert_eq!((stats.plan(), stats.ef_search, stats.distances), (Plan::ExactScan, 0, 300));
    let stats = client.search(with(ef_search(20))).await.unwrap().into_inner().stats.unwrap();
    // With so few videos a scan is faster than a traversal.
    assert_eq!((stats.plan(), stats.ef_search, stats.expanded), (Plan::CodeScan, 20, 0));
    assert!(stats.distances >= 300 && stats.elapsed.is_some());
    let forced = |plan: i32| Some(SearchParams { plan, ..ef_search(20).unwrap() });
    let stats = client.search(with(forced(Plan::Graph.into()))).await.unwrap().into_inner().stats.unwrap();
    assert_eq!((stats.plan(), stats.ef_search), (Plan::Graph, 20));
    assert!(stats.expanded > 0 && stats.distances > 0 && stats.elapsed.is_some());
    let stats =
        client.search(with(forced(Plan::ExactScan.into()))).await.unwrap().into_inner().stats.unwrap();
    assert_eq!((stats.plan(), stats.ef_search, stats.distances), (Plan::ExactScan, 0, 300));
    let contradiction = Some(SearchParams { plan: Plan::Graph.into(), ..exact().unwrap() });
    for params in [contradiction, forced(-1)] {
        let refused = client.search(with(params)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains("params.plan"), "{refused}");
    }
    let refused = client.search(with(forced(99))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("params.plan"), "{refused}");
}

#[tokio::test]
async fn packed_bytes_and_repeated_floats_give_equal_answers() {
    let index = TestIndex::new(200);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let repeated = client.search(request(&QUERY, 10)).await.unwrap().into_inner();
    let as_f32 = QUERY.iter().flat_map(|value| value.to_le_bytes()).collect();
    let as_f16 = QUERY.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
    for query in [packed(as_f32, Dtype::F32.into()), packed(as_f16, Dtype::F16.into())] {
        let response = client.search(SearchRequest { query, ..request(&[], 10) }).await.unwrap().into_inner();
        assert_eq!(response, repeated);
    }
}

#[tokio::test]
async fn a_short_answer_is_an_answer_with_a_reason() {
    let index = TestIndex::new(7);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let response = client.search(request(&QUERY, 10)).await.unwrap().into_inner();
    let completeness = response.completeness.unwrap();
    assert_eq!((completeness.requested, completeness.returned), (10, 7));
    assert_eq!(completeness.reason(), Reason::IndexExhausted);
}

#[tokio::test]
async fn seeds_are_searched_for_and_left_out() {
    let index = TestIndex::new(100);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let query = seeds(&[(video_id(3), None), (12345, Some(2.0)), (video_id(8), Some(-0.5))]);
    let sent = SearchRequest { query, params: exact(), ..request(&[], 5) };
    let response = client.search(sent).await.unwrap().into_inner();
    assert_eq!(response.unknown_video_ids, [12345]);
    let sum: Vec<f32> = index.rows[3].iter().zip(&index.rows[8]).map(|(a, b)| a - 0.5 * b).collect();
    let mut expected = index.exact(&sum, 7);
    expected.retain(|(id, _)| *id != video_id(3) && *id != video_id(8));
    let ids = |hits: &[(u64, f32)]| hits.iter().map(|(id, _)| *id).take(5).collect::<Vec<_>>();
    assert_eq!(ids(&hits(&response)), ids(&expected));
}

#[tokio::test]
async fn returns_the_attributes_asked_for_in_their_types() {
    let index = TestIndex::new(3);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let with = |names: &[&str]| SearchRequest {
        return_attributes: names.iter().map(|name| (*name).to_owned()).collect(),
        ..request(&QUERY, 3)
    };
    let all = client.search(with(&["*"])).await.unwrap().into_inner();
    let of = |row| {
        let candidate = all.candidates.iter().find(|candidate| candidate.video_id == video_id(row)).unwrap();
        let value = |name: &str| candidate.attributes.get(name).and_then(|value| value.value.clone());
        ["title", "tags", "delta", "views", "rating", "safe", "published_at"].map(value)
    };
    let tags = |row| KeywordList { values: vec!["all".into(), format!("tag-{row}")] };
    assert_eq!(
        of(1),
        [
            None,
            Some(Value::KeywordList(tags(1))),
            Some(Value::Int64(-1)),
            Some(Value::Uint64(u64::MAX - 1)),
            Some(Value::Double(0.25)),
            Some(Value::Bool(false)),
            Some(Value::Timestamp(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 })),
        ]
    );
    assert_eq!(of(2)[0], Some(Value::Keyword("title 2".into())));
    let some = client.search(with(&["views", "title"])).await.unwrap().into_inner();
    let candidate = some.candidates.iter().find(|candidate| candidate.video_id == video_id(0)).unwrap();
    assert_eq!(candidate.attributes.keys().collect::<Vec<_>>(), ["title", "views"]);
}

#[tokio::test]
async fn refuses_what_cannot_be_used_with_the_path_of_the_field() {
    let index = TestIndex::new(20);
    let limits = Limits { max_k: 100, max_ef_search: 200, max_seeds: 2 };
    let server = TestServer::start(&[("videos", &index)], Setup { limits, ..Setup::default() }).await;
    let mut client = server.retrieval().await;
    let with_value = |value| {
        let mut values = QUERY;
        values[5] = value;
        request(&values, 10)
    };
    let with_query = |query| SearchRequest { query, ..request(&[], 10) };
    let cases = [
        (request(&QUERY[..7], 10), "query.vector"),
        (request(&[0.0; DIM + 1], 10), "query.vector"),
        (request(&[], 10), "query.vector"),
        (with_value(f32::NAN), "query.vector"),
        (with_value(f32::INFINITY), "query.vector"),
        (with_value(f32::NEG_INFINITY), "query.vector"),
        (with_query(packed(vec![0; 4 * DIM], 0)), "query.vector.packed.dtype"),
        (with_query(packed(vec![0; 4 * DIM], 77)), "query.vector.packed.dtype"),
        (with_query(packed(vec![0; 4 * DIM - 1], 1)), "query.vector.packed.data"),
        (with_query(packed(vec![0; 4 * DIM], 2)), "query.vector"),
        (with_query(None), "query"),
        (with_query(seeds(&[])), "query.seeds"),
        (with_query(seeds(&[(1, None), (2, None), (3, None)])), "query.seeds"),
        (with_query(seeds(&[(video_id(1), Some(f32::NAN))])), "query.seeds.seeds[0].weight"),
        (request(&QUERY, 0), "k"),
        (request(&QUERY, 101), "k"),
        (SearchRequest { params: ef_search(0), ..request(&QUERY, 10) }, "params.ef_search"),
        (SearchRequest { params: ef_search(201), ..request(&QUERY, 10) }, "params.ef_search"),
        (
            SearchRequest { return_attributes: vec!["title".into(), "titel".into()], ..request(&QUERY, 10) },
            "return_attributes[1]",
        ),
        (
            SearchRequest { filter: Some(deep_filter(30)), ..request(&QUERY, 10) },
            &format!("filter{}", ".must[0].filter".repeat(16)),
        ),
        (SearchRequest { fresh: Some(Fresh::default()), ..request(&QUERY, 10) }, "fresh.within"),
        (SearchRequest { score_threshold: Some(f32::NAN), ..request(&QUERY, 10) }, "score_threshold"),
        (
            with_query(Some(search_request::Query::Interests(Interests {
                interests: vec![Interest::default()],
            }))),
            "query.interests.interests[0].vector",
        ),
    ];
    for (request, field) in cases {
        let status = client.search(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert_eq!(fields(&status), [field], "{status}");
        assert!(status.message().starts_with(field), "{status}");
    }
}

#[tokio::test]
async fn names_what_is_not_there() {
    let index = TestIndex::new(20);
    let server = TestServer::start(&[("a", &index), ("b", &index)], Setup::default()).await;
    let mut client = server.retrieval().await;

    let status = client.search(SearchRequest { index: "c".into(), ..request(&QUERY, 5) }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(fields(&status), ["index"]);
    let details = status.get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("shortlist.v1.Index", "c")
    );

    let status = client.search(request(&QUERY, 5)).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["index".to_owned()]));

    let unknown =
        SearchRequest { index: "a".into(), query: seeds(&[(77, None), (78, None)]), ..request(&[], 5) };
    let status = client.search(unknown).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::NotFound, vec!["query.seeds".to_owned()]));
    let details = status.get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("shortlist.v1.Video", "77")
    );
}

#[tokio::test]
async fn the_embedding_model_must_match_when_given() {
    let index = TestIndex::new(20);
    let server = TestServer::of(&index).await;
    let mut client = server.retrieval().await;
    let of_model = |model: &str| SearchRequest { embedding_model: model.to_owned(), ..request(&QUERY, 5) };
    assert!(client.search(of_model(MODEL)).await.is_ok());
    let status = client.search(of_model("towers-4")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(fields(&status), ["embedding_model"]);
}

#[tokio::test]
async fn message_sizes_are_bounded_both_ways() {
    let index = TestIndex::new(200);
    let limits =
        ServiceLimits { max_message_bytes: 2000, max_response_bytes: 1000, ..ServiceLimits::default() };
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    let mut client = server.retrieval().await;
    assert!(client.search(request(&QUERY, 10)).await.is_ok());

    let status = client.search(request(&[0.0; 1000], 10)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let status = client.search(request(&QUERY, 200)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");

    // 400 kB of zeros are below the limit compressed and above it uncompressed.
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    assert!(client.search(request(&QUERY, 10)).await.is_ok());
    let status = client.search(request(&vec![0.0; 100_000], 10)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}
