//! Answers of a router are those of one server with all videos, byte for byte where they are not about the server itself.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roaring::RoaringTreemap;
use shortlist::base::element::Dtype;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::base::partition::Shard;
use shortlist::engine::{
    Budget, Completeness, Effort, Interest, Query, ReturnAttributes, SearchRequest, Shortfall,
};
use shortlist::index::Codes;
use shortlist::rules::{Bloom, Diversity, Fresh};
use shortlist::service::proto::completeness::Reason;
use shortlist::service::proto::{ExplainRequest, search_request};
use tonic::Code;

use crate::harness::indexes::shared_data;
use crate::harness::remote::{answer, message};
use crate::harness::wire::fields;
use crate::router::fixture::SHARDS;
use crate::rules::dataset::{Components, RuledDataset, Shape};
use crate::rules::requests::random_request;

const SHAPE: Shape = Shape {
    videos: 2000,
    dim: 16,
    metric: Metric::InnerProduct,
    dtype: Dtype::F16,
    codes: Codes::Sq8,
    components: Components::Grid,
    has_duplicates: true,
    seed: 77,
};
/// The number of random requests.
const REQUESTS: u64 = 500;

/// The value of a variable of the environment, for longer runs.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn requests(dataset: &RuledDataset, count: u64) -> impl Iterator<Item = SearchRequest> + '_ {
    (0..count).map(|number| {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let request = random_request(dataset, &mut random);
        let offset = [0, 0, request.k, request.k / 2][number as usize % 4];
        let mut request = SearchRequest { effort: Effort::Exact, offset, ..request };
        if number % 5 == 0 {
            let lambda = Some([0.0, 0.3, 0.7, 1.0][number as usize / 5 % 4]);
            request.rules.diversity =
                Some(Diversity { lambda, ..request.rules.diversity.unwrap_or_default() });
        }
        request
    })
}

/// `ROUTER_VIDEOS` and `ROUTER_REQUESTS` make a longer run.
#[test]
fn exact_answers_to_random_requests_are_identical() {
    let videos = setting("ROUTER_VIDEOS", SHAPE.videos as u64) as usize;
    check_identical(Shape { videos, ..SHAPE }, setting("ROUTER_REQUESTS", REQUESTS));
}

#[test]
fn exact_answers_about_real_videos_are_identical() {
    if shared_data().is_none() {
        return;
    }
    let shape =
        Shape { videos: 20_102, dim: 128, components: Components::Real, has_duplicates: false, ..SHAPE };
    check_identical(shape, setting("ROUTER_REQUESTS", 200));
}

/// Compares exact answers of a router to random requests with those of one server.
fn check_identical(shape: Shape, count: u64) {
    let dataset = RuledDataset::routed(shape).unwrap();
    let mut short = 0;
    for (number, request) in requests(&dataset, count).enumerate() {
        let expected = dataset.engine.search(&request, &Budget::default()).unwrap();
        let found = dataset.search(&request);
        let pairs =
            |of: &shortlist::engine::SearchResponse| -> Vec<(VideoId, f32, Option<usize>, Vec<usize>)> {
                let all = of.candidates.iter();
                all.map(|found| (found.video_id, found.score, found.interest, found.reserved.clone()))
                    .collect()
            };
        assert_eq!(pairs(&found), pairs(&expected), "request {number}: {request:?}");
        // Videos below the threshold that also exceed a cap are not looked at.
        let is_hidden = found.completeness == Completeness::Short(Shortfall::CapsExhausted)
            && expected.completeness == Completeness::Short(Shortfall::ScoreThreshold);
        assert!(is_hidden || found.completeness == expected.completeness, "request {number}: {request:?}");
        assert_eq!(found.unknown_seeds, expected.unknown_seeds);
        assert_eq!(found.stats.matches, expected.stats.matches, "request {number}: {request:?}");
        assert_eq!((found.videos, found.requested), (shape.videos as u64, request.k));
        short += u64::from(found.candidates.len() < request.k);
    }
    assert!(short * 25 > count, "only {short} short answers");
}

/// Each shard is asked for each interest, for the fresh ones and for the rest, up to 72 times for one request. It is allowed a Bloom
/// filter of a megabyte and 100,000 ids, and has 48 MiB for all of its messages.
#[test]
fn a_request_may_be_as_long_as_for_one_server() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let interest = |_| Interest { vector: dataset.query(&mut random), weight: 1.0, min_share: 0.05 };
    let interests = (0..16).map(interest).collect();
    let mut request = SearchRequest { k: 100, effort: Effort::Exact, ..SearchRequest::default() };
    request.query = Query::Interests(interests);
    request.rules.fresh = Some(Fresh::new("published_at", Duration::from_secs(3600 * 200), 10));
    let some = dataset.videos.iter().step_by(3).map(|video| VideoId(video.id));
    let others = (0..96_000).map(|_| VideoId(random.random()));
    request.rules.exclude.video_ids = others.chain(some).collect();
    let in_bitmap: RoaringTreemap = (0..3_000).map(|_| random.random::<u64>()).collect();
    in_bitmap.serialize_into(&mut request.rules.exclude.roaring).unwrap();
    request.rules.exclude.bloom = Some(Bloom { bits: vec![0; 1 << 20], hashes: 3, seed: 1 });
    let expected = dataset.engine.search(&request, &Budget::default()).unwrap();
    let found = dataset.search(&request);
    let ids = |of: &shortlist::engine::SearchResponse| -> Vec<VideoId> {
        of.candidates.iter().map(|found| found.video_id).collect()
    };
    assert_eq!(ids(&found), ids(&expected));
    assert_eq!(found.candidates.len(), 100);
}

#[test]
fn only_what_was_asked_for_is_returned() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let router = dataset.router();
    let mut wanted: Vec<SearchRequest> = requests(&dataset, 40).collect();
    for (at, request) in wanted.iter_mut().enumerate() {
        request.return_attributes = match at % 3 {
            0 => ReturnAttributes::None,
            1 => ReturnAttributes::Named(vec!["region".to_owned()]),
            _ => ReturnAttributes::All,
        };
        request.return_vectors = at % 2 == 0;
        let sent = message(request);
        let found = router.wait(async |mut client| client.search(sent).await).unwrap().into_inner();
        let expected = dataset.engine.search(request, &Budget::default()).unwrap();
        for (candidate, expected) in found.candidates.iter().zip(&expected.candidates) {
            let names: Vec<&String> = candidate.attributes.keys().collect();
            let mut of_engine: Vec<&String> = expected.attributes.iter().map(|(name, _)| name).collect();
            of_engine.sort();
            assert_eq!(names, of_engine);
            assert_eq!(candidate.vector.clone().map(|vector| vector.values), expected.vector);
        }
        let coverage = found.coverage.unwrap();
        assert_eq!((coverage.shards_total, coverage.shards_answered), (SHARDS, SHARDS));
        assert_eq!((coverage.videos_total, coverage.videos_searched), (2000, 2000));
    }
}

#[test]
fn errors_name_the_fields_of_the_caller() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let router = dataset.router();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let valid = SearchRequest { k: 5, ..SearchRequest::vector(dataset.query(&mut random)) };
    let valid = message(&valid);
    type Change = fn(&mut shortlist::service::proto::SearchRequest);
    let cases: [(&str, Change); 15] = [
        ("k", |request| request.k = 0),
        ("k", |request| request.k = 10_001),
        ("offset", |request| request.offset = 9_996),
        ("min_coverage", |request| request.min_coverage = Some(1.5)),
        ("query.vector", |request| {
            let Some(search_request::Query::Vector(vector)) = &mut request.query else { panic!() };
            vector.values.pop();
        }),
        ("filter_text", |request| request.filter_text = "nothing = 1".to_owned()),
        ("caps[0].attribute", |request| request.caps = vec![crate::harness::wire::cap("nothing", 1)]),
        ("caps[0].attribute", |request| request.caps = vec![crate::harness::wire::cap("score", 1)]),
        ("caps[1].attribute", |request| {
            request.caps =
                vec![crate::harness::wire::cap("region", 1), crate::harness::wire::cap("score", 1)];
        }),
        ("caps[1].max_per_value", |request| {
            request.caps =
                vec![crate::harness::wire::cap("region", 1), crate::harness::wire::cap("views", 0)];
        }),
        ("fresh.attribute", |request| request.fresh = crate::harness::wire::fresh("region", 2)),
        ("fresh.attribute", |request| {
            request.fresh = crate::harness::wire::fresh("nothing", 2);
            request.caps = vec![crate::harness::wire::cap("region", 1)];
        }),
        ("fresh.at_least", |request| request.fresh = crate::harness::wire::fresh("published_at", 6)),
        ("return_attributes[0]", |request| request.return_attributes = vec!["nothing".to_owned()]),
        ("params.effort_k", |request| {
            request.params =
                Some(shortlist::service::proto::SearchParams { effort_k: 20_000, ..Default::default() });
        }),
    ];
    for (field, change) in cases {
        let mut request = valid.clone();
        change(&mut request);
        let of_search = router.wait(async |mut client| client.search(request.clone()).await).unwrap_err();
        assert_eq!(of_search.code(), Code::InvalidArgument, "{field}: {of_search:?}");
        assert_eq!(fields(&of_search), [field], "{of_search:?}");
        assert!(of_search.message().starts_with(&format!("{field}: ")), "{of_search:?}");
        let requests = vec![valid.clone(), request];
        let batch = shortlist::service::proto::BatchSearchRequest { requests };
        let batch = router.wait(async |mut client| client.batch_search(batch).await).unwrap().into_inner();
        let results: Vec<_> = batch.results.into_iter().map(|result| result.result.unwrap()).collect();
        use shortlist::service::proto::batch_search_result::Result as Item;
        assert!(matches!(&results[0], Item::Response(response) if response.candidates.len() == 5));
        let Item::Error(error) = &results[1] else { panic!("{field} is accepted") };
        assert!(error.message.starts_with(&format!("requests[1].{field}: ")), "{error:?}");
    }
    let mut other = valid;
    other.index = "other".to_owned();
    let status = router.wait(async |mut client| client.search(other).await).unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::NotFound, vec!["index".to_owned()]));
}

#[test]
fn a_video_is_explained_with_its_rank_among_all() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let router = dataset.router();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let request =
        SearchRequest { k: 20, effort: Effort::Exact, ..SearchRequest::vector(dataset.query(&mut random)) };
    let all = SearchRequest { k: 2000, ..request.clone() };
    let all = dataset.engine.search(&all, &Budget::default()).unwrap();
    for rank in [0, 7, 19, 20, 500] {
        let video = all.candidates[rank].video_id;
        let asked =
            ExplainRequest { request: Some(message(&request)), video_id: video.0, ..Default::default() };
        let found = router.wait(async |mut client| client.explain(asked).await).unwrap().into_inner();
        assert_eq!(found.exact_rank, Some(rank as u64 + 1));
        assert_eq!((found.in_exact_answer, found.found), (rank < 20, rank < 20));
        assert_eq!(found.exact_score, all.candidates[rank].score);
    }
}

#[test]
fn a_token_leads_from_page_to_page() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let router = dataset.router();
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let first =
        SearchRequest { k: 30, effort: Effort::Exact, ..SearchRequest::vector(dataset.query(&mut random)) };
    let all = SearchRequest { k: 90, ..first.clone() };
    let all = dataset.engine.search(&all, &Budget::default()).unwrap();
    let (mut request, mut found) = (message(&first), Vec::new());
    for _ in 0..3 {
        let sent = request.clone();
        let page = router.wait(async |mut client| client.search(sent).await).unwrap().into_inner();
        found.extend(page.candidates.iter().map(|candidate| VideoId(candidate.video_id)));
        request.page_token = page.next_page_token;
        assert!(!request.page_token.is_empty());
    }
    assert_eq!(found, all.candidates.iter().map(|found| found.video_id).collect::<Vec<_>>());
    let refused = |change: &dyn Fn(&mut shortlist::service::proto::SearchRequest)| {
        let mut request = request.clone();
        change(&mut request);
        router.wait(async |mut client| client.search(request).await).unwrap_err()
    };
    let cut = refused(&|request| _ = request.page_token.pop());
    assert_eq!((cut.code(), fields(&cut)), (Code::InvalidArgument, vec!["page_token".to_owned()]));
    let both = refused(&|request| request.offset = 1);
    assert_eq!((both.code(), fields(&both)), (Code::InvalidArgument, vec!["offset".to_owned()]));
}

#[test]
fn an_answer_is_complete_or_says_why() {
    let dataset = RuledDataset::routed(SHAPE).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let request =
        SearchRequest { k: 3000, effort: Effort::Exact, ..SearchRequest::vector(dataset.query(&mut random)) };
    let found = dataset.router().wait(async |mut client| client.search(message(&request)).await).unwrap();
    let completeness = found.get_ref().completeness.unwrap();
    assert_eq!((completeness.returned, completeness.reason()), (2000, Reason::IndexExhausted));
    assert_eq!(answer(found.get_ref()).candidates.len(), 2000);
    let owners = dataset.videos.iter().map(|video| Shard::of_video(VideoId(video.id), SHARDS));
    assert!(owners.collect::<std::collections::BTreeSet<u32>>().len() == SHARDS as usize);
}
