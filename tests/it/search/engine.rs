//! Answers and errors of the engine, without a server.

use std::time::Instant;

use shortlist::base::id::VideoId;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, Plan, Query, Readiness, SearchRequest, Seed,
};

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
