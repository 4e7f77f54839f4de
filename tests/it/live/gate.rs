//! The quality gate: which generations it refuses, and how they are handled.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use shortlist::base::id::VideoId;
use shortlist::dataset::write_npy;
use shortlist::engine::{
    Budget, Effort, Engine, EngineError, EngineOptions, GateOptions, LiveRecall, RebuildOptions,
    RebuildState, Refresh, SampleOptions, WriteMode,
};
use shortlist::index::{IndexStore, StoreError};
use shortlist::live::Mutation;
use shortlist::service::ServiceOptions;
use shortlist::service::proto::ActivateRequest;
use tonic::Code;

use crate::harness::{DIM, Setup, TestIndex, TestServer, video_id};
use crate::live::engine::{VIDEOS, request};

/// Opens an index that takes a sample of every query and starts no rebuild by itself.
pub(crate) fn open(index: &TestIndex, gate: GateOptions) -> Engine {
    Engine::open(EngineOptions {
        indexes: vec![("videos".to_owned(), index.dir())],
        threads: 1,
        is_writable: true,
        rebuild: RebuildOptions { delta_share: 0.0, deleted_share: 0.0, ..RebuildOptions::default() },
        gate,
        sample: SampleOptions { share: 1.0 },
        ..EngineOptions::default()
    })
    .unwrap()
}

/// Writes a file of twenty users next to the index.
fn users(index: &TestIndex) -> PathBuf {
    let path = index.dir().with_file_name("users.npy");
    let rows: Vec<[f32; DIM]> =
        (0..20).map(|row| std::array::from_fn(|at| (row * at % 7) as f32 - 2.5)).collect();
    write_npy(&path, &[20, DIM], rows.as_flattened()).unwrap();
    path
}

fn strict(index: &TestIndex) -> GateOptions {
    let query_files = BTreeMap::from([("videos".to_owned(), users(index))]);
    GateOptions { k: 10, min_overlap: 0.9, query_files, ..GateOptions::default() }
}

/// The file of users does not exist.
fn strict_without_users(index: &TestIndex) -> GateOptions {
    let path = index.dir().with_file_name("users.npy");
    let query_files = BTreeMap::from([("videos".to_owned(), path)]);
    GateOptions { k: 10, query_files, ..GateOptions::default() }
}

#[test]
fn a_generation_that_is_refused_leaves_a_report_and_answers_only_if_forced() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index, strict(&index));
    // Other embeddings of the same model, so answers overlap little with the previous generation.
    index.publish(VIDEOS);
    let news = engine.refresh();
    assert!(matches!(news.as_slice(), [.., Refresh::Refused { manifest: 2, .. }]), "{news:?}");
    let status = engine.status("").unwrap();
    assert_eq!(status.generation, 1);
    let refused = status.refused.unwrap();
    assert!(
        refused.contains("refused by the quality gate: expected at least 0.9 of the answers"),
        "{refused}"
    );
    let report = status.gate.unwrap();
    assert_eq!((report.generation, report.found.current, report.problems.len()), (2, 1, 1));
    assert_eq!((report.found.queries, report.found.k, report.found.recall_ppm), (20, 10, 1_000_000));
    assert!(report.found.source.ends_with("users.npy"));
    assert!(report.found.overlap_ppm.unwrap() < 900_000 && report.found.p99_ns > 0);
    let store = IndexStore::new(index.dir());
    let kept = store.open_gate_report(2, &store.open_generation(2).unwrap()).unwrap().0;
    assert_eq!(kept, Some(report));
    // Neither a refresh nor a restart changes the result.
    assert!(engine.refresh().is_empty());
    drop(engine);
    let engine = open(&index, strict(&index));
    let status = engine.status("").unwrap();
    assert_eq!(status.generation, 1);
    assert!(status.refused.unwrap().contains("refused by the quality gate"));
    let error = engine.activate("", 2).unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::NotServable { .. })), "{error}");
    assert_eq!(engine.activate_forced("", 2).unwrap().generation, 2);
    drop(engine);
    let engine = open(&index, strict(&index));
    assert_eq!(engine.status("").unwrap().generation, 2);
    assert_eq!(engine.activate("", 1).unwrap().generation, 1);
}

#[tokio::test]
async fn a_refused_generation_is_activated_by_force_alone() {
    let mut index = TestIndex::new(VIDEOS);
    let setup = Setup { gate: strict(&index), ..Setup::default() };
    let server = TestServer::start(&[("videos", &index)], setup).await;
    index.publish(VIDEOS);
    server.until("shortlist_gate_passed{index=\"videos\"}", 0.0).await;
    let mut admin = server.admin().await;
    let activate = |force| ActivateRequest { index: String::new(), generation: 2, force };
    let refused = admin.activate(activate(false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("refused by the quality gate"), "{refused}");
    let status = admin.activate(activate(true)).await.unwrap().into_inner().index.unwrap();
    assert_eq!((status.generation, status.refused.as_str()), (2, ""));
    assert!(!status.gate.unwrap().passed);
}

/// Whoever opened the pipe would wait for a writer, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_place_of_users_is_refused_and_does_not_delay_the_other_indexes() {
    let (mut slow, mut quick) = (TestIndex::new(VIDEOS), TestIndex::new(VIDEOS));
    let pipe = slow.dir().with_file_name("users.npy");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let query_files = BTreeMap::from([("a-slow".to_owned(), pipe)]);
    let gate = GateOptions { query_files, ..GateOptions::default() };
    let service = ServiceOptions { poll_interval: Duration::from_millis(20), ..ServiceOptions::default() };
    let setup = Setup { gate, service, ..Setup::default() };
    let server = TestServer::start(&[("a-slow", &slow), ("quick", &quick)], setup).await;
    slow.publish(VIDEOS);
    for generation in 2..5 {
        quick.publish(VIDEOS);
        server.until("shortlist_generation{index=\"quick\"}", f64::from(generation)).await;
    }
    let refused = "shortlist_refused_publications_total{index=\"a-slow\",reason=\"measurement\"}";
    server.until(refused, 1.0).await;
    server.stop().await;
}

/// A rebuild that is cancelled before publication leaves no files.
#[test]
fn a_rebuild_that_is_cancelled_while_it_is_measured_publishes_nothing() {
    let index = TestIndex::new(20_000);
    let path = index.dir().with_file_name("many.npy");
    let rows: Vec<f32> = (0..2_000 * DIM).map(|at| (at * 7919 % 101) as f32 - 50.0).collect();
    write_npy(&path, &[2_000, DIM], &rows).unwrap();
    let query_files = BTreeMap::from([("videos".to_owned(), path)]);
    let engine = open(&index, GateOptions { queries: 2_000, query_files, ..GateOptions::default() });
    engine.start_rebuild("").unwrap();
    let state = || engine.status("").unwrap().live.rebuild.state;
    while state() == RebuildState::Running {
        std::thread::yield_now();
    }
    engine.cancel_rebuild("").unwrap();
    while state().is_underway() {
        std::thread::yield_now();
    }
    assert_eq!(state(), RebuildState::Cancelled);
    assert_eq!(engine.status("").unwrap().available_generations, [1]);
}

/// A build whose check fails is kept until the cause is fixed.
#[test]
fn a_rebuild_that_cannot_be_measured_is_kept_and_does_not_answer() {
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index, strict_without_users(&index));
    engine.start_rebuild("").unwrap();
    while engine.status("").unwrap().live.rebuild.state.is_underway() {
        std::thread::yield_now();
    }
    let status = engine.status("").unwrap();
    assert_eq!(status.live.rebuild.state, RebuildState::Failed);
    let problem = status.live.rebuild.problem.unwrap();
    assert!(problem.contains("generation 2 was published, but does not answer"), "{problem}");
    assert!(problem.contains("users.npy"), "{problem}");
    assert_eq!((status.generation, status.available_generations), (1, vec![1, 2]));
    // A restart does not change that.
    drop(engine);
    let engine = open(&index, strict_without_users(&index));
    let status = engine.status("").unwrap();
    assert_eq!(status.generation, 1);
    assert!(status.refused.unwrap().contains("users.npy"));
    engine.refresh();
    assert_eq!(engine.status("").unwrap().generation, 1);
    // The file of users exists again.
    users(&index);
    drop(engine);
    let engine = open(&index, strict(&index));
    engine.refresh();
    assert_eq!(engine.status("").unwrap().generation, 2);
}

#[test]
fn of_refused_generations_the_last_is_kept() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index, strict(&index));
    let delete = Mutation::Delete(VideoId(video_id(0)));
    engine.write("", vec![delete], WriteMode::AllOrNothing).unwrap();
    for generation in 2..5 {
        index.publish(VIDEOS);
        engine.refresh();
        let status = engine.status("").unwrap();
        assert_eq!((status.generation, status.available_generations), (1, vec![1, generation]));
    }
}

/// A generation published while no server ran, or before a killed server had checked it.
#[test]
fn what_nobody_measured_is_measured_after_a_restart() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index, strict(&index));
    engine.start_rebuild("").unwrap();
    while engine.status("").unwrap().live.rebuild.state.is_underway() {
        std::thread::yield_now();
    }
    assert_eq!(engine.status("").unwrap().generation, 2);
    drop(engine);
    index.publish(VIDEOS);
    let engine = open(&index, strict(&index));
    assert_eq!(engine.status("").unwrap().generation, 2);
    let news = engine.refresh();
    assert!(news.iter().any(|news| matches!(news, Refresh::Refused { .. })), "{news:?}");
    let status = engine.status("").unwrap();
    assert_eq!((status.generation, status.gate.unwrap().generation), (2, 3));
}

#[test]
fn a_generation_that_is_as_good_passes() {
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index, strict(&index));
    engine.start_rebuild("").unwrap();
    while engine.status("").unwrap().live.rebuild.state.is_underway() {
        std::thread::yield_now();
    }
    let news = engine.refresh();
    assert!(news.iter().any(|news| matches!(news, Refresh::Swapped { from: 1, to: 2, .. })), "{news:?}");
    let report = engine.status("").unwrap().gate.unwrap();
    assert_eq!((report.problems, report.found.overlap_ppm), (Vec::new(), Some(1_000_000)));
}

/// A generation of another embedding model is not checked for overlap, nor with users of the old model.
#[test]
fn a_generation_of_another_model_is_measured_alone() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index, strict(&index));
    index.model = "towers-4".to_owned();
    index.publish(VIDEOS);
    engine.refresh();
    let status = engine.status("").unwrap();
    let found = status.gate.unwrap().found;
    assert_eq!((status.generation, found.current, found.overlap_ppm), (2, 0, None));
    assert_eq!((found.queries, found.recall_ppm), (20, 1_000_000));
}

#[test]
fn users_that_asked_are_asked_for_again_and_query_files_must_fit() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index, GateOptions { queries: 5, ..GateOptions::default() });
    // One in five is held out for the gate.
    for row in 1..=60 {
        engine.search(&request([row as f32; DIM], 3, Effort::Default), &Budget::default()).unwrap();
    }
    index.publish(VIDEOS);
    engine.refresh();
    let found = engine.status("").unwrap().gate.unwrap().found;
    assert_eq!((found.queries, found.source.as_str()), (5, "sampled users"));
    drop(engine);
    let path = index.dir().with_file_name("narrow.npy");
    write_npy(&path, &[2, 3], &[1.0; 6]).unwrap();
    let query_files = BTreeMap::from([("videos".to_owned(), path)]);
    let engine = open(&index, GateOptions { query_files, ..GateOptions::default() });
    index.publish(VIDEOS);
    engine.refresh();
    let problem = engine.status("").unwrap().refused.unwrap();
    assert!(problem.contains("narrow.npy: expected 8 dimensions as in the index, found 3"), "{problem}");
}

/// Vectors so short that their scores are denormal numbers are neither sampled nor counted.
#[test]
fn queries_that_no_index_can_rank_judge_nothing() {
    let mut index = TestIndex::new(VIDEOS);
    let engine = open(&index, GateOptions { queries: 5, ..GateOptions::default() });
    for row in 1..=60u16 {
        for scale in [1e-45, 1e-42, 1e-38, 1e-20] {
            let query = std::array::from_fn(|at| f32::from(row * at as u16 % 11 + 1) * scale);
            engine.search(&request(query, 10, Effort::Default), &Budget::default()).unwrap();
        }
    }
    assert!(!engine.measure_recall());
    index.publish(VIDEOS);
    engine.refresh();
    let status = engine.status("").unwrap();
    assert_eq!((status.generation, status.recall), (2, Vec::new()));
    assert_eq!(status.gate.unwrap().found.queries, 0);
}

/// The flood would push all users of the other caller out of the sample.
#[test]
fn a_caller_that_floods_the_sample_does_not_choose_the_judges() {
    let mut index = TestIndex::new(20);
    let engine = open(&index, GateOptions { queries: 10_000, ..GateOptions::default() });
    let ask = |peer: [u8; 4], user: u16| {
        let query = request([f32::from(user); DIM], 1, Effort::Default);
        engine.search_of(Some(peer.into()), &query, &Budget::default()).unwrap();
    };
    (1..=2_000).for_each(|user| ask([127, 0, 0, 1], user));
    (1..=12_000).for_each(|_| ask([127, 0, 0, 2], 1));
    index.publish(20);
    engine.refresh();
    // One in five of the 2,000.
    let queries = engine.status("").unwrap().gate.unwrap().found.queries;
    assert!((300..500).contains(&queries), "{queries}");
}

/// A query is not usable if it has no direction.
#[test]
fn unusable_queries_are_passed_over_and_a_file_of_them_measures_nothing() {
    for (rows, source) in [([0, 0, 0, 0], "nothing measured: none of the 4 queries of "), ([0, 0, 0, 1], "/")]
    {
        let mut index = TestIndex::new(VIDEOS);
        let path = index.dir().with_file_name("mixed.npy");
        let vectors: Vec<f32> = rows.into_iter().flat_map(|value| [value as f32; DIM]).collect();
        write_npy(&path, &[rows.len(), DIM], &vectors).unwrap();
        let query_files = BTreeMap::from([("videos".to_owned(), path)]);
        let engine = open(&index, GateOptions { queries: 2, query_files, ..GateOptions::default() });
        index.publish(VIDEOS);
        engine.refresh();
        let status = engine.status("").unwrap();
        let found = status.gate.unwrap().found;
        assert_eq!((status.generation, found.queries), (2, rows[3]));
        assert!(found.source.starts_with(source) && found.source.contains("mixed.npy"), "{}", found.source);
        assert_eq!(found.source.ends_with(" is usable"), found.queries == 0);
    }
}

#[test]
fn answers_of_the_sample_are_compared_with_exact_ones() {
    let index = TestIndex::new(VIDEOS);
    let engine = open(&index, GateOptions::default());
    assert!(!engine.measure_recall());
    for k in [1, 7, 10, 30] {
        engine.search(&request([1.0; DIM], k, Effort::Default), &Budget::default()).unwrap();
    }
    // Exact answers do not count for recall.
    engine.search(&request([1.0; DIM], 5, Effort::Exact), &Budget::default()).unwrap();
    while engine.measure_recall() {}
    let of = |k, answers| LiveRecall { k: Some(k), recall: 1.0, answers, target: None };
    assert_eq!(engine.status("").unwrap().recall, [of(1, 1), of(10, 2), of(50, 1)]);
}
