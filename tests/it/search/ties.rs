//! Recall counts an answer as right if it scores as the exact one does, whatever the order of equals.

use std::time::Instant;

use half::f16;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, Embeddings, EmbeddingsView, Neighbors, Rows};
use shortlist::engine::{Engine, EngineOptions, SampleOptions};
use shortlist::eval::{Hits, Sweep, sweep};
use shortlist::index::{Index, IndexStore, Manifest, QuerySource};
use shortlist::recall::{calibrate, ground_truth, ground_truth_of, hits_of};
use shortlist::search::{Effort, Plan, SearchParams, Searcher};

use crate::harness::indexes::random_rows;

const DIM: usize = 12;
const METRICS: [Metric; 3] = [Metric::InnerProduct, Metric::Cosine, Metric::L2];

/// Rows of which `copies` are one of a few, under cosine of any length, at random places.
fn with_copies(rows: usize, copies: usize, metric: Metric, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut all = random_rows(rows, DIM, seed);
    let originals = random_rows(3, DIM, seed + 1);
    let mut places: Vec<usize> = (0..rows).collect();
    places.shuffle(&mut random);
    for place in &places[..copies] {
        let original = &originals[random.random_range(0..3) * DIM..][..DIM];
        let length = if metric == Metric::Cosine { random.random_range(0.1f32..10.0) } else { 1.0 };
        let row = &mut all[place * DIM..(place + 1) * DIM];
        row.iter_mut().zip(original).for_each(|(value, original)| *value = length * original);
    }
    all
}

/// Publishes rows whose ids descend, so that equals are in another order by id than by row.
fn publish(
    embeddings: Embeddings,
    users: &[f32],
    metric: Metric,
    dir: &std::path::Path,
) -> (Manifest, Index) {
    let rows = embeddings.view().len() as u64;
    let dataset = Dataset {
        embeddings,
        ids: (0..rows).map(|row| VideoId(rows - row)).collect(),
        attributes: Vec::new(),
        expires_at: None,
    };
    let params = BuildParams::new(metric, 8, 64).unwrap().with_threads(1);
    let store = IndexStore::new(dir);
    let users = Embeddings::in_memory(dir, DIM, users.to_vec());
    let manifest = build(&dataset, Some(&users), &params, &store, &Silent, Instant::now()).unwrap();
    let index = store.open_generation(manifest.generation).unwrap();
    (manifest, index)
}

fn view(rows: &[f32]) -> EmbeddingsView<'_> {
    EmbeddingsView::F32(Rows::contiguous(rows, DIM))
}

/// Exact searches have recall 1 in calibrations and sweeps, with and without a graph, in both element types.
#[test]
fn exact_answers_have_recall_1_in_any_order_of_equals() {
    let users = random_rows(40, DIM, 9);
    for (seed, metric) in (0..6).zip(METRICS.into_iter().cycle()) {
        for (rows, copies) in [(300, 150), (1_500, 400)] {
            let folder = tempfile::tempdir().unwrap();
            let all = with_copies(rows, copies, metric, 100 * seed);
            let embeddings = match seed % 2 {
                0 => Embeddings::in_memory(folder.path(), DIM, all.clone()),
                _ => Embeddings::in_memory(
                    folder.path(),
                    DIM,
                    all.iter().copied().map(f16::from_f32).collect::<Vec<_>>(),
                ),
            };
            let truth = ground_truth(embeddings.view(), view(&users), metric, 100, |_| {});
            let (manifest, index) = publish(embeddings, &users, metric, folder.path());
            let (nodes, searcher) = (ground_truth_of(&index, view(&users), 100, |_| {}), Searcher::default());
            for k in [1, 10, 50, 100] {
                let params = SearchParams::new(k, Effort::Exact).unwrap();
                for (row, user) in users.chunks(DIM).enumerate() {
                    let found = searcher.search(&index, user, &params, &mut Interrupt::never()).hits;
                    let exact = &nodes.row(row)[..k];
                    assert_eq!(
                        hits_of(&index, user, &found, exact),
                        k,
                        "{metric} seed {seed} k {k} user {row}"
                    );
                }
            }
            let plan = Sweep {
                k: vec![10, 100],
                ef_search: vec![rows],
                to_the_end: false,
                hits: Hits::Equal,
                plan: Some(Plan::ExactScan),
                threads: 1,
                limit: None,
            };
            let report = sweep(&index, &manifest, view(&users), &truth, &plan, |_| {}).unwrap();
            let found: Vec<f64> = report.rows.iter().map(|row| row.recall).collect();
            // Rows of different lengths are no longer copies once they are normalized and rounded to f16.
            let are_copies = metric != Metric::Cosine || seed % 2 == 0;
            let least = if are_copies { 0.999 } else { 0.8 };
            assert!(
                found.iter().all(|recall| *recall > least),
                "{metric} seed {seed} rows {rows}: {found:?}"
            );
            let curves = calibrate(&index, view(&users), QuerySource::Queries, &[10, 100], &Silent).unwrap();
            // A graph may lose some of the copies.
            let least = if rows == 300 && are_copies { 0.99 } else { 0.9 };
            assert!(
                curves.reaches().all(|(_, best)| best > least),
                "{metric} seed {seed} rows {rows}: {curves:?}"
            );
        }
    }
}

/// A file of other neighbors is no truth, and does not look like one.
#[test]
fn neighbors_of_other_users_are_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let all = random_rows(1_500, DIM, 3);
    let (users, others) = (random_rows(40, DIM, 4), random_rows(40, DIM, 5));
    let embeddings = Embeddings::in_memory(folder.path(), DIM, all);
    let truth = ground_truth(embeddings.view(), view(&others), Metric::L2, 10, |_| {});
    let (manifest, index) = publish(embeddings, &users, Metric::L2, folder.path());
    let plan = Sweep {
        k: vec![10],
        ef_search: vec![1_500],
        to_the_end: false,
        hits: Hits::Equal,
        plan: None,
        threads: 1,
        limit: None,
    };
    let by_id = |truth: &Neighbors| {
        let report = sweep(&index, &manifest, view(&users), truth, &plan, |_| {}).unwrap();
        report.rows[0].recall
    };
    assert!(by_id(&truth) < 0.1, "{}", by_id(&truth));
}

/// A next generation of a catalog with many copies answers, with the overlap and recall of its exact searches.
#[test]
fn a_generation_is_not_refused_for_equals() {
    for metric in METRICS {
        let folder = tempfile::tempdir().unwrap();
        let rows = |seed| Embeddings::in_memory(folder.path(), DIM, with_copies(300, 200, metric, seed));
        let users = random_rows(300, DIM, 9);
        publish(rows(1), &users, metric, folder.path());
        let engine = Engine::open(EngineOptions {
            indexes: vec![("videos".to_owned(), folder.path().to_owned())],
            threads: 1,
            sample: SampleOptions { share: 0.0 },
            ..EngineOptions::default()
        });
        let engine = engine.unwrap();
        publish(rows(1), &users, metric, folder.path());
        engine.refresh();
        let status = engine.status("").unwrap();
        assert_eq!((status.generation, status.refused), (2, None));
        let found = status.gate.unwrap().found;
        assert_eq!(found.overlap_ppm, Some(1_000_000), "{metric}");
        assert!(found.recall_ppm > 990_000 && found.current_recall_ppm.unwrap() > 990_000, "{found:?}");
    }
}
