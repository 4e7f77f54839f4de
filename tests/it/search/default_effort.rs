//! The default effort of an index that was built without users.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, stage};
use shortlist::dataset::{Embeddings, EmbeddingsView, Rows};
use shortlist::engine::{Budget, Engine, EngineOptions, SampleOptions};
use shortlist::index::{Codes, IndexStore, Measured, QuerySource, RecallCurves};
use shortlist::recall::{DEFAULT_EFFORT_K, calibrate, calibrate_staged, ground_truth_of};
use shortlist::search::{Effort, SearchParams};
use shortlist::synth::{SynthFiles, SynthParams, synth};
use shortlist::{Dataset, DatasetFiles, Index, SearchRequest};
use tempfile::TempDir;

use crate::index::recall_curve::curves;

const USERS: usize = 500;

/// A catalog with a poor graph, built without users and without codes, so that searches traverse at any effort.
struct Untaught {
    folder: TempDir,
    files: SynthFiles,
}

impl Untaught {
    fn get() -> &'static Self {
        static UNTAUGHT: OnceLock<Untaught> = OnceLock::new();
        UNTAUGHT.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let params = SynthParams { videos: 8_000, dim: 32, users: 5_000, seed: 3, duplicates: 0 };
            let files = synth(params, &folder.path().join("catalogue"), |_| {}).unwrap();
            let untaught = Self { folder, files };
            untaught.publish(&untaught.dir());
            untaught
        })
    }

    fn dir(&self) -> std::path::PathBuf {
        self.folder.path().join("index")
    }

    /// One thread builds the same graph every time.
    fn publish(&self, dir: &Path) {
        let files = DatasetFiles::of(self.files.videos.clone());
        let dataset = Dataset::open(&files, Metric::InnerProduct).unwrap();
        let params = BuildParams::new(Metric::InnerProduct, 4, 16).unwrap().with_threads(1);
        let params = params.with_codes(Codes::None).unwrap();
        let store = IndexStore::new(dir);
        let (staged, times) = stage(&dataset, None, None, &params, &store, &Silent, Instant::now()).unwrap();
        let (curves, problem) = calibrate_staged(&staged, 1, &Silent).unwrap();
        assert!(problem.is_none());
        store.publish(staged, times, Measured { curves, verdict: None }).unwrap();
    }

    /// Users that no build saw, `[USERS × dim]`.
    fn users(&self) -> Vec<f32> {
        let file = Embeddings::open(&self.files.users_test).unwrap();
        let (mut users, mut user) = (Vec::new(), Vec::new());
        for row in 0..USERS {
            file.view().copy_row(row, &mut user);
            users.extend_from_slice(&user);
        }
        users
    }
}

fn view(users: &[f32]) -> EmbeddingsView<'_> {
    EmbeddingsView::F32(Rows::contiguous(users, 32))
}

fn of_store(dir: &Path) -> RecallCurves {
    let store = IndexStore::new(dir);
    store.open_calibration(1, &store.open_generation(1).unwrap()).unwrap().0.unwrap().recall
}

fn ef_search(curves: Option<&RecallCurves>, k: usize) -> usize {
    match SearchParams::default_effort(k, curves, usize::MAX) {
        Effort::EfSearch(ef_search) => ef_search,
        Effort::Exact => 0,
    }
}

#[test]
fn users_that_nobody_knew_find_what_the_default_effort_aims_at() {
    let untaught = Untaught::get();
    let guessed = of_store(&untaught.dir());
    assert_eq!(guessed.source, QuerySource::Guessed);
    let index = Index::open(untaught.dir()).unwrap();
    let opened = IndexStore::new(untaught.dir()).open_generation(1).unwrap();
    let users = untaught.users();
    for k in [10, 100] {
        let truth = ground_truth_of(&opened, view(&users), k, |_| {});
        let recall = |request: &dyn Fn(SearchRequest) -> SearchRequest| {
            let found = users.chunks(32).enumerate().map(|(row, user)| {
                let answer = index.search(&request(SearchRequest::vector(user).k(k))).unwrap();
                let exact: Vec<u64> =
                    truth.row(row).iter().map(|node| opened.video_ids()[*node as usize].0).collect();
                answer.candidates.iter().filter(|found| exact.contains(&found.video_id.0)).count()
            });
            found.sum::<usize>() as f64 / (USERS * k) as f64
        };
        let usual = ef_search(None, k);
        let before = recall(&|request| request.ef_search(usual));
        let after = recall(&|request| request);
        let least = SearchParams::DEFAULT_RECALL - 0.01;
        assert!(before < least && least < after, "k {k}: {after}, and {before} at the usual effort");
        let stats = index.search(&SearchRequest::vector(&users[..32]).k(k)).unwrap().stats;
        assert_eq!(stats.ef_search, ef_search(Some(&guessed), k));
        assert_eq!(stats.measured_recall, None, "of guessed users, not of users");
    }
    let error = index.search(&SearchRequest::vector(&users[..32]).k(10).target_recall(0.9)).unwrap_err();
    assert!(error.to_string().contains("is not calibrated"), "{error}");
}

#[test]
fn the_guess_is_the_same_for_the_same_videos() {
    let folder = tempfile::tempdir().unwrap();
    Untaught::get().publish(folder.path());
    assert_eq!(of_store(folder.path()), of_store(&Untaught::get().dir()));
}

#[test]
fn the_first_users_replace_the_guess() {
    let folder = tempfile::tempdir().unwrap();
    Untaught::get().publish(folder.path());
    let store = IndexStore::new(folder.path());
    let opened = store.open_generation(1).unwrap();
    // A guess that is far off.
    let wrong = curves(&[(500, &[(4_000, 50_000)])]);
    store.add_calibration(1, &opened, RecallCurves { source: QuerySource::Guessed, ..wrong }).unwrap();
    let engine = Engine::open(EngineOptions {
        indexes: vec![("videos".to_owned(), folder.path().to_owned())],
        threads: 1,
        sample: SampleOptions { share: 1.0 },
        ..EngineOptions::default()
    });
    let engine = engine.unwrap();
    let users = Untaught::get().users();
    let ask = |user: &[f32]| {
        let request = SearchRequest::vector(user).k(10);
        engine.search(&request, &Budget::default()).unwrap().stats.ef_search
    };
    let asked = |users: &[f32]| users.chunks(32).map(ask).collect::<Vec<_>>();
    assert_eq!(asked(&users[..(USERS - 1) * 32]), [512; USERS - 1]);
    engine.refresh();
    assert_eq!(ask(&users[..32]), 512, "too few users to learn from");
    ask(&users[(USERS - 1) * 32..]);
    engine.refresh();
    let measured =
        calibrate(&opened, view(&users), QuerySource::Sampled, &DEFAULT_EFFORT_K, &Silent).unwrap();
    let expected = ef_search(Some(&measured), 10);
    assert!((128..512).contains(&expected), "{expected}");
    let began = Instant::now();
    while ask(&users[..32]) != expected {
        assert!(began.elapsed() < Duration::from_secs(60), "still {}", ask(&users[..32]));
        std::thread::sleep(Duration::from_millis(5));
    }
    // Nothing is written.
    assert_eq!(store.calibrations(1).unwrap().len(), 2);
    // A calibration that somebody adds counts.
    let by_hand = curves(&[(10, &[(128, 900), (200, 960)])]);
    store.add_calibration(1, &opened, by_hand.clone()).unwrap();
    engine.refresh();
    assert_eq!(ask(&users[..32]), ef_search(Some(&by_hand), 10));
}
