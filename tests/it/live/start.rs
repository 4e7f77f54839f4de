//! Which generation a start serves: one that a running server would have refused does not answer after a restart either.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use shortlist::base::metric::Metric;
use shortlist::dataset::{Embeddings, EmbeddingsView};
use shortlist::engine::{Engine, EngineError, EngineOptions, GateOptions, Refresh};
use shortlist::index::{IndexStore, QuerySource, StoreError};
use shortlist::recall::calibrate;

use crate::harness::indexes::random_rows;
use crate::live::continuity::{DIM, Job};

const MEASURED: usize = 500;

fn options(queries: usize) -> GateOptions {
    GateOptions { queries, ..GateOptions::default() }
}

fn open(dir: &Path, gate: GateOptions) -> Engine {
    Engine::open(EngineOptions {
        indexes: vec![("videos".to_owned(), dir.to_owned())],
        threads: 1,
        gate,
        ..EngineOptions::default()
    })
    .unwrap()
}

fn generation(engine: &Engine) -> u64 {
    engine.status("").unwrap().generation
}

fn is_refused(event: &Refresh, expected: u64) -> bool {
    matches!(event, Refresh::Refused { manifest, .. } if *manifest == expected)
}

/// Catalogs that must not follow [`Job::new`].
fn losses() -> Vec<Job> {
    let job = Job::new();
    vec![
        Job { dim: 4, ..job.clone() },
        Job { metric: Metric::L2, ..job.clone() },
        Job { model: None, ..job.clone() },
        Job { attributes: Vec::new(), ..job.clone() },
        Job { has_users: false, ..job.clone() },
        Job { videos: 100, ..job },
    ]
}

#[test]
fn what_a_running_server_refuses_is_refused_after_a_restart_although_nothing_was_measured() {
    for (at, loss) in losses().into_iter().enumerate() {
        for queries in [0, MEASURED] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("index");
            Job::new().publish(&dir);
            let engine = open(&dir, options(queries));
            engine.refresh();
            drop(engine);
            loss.publish(&dir);
            let engine = open(&dir, options(queries));
            let status = engine.status("").unwrap();
            assert_eq!(status.generation, 1, "loss {at}, {queries} queries");
            assert!(status.refused.unwrap().contains("expected"));
            let news = engine.refresh();
            assert!(news.iter().any(|event| is_refused(event, 2)), "loss {at}: {news:?}");
            assert_eq!(generation(&engine), 1);
            drop(engine);
            assert_eq!(generation(&open(&dir, options(queries))), 1);
        }
    }
}

/// Each publication is compared with the one that a running server would have served by then.
#[test]
fn a_chain_of_publications_is_followed_as_far_as_each_continues_the_one_before() {
    let narrow = Job { dim: 4, ..Job::new() };
    let few = |videos| Job { videos, ..Job::new() };
    for (jobs, served) in [
        (vec![Job::new(), Job::new(), Job::new()], 3),
        (vec![Job::new(), narrow.clone(), narrow.clone()], 1),
        (vec![Job::new(), narrow.clone(), Job::new()], 3),
        (vec![Job::new(), Job::new(), narrow], 2),
        (vec![few(1_000), few(600), few(400)], 3),
        (vec![few(1_000), few(400)], 1),
    ] {
        for queries in [0, MEASURED] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("index");
            for job in &jobs {
                job.publish(&dir);
            }
            let engine = open(&dir, options(queries));
            assert_eq!(generation(&engine), served);
            let news = engine.refresh();
            let refused: Vec<&Refresh> =
                news.iter().filter(|event| matches!(event, Refresh::Refused { .. })).collect();
            assert_eq!(refused.is_empty(), served == jobs.len() as u64, "{news:?}");
            assert_eq!(generation(&engine), served);
        }
    }
}

/// `shortlist build` without users, and `shortlist tune` later.
#[test]
fn a_lost_calibration_is_no_reason_once_it_is_there() {
    for is_restarted in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("index");
        Job::new().publish(&dir);
        let mut engine = open(&dir, options(MEASURED));
        engine.refresh();
        Job { has_users: false, ..Job::new() }.publish(&dir);
        let news = engine.refresh();
        assert!(matches!(news.as_slice(), [event] if is_refused(event, 2)), "{news:?}");
        if is_restarted {
            engine = open(&dir, options(MEASURED));
            assert_eq!(generation(&engine), 1);
            engine.refresh();
        }
        // It is looked at again only when there is a reason to.
        assert!(engine.refresh().is_empty());
        fs::write(dir.join("calibration-00000002-0001.json"), "not a calibration").unwrap();
        let news = engine.refresh();
        assert!(matches!(news.as_slice(), [event] if is_refused(event, 2)), "{news:?}");
        assert!(engine.refresh().is_empty());
        tune(&dir, 2);
        if is_restarted {
            engine = open(&dir, options(MEASURED));
        }
        let news = engine.refresh();
        assert!(matches!(news.as_slice(), [.., Refresh::Swapped { from: 1, to: 2, .. }]), "{news:?}");
        let status = engine.status("").unwrap();
        assert_eq!((status.generation, status.refused), (2, None));
        assert!(status.gate.unwrap().problems.is_empty());
        drop(engine);
        assert_eq!(generation(&open(&dir, options(MEASURED))), 2);
    }
}

fn tune(dir: &Path, generation: u64) {
    let store = IndexStore::new(dir);
    let index = store.open_generation(generation).unwrap();
    let users = Embeddings::in_memory(dir, DIM, random_rows(50, DIM, 5));
    let users: EmbeddingsView<'_> = users.view();
    let curves = calibrate(&index, users, QuerySource::Queries, &[10], &shortlist::build::Silent).unwrap();
    store.add_calibration(generation, &index, curves).unwrap();
}

/// Of two publications between two looks, only the newer one is judged.
#[test]
fn a_publication_that_nobody_compared_is_activated_by_force_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("index");
    Job::new().publish(&dir);
    let engine = open(&dir, options(MEASURED));
    engine.refresh();
    Job { dim: 4, ..Job::new() }.publish(&dir);
    Job::new().publish(&dir);
    engine.refresh();
    assert_eq!(generation(&engine), 3);
    let error = engine.activate("", 2).unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::NotServable { .. })), "{error}");
    assert!(error.to_string().contains("expected 8 dimensions as in generation 3, found 4"), "{error}");
    assert_eq!(generation(&engine), 3);
    assert_eq!(engine.activate("", 1).unwrap().generation, 1);
    assert_eq!(engine.activate_forced("", 2).unwrap().generation, 2);
    drop(engine);
    assert_eq!(generation(&open(&dir, options(MEASURED))), 2);
}

/// As on a volume that is mounted read-only: the folder takes no report.
#[test]
fn a_verdict_that_cannot_be_stored_counts_all_the_same() {
    for (job, served) in [(Job::new(), 2), (Job { dim: 4, ..Job::new() }, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("index");
        Job::new().publish(&dir);
        let engine = open(&dir, options(MEASURED));
        engine.refresh();
        // There is no number for another report.
        fs::write(dir.join(format!("gate-00000002-{}.json", u64::MAX)), "").unwrap();
        job.publish(&dir);
        engine.refresh();
        assert_eq!(generation(&engine), served);
        let report = engine.status("").unwrap().gate.unwrap();
        assert_eq!((report.generation, report.problems.is_empty()), (2, served == 2));
        assert!(engine.refresh().is_empty());
        drop(engine);
        assert_eq!(generation(&open(&dir, options(MEASURED))), served);
    }
}

/// A folder behind a link, as of a batch job that swaps links.
#[test]
fn a_folder_that_takes_the_place_of_another_is_compared_with_it() {
    let root = tempfile::tempdir().unwrap();
    let link = root.path().join("link");
    let point_to = |folder: &str, job: Job| {
        let dir = root.path().join(folder);
        job.publish(&dir);
        let staged = root.path().join("staged");
        symlink(dir, &staged).unwrap();
        fs::rename(staged, &link).unwrap();
    };
    point_to("first", Job::new());
    let engine = open(&link, options(MEASURED));
    engine.refresh();
    point_to("narrow", Job { dim: 4, ..Job::new() });
    let news = engine.refresh();
    assert!(matches!(news.as_slice(), [Refresh::Detached { generation: 1, .. }]), "{news:?}");
    assert!(engine.refresh().is_empty());
    let status = engine.status("").unwrap();
    assert_eq!(status.dim as usize, DIM);
    let refused = status.refused.unwrap();
    assert!(refused.contains("expected 8 dimensions as in generation 1, found 4"), "{refused}");
    point_to("second", Job { videos: 1_000, ..Job::new() });
    let news = engine.refresh();
    assert!(matches!(news.as_slice(), [Refresh::Opened { .. }, ..]), "{news:?}");
    let status = engine.status("").unwrap();
    assert_eq!((status.vectors, status.refused), (1_000, None));
}
