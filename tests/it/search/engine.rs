//! Answers and errors of the engine, without a server.

use std::time::Instant;

use jiff::SignedDuration;
use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, Interest, Plan, Query, Readiness, SearchRequest, Seed,
};
use shortlist::rules::{Bloom, Cap, Condition, Exclude, Filter, Fresh, Rules};

use crate::harness::{DIM, MODEL, TestIndex, video_id};

fn engine(index: &TestIndex) -> Engine {
    let indexes = vec![("videos".to_owned(), index.dir())];
    Engine::open(EngineOptions { indexes, threads: 1, ..EngineOptions::default() }).unwrap()
}

fn request(query: Query, k: usize, effort: Effort) -> SearchRequest {
    SearchRequest { query, k, effort, ..SearchRequest::default() }
}

#[test]
fn a_search_whose_budget_is_over_says_what_ended_it() {
    let index = TestIndex::new(3000);
    let engine = engine(&index);
    for effort in [Effort::Exact, Effort::EfSearch(3000)] {
        let request = request(Query::Vector(vec![1.0; DIM]), 10, effort);
        let cancelled = Budget::default();
        cancelled.clone().cancel();
        assert!(matches!(engine.search(&request, &cancelled), Err(EngineError::Cancelled)));
        let expired = Budget::until(Some(Instant::now()));
        assert!(matches!(engine.search(&request, &expired), Err(EngineError::DeadlineExceeded)));
        assert_eq!(engine.search(&request, &Budget::default()).unwrap().candidates.len(), 10);
    }
}

#[test]
fn seeds_add_up_and_stay_out_of_the_answer() {
    let index = TestIndex::new(200);
    let engine = engine(&index);
    let weights = [(3, 1.0), (5, 0.5), (8, -0.25)];
    let mut seeds: Vec<Seed> = weights
        .iter()
        .map(|(row, weight)| Seed { video_id: VideoId(video_id(*row)), weight: *weight })
        .collect();
    seeds.push(Seed { video_id: VideoId(1), weight: 100.0 });
    let answer = engine.search(&request(Query::Seeds(seeds), 20, Effort::Exact), &Budget::default()).unwrap();
    assert_eq!(answer.unknown_seeds, [VideoId(1)]);
    assert_eq!((answer.stats.plan, answer.stats.distances), (Plan::ExactScan, 200));
    let sum: Vec<f32> =
        (0..DIM).map(|at| weights.iter().map(|(row, weight)| weight * index.rows[*row][at]).sum()).collect();
    let seeded: Vec<u64> = weights.iter().map(|(row, _)| video_id(*row)).collect();
    let expected: Vec<u64> =
        index.exact(&sum, 200).iter().map(|(id, _)| *id).filter(|id| !seeded.contains(id)).take(20).collect();
    let found: Vec<u64> = answer.candidates.iter().map(|candidate| candidate.video_id.0).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_embedding_model_must_match_when_it_is_named() {
    let index = TestIndex::new(20);
    let engine = engine(&index);
    let named = |model: &str| SearchRequest {
        embedding_model: Some(model.to_owned()),
        ..request(Query::Vector(vec![1.0; DIM]), 5, Effort::Default)
    };
    assert!(engine.search(&named(MODEL), &Budget::default()).is_ok());
    let refused = engine.search(&named("towers-2"), &Budget::default()).unwrap_err();
    assert!(
        matches!(&refused, EngineError::EmbeddingModel { found, .. } if found == "towers-2"),
        "{refused}"
    );
}

#[test]
fn requests_that_take_much_longer_are_expected_to() {
    let index = TestIndex::new(3000);
    let engine = engine(&index);
    let plain = |k| request(Query::Vector(vec![1.0; DIM]), k, Effort::Default);
    let ruled = |rules| SearchRequest { rules, ..plain(10) };
    let cap = |attribute: &str, max_per_value| Cap { attribute: attribute.to_owned(), max_per_value };
    let capped = |caps| ruled(Rules { caps, ..Rules::default() });
    let fresh = |at_least| Fresh {
        attribute: "published_at".into(),
        within: SignedDuration::from_hours(1),
        at_least,
    };
    let kept = |at_least| ruled(Rules { fresh: Some(fresh(at_least)), ..Rules::default() });
    let interests = |count, min_share| {
        Query::Interests(vec![Interest { vector: vec![1.0; DIM], weight: 1.0, min_share }; count])
    };
    let bloom = |byte, hashes| {
        let bloom = Some(Bloom { bits: vec![byte; 1000], hashes, seed: 1 });
        ruled(Rules { exclude: Exclude { bloom, ..Exclude::default() }, ..Rules::default() })
    };
    let filter = |filter| ruled(Rules { filter: Some(filter), ..Rules::default() });
    let words =
        |count| Condition::Keyword { attribute: "title".into(), any_of: vec!["title 7".into(); count] };
    let should = |min_should| {
        filter(Filter { should: vec![words(1); 1000], min_should: Some(min_should), ..Filter::default() })
    };
    let offset = |request, offset| SearchRequest { offset, ..request };
    let cases = [
        (
            "exact, with interests",
            2.0,
            request(interests(16, 0.0), 10, Effort::Exact),
            request(interests(1, 0.0), 10, Effort::Exact),
        ),
        ("k", 5.0, plain(1000), plain(10)),
        ("offset", 10.0, offset(plain(10), 990), plain(10)),
        ("offset instead of k", 2.0, offset(plain(10), 990), plain(1000)),
        ("kept places", 1.5, offset(kept(1), 990), offset(plain(10), 990)),
        ("no kept places", 1.0, plain(10), kept(0)),
        ("caps", 1.5, offset(capped(vec![cap("title", 2); 16]), 990), offset(plain(10), 990)),
        ("caps of too few values", 20.0, capped(vec![cap("safe", 4)]), capped(vec![cap("safe", 5)])),
        ("the smallest cap counts", 20.0, capped(vec![cap("title", 1), cap("safe", 4)]), plain(10)),
        ("interests", 3.0, SearchRequest { query: interests(16, 0.0), ..plain(10) }, plain(10)),
        (
            "interests with places",
            2.0,
            SearchRequest { query: interests(16, 1.0 / 16.0), ..plain(100) },
            SearchRequest { query: interests(16, 0.0), ..plain(100) },
        ),
        ("a full Bloom filter", 20.0, bloom(0xff, 32), bloom(0, 32)),
        ("a half full one with one hash is no full one", 10.0, bloom(0xff, 1), bloom(0x0f, 1)),
        ("words", 20.0, filter(Filter { must: vec![words(100_000)], ..Filter::default() }), plain(10)),
        ("counted conditions", 5.0, should(500), should(1)),
    ];
    for (name, times, dear, cheap) in cases {
        let (dear, cheap) = (engine.expected_cost(&dear), engine.expected_cost(&cheap));
        assert!(dear as f64 >= times * cheap as f64, "{name}: {dear} and {cheap}");
    }
}

#[test]
fn an_index_is_ready_once_it_is_warm() {
    let index = TestIndex::new(20);
    let indexes = vec![("videos".to_owned(), index.dir())];
    let options = EngineOptions { indexes, threads: 1, is_writable: true, ..EngineOptions::default() };
    let engine = Engine::open(options.clone()).unwrap();
    let warming = Readiness::NotYet("generation 1 is being warmed and checked".to_owned());
    assert_eq!(engine.readiness("videos").unwrap(), warming);
    engine.refresh();
    assert_eq!(engine.readiness("").unwrap(), Readiness::Ready);
    let engine = Engine::open(EngineOptions { is_writable: false, ..options }).unwrap();
    engine.activate("", 1).unwrap();
    assert_eq!(engine.readiness("").unwrap(), Readiness::ReadOnly("this server takes no writes".to_owned()));
    assert!(engine.readiness("other").is_err());
}
