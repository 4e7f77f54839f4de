//! Search results against an exhaustive oracle.

use proptest::prelude::*;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Builder};
use shortlist::dataset::{Embeddings, EmbeddingsView, Rows};
use shortlist::graph::{GraphView, Scan as _, Scorer, Scratch, Width, traverse};
use shortlist::index::{Index, Rescoring};
use shortlist::kernel::normalize;
use shortlist::recall::ground_truth;
use shortlist::search::{Effort, Plan, SearchParams, SearchParamsError, Searcher};

use crate::harness::indexes::{TestDataset, build_index, build_taught_index, dataset_of, random_rows};

/// Ids by descending score in f64, ties by id.
fn oracle(rows: &[f32], dim: usize, query: &[f32], metric: Metric) -> Vec<(u64, f64)> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let score = |row: &[f32]| match metric {
        Metric::InnerProduct => dot(row, query),
        Metric::Cosine => dot(row, query) / (dot(row, row) * dot(query, query)).sqrt(),
        Metric::L2 => 2.0 * dot(row, query) - dot(row, row) - dot(query, query),
    };
    let mut all: Vec<(u64, f64)> =
        rows.chunks(dim).map(score).enumerate().map(|(row, s)| (row as u64, s)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

fn search(index: &Index, query: &[f32], k: usize, effort: Effort) -> Vec<(u64, f32)> {
    search_by(index, query, k, effort, None)
}

fn search_by(index: &Index, query: &[f32], k: usize, effort: Effort, plan: Option<Plan>) -> Vec<(u64, f32)> {
    let params = SearchParams::new(k, effort).unwrap().with_plan(plan);
    let found = Searcher::default().search(index, query, &params, &mut Interrupt::never());
    found.hits.iter().map(|hit| (index.video_ids()[hit.node.index()].0, hit.score)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn equals_the_oracle_when_the_candidate_list_holds_everything(
        rows in 1usize..120,
        dim in 1usize..20,
        seed in any::<u64>(),
        k in 1usize..130,
        metric in prop::sample::select(Metric::ALL.to_vec()),
        builder in prop::sample::select(Builder::ALL.to_vec()),
        rescoring in prop::sample::select(Rescoring::ALL.to_vec()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let data = random_rows(rows, dim, seed);
        let query = &random_rows(1, dim, seed ^ 1)[..];
        let params = BuildParams::new(metric, 4, 30).unwrap().with_builder(builder).unwrap();
        let params = params.with_rescoring(rescoring);
        let dataset = dataset_of(folder.path(), &data, dim, metric);
        let index = build_index(&dataset, &params, &folder.path().join("index"));
        let expected = oracle(&data, dim, query, metric);
        let norm = |row: &[f32]| row.iter().map(|value| f64::from(value * value)).sum::<f64>().sqrt();
        let longest = data.chunks(dim).map(norm).fold(0.0, f64::max);
        let largest = if metric == Metric::Cosine { 1.0 } else { norm(query) * longest };
        let rounding = if index.fine_codes().is_some() { 1e-4 * largest } else { 0.0 };
        let all = Effort::EfSearch(rows);
        for (effort, plan) in
            [(Effort::Exact, None), (all, None), (all, Some(Plan::Graph)), (all, Some(Plan::CodeScan))]
        {
            let found = search_by(&index, query, k, effort, plan);
            prop_assert_eq!(found.len(), k.min(rows));
            for (position, (id, score)) in found.iter().enumerate() {
                let (expected_id, expected_score) = expected[position];
                let tolerance = rounding + 1e-4 * expected_score.abs().max(1.0);
                prop_assert!((f64::from(*score) - expected_score).abs() < tolerance);
                // Scores within rounding error may be in either order.
                let alone = |other: usize| {
                    expected.get(other).is_none_or(|near| (near.1 - expected_score).abs() > tolerance)
                };
                if alone(position + 1) && (position == 0 || alone(position - 1)) {
                    prop_assert_eq!(*id, expected_id);
                }
            }
        }
    }
}

#[test]
fn equal_scores_are_in_order_of_video_id() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<f32> = (0..50).flat_map(|row| [1.0, (row % 3) as f32]).collect();
    let dataset = dataset_of(folder.path(), &rows, 2, Metric::InnerProduct);
    let params = BuildParams::new(Metric::InnerProduct, 8, 60).unwrap();
    let index = build_index(&dataset, &params, &folder.path().join("index"));
    for effort in [Effort::Exact, Effort::EfSearch(50)] {
        let ids: Vec<u64> = search(&index, &[0.0, 1.0], 20, effort).iter().map(|(id, _)| *id).collect();
        let mut expected: Vec<u64> = (0..50).filter(|row| row % 3 == 2).collect();
        expected.extend((0..50).filter(|row| row % 3 == 1));
        expected.truncate(20);
        assert_eq!(ids, expected, "{effort:?}");
    }
}

#[test]
fn more_effort_finds_more() {
    let folder = tempfile::tempdir().unwrap();
    let data = random_rows(5000, 32, 11);
    let dataset = dataset_of(folder.path(), &data, 32, Metric::InnerProduct);
    let params = BuildParams::new(Metric::InnerProduct, 8, 60).unwrap();
    let index = build_index(&dataset, &params, &folder.path().join("index"));
    let queries = random_rows(50, 32, 12);
    let found = |ef_search: usize| -> usize {
        let hits = |query: &[f32]| {
            let exact = search(&index, query, 10, Effort::Exact);
            let found = search_by(&index, query, 10, Effort::EfSearch(ef_search), Some(Plan::Graph));
            found.iter().filter(|(id, _)| exact.iter().any(|(other, _)| other == id)).count()
        };
        queries.chunks(32).map(hits).sum()
    };
    for (k, ef_search) in [(100, 1), (5000, 1), (5000, 40)] {
        let found = search_by(&index, &queries[..32], k, Effort::EfSearch(ef_search), Some(Plan::Graph));
        assert_eq!(found.len(), k, "expected k results at every effort");
    }
    let (little, much, all) = (found(10), found(300), found(5000));
    assert!(little < much && much <= all, "{little} {much} {all}");
    assert_eq!(all, 500);
}

#[test]
fn a_query_of_zeros_is_answered_under_cosine() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), &random_rows(30, 4, 2), 4, Metric::Cosine);
    let params = BuildParams::new(Metric::Cosine, 4, 20).unwrap();
    let index = build_index(&dataset, &params, &folder.path().join("index"));
    assert!(search(&index, &[0.0; 4], 5, Effort::Exact).iter().all(|(_, score)| *score == 0.0));
}

#[test]
fn an_interrupted_search_stops() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), &random_rows(5000, 4, 2), 4, Metric::L2);
    let index =
        build_index(&dataset, &BuildParams::new(Metric::L2, 4, 20).unwrap(), &folder.path().join("index"));
    for effort in [Effort::Exact, Effort::EfSearch(5000)] {
        let mut checks = 0;
        let mut is_over = || {
            checks += 1;
            checks == 3
        };
        let (params, mut interrupt) = (SearchParams::new(10, effort).unwrap(), Interrupt::when(&mut is_over));
        let stop = Searcher::default().search(&index, &[0.0; 4], &params, &mut interrupt);
        assert_eq!((stop.is_interrupted, checks), (true, 3), "{effort:?}");
    }
}

#[test]
fn parameters_that_no_search_can_have_are_refused() {
    assert_eq!(SearchParams::new(0, Effort::Exact), Err(SearchParamsError::ZeroK));
    assert_eq!(SearchParams::new(1, Effort::EfSearch(0)), Err(SearchParamsError::ZeroEfSearch));
}

#[test]
fn ground_truth_is_what_the_oracle_says() {
    let (items, queries) = (random_rows(700, 9, 21), random_rows(40, 9, 22));
    for metric in Metric::ALL {
        let view = |data| EmbeddingsView::F32(Rows::contiguous(data, 9));
        let truth = ground_truth(view(&items), view(&queries), metric, 12, |_| {});
        // The same rows with a gap between them, as in .fvecs.
        let spread: Vec<f32> =
            items.chunks(9).flat_map(|row| row.iter().copied().chain([f32::NAN])).collect();
        let strided = EmbeddingsView::F32(Rows::strided(&spread[..spread.len() - 1], 9, 10));
        assert_eq!(ground_truth(strided, view(&queries), metric, 12, |_| {}), truth);
        for (row, query) in queries.chunks(9).enumerate() {
            let expected: Vec<u32> =
                oracle(&items, 9, query, metric).iter().take(12).map(|(id, _)| *id as u32).collect();
            assert_eq!(truth.row(row), expected, "{metric}");
        }
    }
}

/// Also for users who taught nothing, for rows as queries, and without any training queries.
#[test]
fn landmarks_lead_to_more_of_the_best_for_fewer_steps() {
    const K: usize = 10;
    let data = TestDataset::new(6_000, 32);
    let users = Embeddings::open(&data.files.users_train).unwrap();
    let asked = Embeddings::open(&data.files.users_test).unwrap();
    let mut total = [0; 2];
    for (metric, is_taught) in Metric::ALL.into_iter().flat_map(|metric| [(metric, true), (metric, false)]) {
        let params = BuildParams::new(metric, 16, 100).unwrap().with_threads(1);
        let dir = data.folder.path().join(format!("{metric}-{is_taught}"));
        let index = build_taught_index(&data.open(metric), is_taught.then_some(&users), &params, &dir);
        let EmbeddingsView::F32(rows) = index.vectors() else { panic!("expected rows of f32") };
        let matrix = rows.as_contiguous().unwrap();
        let with = index.graph();
        assert_eq!(with.landmarks.unwrap().nodes.len(), 4 * (3.0 * 6000f64.sqrt()) as usize);
        let without = GraphView { landmarks: None, ..with.clone() };
        for queries in [asked.view(), index.vectors()] {
            let (mut hits, mut expanded) = ([0; 2], [0; 2]);
            for at in 0..100 {
                let mut query = Vec::new();
                queries.copy_row(at * (queries.len() / 100), &mut query);
                if metric == Metric::Cosine {
                    normalize(&mut query);
                }
                let scorer = Scorer::new(metric, &query, matrix);
                let mut scores = vec![0.0; index.len()];
                scorer.score_scan(0, &mut scores);
                scores.sort_unstable_by(|a, b| b.total_cmp(a));
                for (way, graph) in [&with, &without].into_iter().enumerate() {
                    let (mut scratch, width) = (Scratch::default(), Width { ef_search: K, at_least: K });
                    let cost = traverse(graph, &query, &scorer, width, &mut scratch, &mut Interrupt::never());
                    scratch.collect(K);
                    hits[way] += scratch.found.iter().filter(|found| found.score() >= scores[K - 1]).count();
                    expanded[way] += cost.expanded;
                }
            }
            assert!(expanded[0] < expanded[1], "{metric} {is_taught}: {expanded:?}");
            assert!(100 * hits[0] >= 99 * hits[1], "{metric} {is_taught}: {hits:?}");
            total = [total[0] + hits[0], total[1] + hits[1]];
        }
    }
    assert!(total[0] > total[1], "{total:?}");
}

/// Also where every row has a copy, which is another node.
#[test]
fn a_landmark_has_the_rows_that_score_best_for_it() {
    const ROWS: usize = 2_000;
    const DIM: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let distinct = random_rows(ROWS, DIM, 3);
    let twice = [&distinct[..], &distinct[..]].concat();
    for (metric, (data, copies)) in
        Metric::ALL.into_iter().flat_map(|metric| [(&distinct, 1), (&twice, 2)].map(|data| (metric, data)))
    {
        let dir = folder.path().join(format!("{metric}-{copies}"));
        std::fs::create_dir(&dir).unwrap();
        let params = BuildParams::new(metric, 8, 50).unwrap().with_threads(1);
        let index = build_index(&dataset_of(&dir, data, DIM, metric), &params, &dir.join("index"));
        let EmbeddingsView::F32(rows) = index.vectors() else { panic!("expected rows of f32") };
        let landmarks = index.landmarks().unwrap();
        let (mut best, mut all) = (0, 0);
        for (code, nodes) in
            landmarks.codes.chunks(landmarks.quantizer.stride()).zip(landmarks.nodes.chunks(4))
        {
            let landmark = landmarks.quantizer.decode(code);
            let scorer = Scorer::new(metric, &landmark, rows.as_contiguous().unwrap());
            let mut scores = vec![0.0; index.len()];
            scorer.score_scan(0, &mut scores);
            let of_nodes: Vec<f32> = nodes.iter().map(|node| scores[*node as usize]).collect();
            scores.sort_unstable_by(|a, b| b.total_cmp(a));
            scores.dedup();
            best += of_nodes.iter().filter(|score| **score >= scores[3]).count();
            all += nodes.len();
        }
        assert_eq!(all, 4 * (ROWS / 16));
        assert!(best * 10 >= all * 8, "{metric}, {copies} of each: {best} of {all}");
    }
}
