//! Indexes that score results with codes of 16 bits per component.

use std::time::{Duration, Instant};

use half::f16;
use proptest::prelude::*;
use shortlist::base::element::Dtype;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build_in_memory};
use shortlist::dataset::{Dataset, DatasetFiles, Embeddings, write_npy};
use shortlist::engine::{Engine, EngineOptions};
use shortlist::index::{Codes, Index, IndexError, IndexStore, MemoryMode, Rescoring, SectionKind, verify};
use shortlist::node_set::{CountedSet, NodeSet};
use shortlist::recall::{ground_truth, hits_of};
use shortlist::search::{Effort, Found, Interest, NodeRules, Plan, SearchParams, Searcher, Segment};
use tempfile::TempDir;

use crate::harness::indexes::{build_index, dataset_of, random_rows, rewritten};

const DIM: usize = 24;

/// Every tenth row is a copy of the one before, and the last `extremes` are 1,000 times as long.
fn rows(count: usize, extremes: usize, seed: u64) -> Vec<f32> {
    let mut rows = random_rows(count, DIM, seed);
    for row in (10..count).step_by(10) {
        rows.copy_within((row - 1) * DIM..row * DIM, row * DIM);
    }
    rows[(count - extremes) * DIM..].iter_mut().for_each(|value| *value *= 1000.0);
    rows
}

fn params(metric: Metric, rescoring: Rescoring) -> BuildParams {
    BuildParams::new(metric, 8, 40).unwrap().with_rescoring(rescoring)
}

fn index_of(rows: &[f32], metric: Metric, dtype: Dtype, params: &BuildParams) -> (TempDir, Index) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.npy");
    let shape = [rows.len() / DIM, DIM];
    match dtype {
        Dtype::F32 => write_npy(&path, &shape, rows).unwrap(),
        Dtype::F16 => {
            let rows: Vec<f16> = rows.iter().copied().map(f16::from_f32).collect();
            write_npy(&path, &shape, &rows).unwrap();
        }
    }
    let files = DatasetFiles::of(path);
    let dataset = Dataset::open(&files, metric).unwrap();
    let index = build_index(&dataset, params, &folder.path().join("index"));
    (folder, index)
}

/// A plain search, one for several interests, and one among a third of the nodes, each by every plan that fits.
fn answers(index: &Index, queries: &[f32]) -> Vec<Found> {
    let searcher = Searcher::default();
    let mut third = NodeSet::all(index.len());
    (0..index.len() as u32).filter(|node| node % 3 > 0).for_each(|node| third.remove(node));
    let third = CountedSet::new(third);
    let segments = [Segment::whole(index)];
    let among = [Segment { matches: Some(third.as_ref()), ..segments[0] }];
    let (none, filtered) = (NodeRules::none(&segments), NodeRules::none(&among));
    let mut answers = Vec::new();
    for query in queries.chunks(DIM) {
        for effort in [Effort::EfSearch(40), Effort::Exact] {
            for plan in [None, Some(Plan::Graph), Some(Plan::CodeScan), Some(Plan::ExactScan)] {
                let params = SearchParams::new(20, effort).unwrap().with_plan(plan);
                answers.push(searcher.search(index, query, &params, &mut Interrupt::never()));
                let one = [Interest::single(query.into())];
                let both = [Interest::single(query.into()), Interest::single((&queries[..DIM]).into())];
                for (interests, rules) in [(&both[..], &none), (&one[..], &filtered)] {
                    answers.push(searcher.search_segments(
                        interests,
                        &params,
                        rules,
                        None,
                        &mut Interrupt::never(),
                    ));
                }
            }
        }
    }
    answers
}

#[test]
fn searches_do_not_read_the_embeddings() {
    for (metric, dtype, seed) in [
        (Metric::InnerProduct, Dtype::F32, 1),
        (Metric::InnerProduct, Dtype::F16, 2),
        (Metric::Cosine, Dtype::F32, 3),
    ] {
        let (_folder, index) =
            index_of(&rows(5000, 0, seed), metric, dtype, &params(metric, Rescoring::Codes));
        assert_eq!(index.metadata().unrepresented, 0);
        verify(&index).unwrap();
        let queries = random_rows(4, DIM, seed + 100);
        let expected = answers(&index, &queries);
        let without = rewritten(&index, |kind, _, bytes| {
            if kind == SectionKind::Vectors {
                bytes.fill(0);
            }
            true
        });
        let without = without.unwrap();
        assert_eq!(answers(&without, &queries), expected, "{metric} {dtype}");

        let copied = index.make_resident().unwrap().bytes;
        assert_eq!((copied, index.memory()), (index.hot_bytes(), MemoryMode::Resident));
        assert!(
            copied < index.bytes() - (5000 * DIM * dtype.bytes()) as u64,
            "{copied} of {}",
            index.bytes()
        );
        assert_eq!(answers(&index, &queries), expected, "{metric} {dtype}");
    }
}

#[test]
fn an_index_has_fine_codes_if_they_are_asked_for_and_serve_it() {
    let small = rows(300, 0, 7);
    let cases = [
        (Metric::InnerProduct, Codes::Sq8, Rescoring::Codes, true),
        (Metric::Cosine, Codes::Sq8, Rescoring::Codes, true),
        (Metric::L2, Codes::Sq8, Rescoring::Codes, false),
        (Metric::InnerProduct, Codes::None, Rescoring::Codes, false),
        (Metric::InnerProduct, Codes::Sq8, Rescoring::Embeddings, false),
        (Metric::InnerProduct, Codes::Sq8, Rescoring::Auto, false),
    ];
    for (metric, codes, rescoring, expected) in cases {
        let params = params(metric, rescoring).with_codes(codes).unwrap();
        let (_folder, index) = index_of(&small, metric, Dtype::F32, &params);
        assert_eq!(index.fine_codes().is_some(), expected, "{metric} {codes:?} {rescoring:?}");
        let is_hot = index.hot_bytes() > index.bytes() - 300 * DIM as u64 * 4;
        assert_eq!(is_hot, !expected, "{metric} {codes:?} {rescoring:?}");
    }
    // 32 MiB and a little more.
    let large = random_rows((32 << 20) / 4 / DIM + 1, DIM, 8);
    let quick = BuildParams::new(Metric::InnerProduct, 2, 1).unwrap();
    for (rows, expected) in [(&large[..], true), (&large[..large.len() / 2], false)] {
        let (_folder, index) = index_of(rows, Metric::InnerProduct, Dtype::F32, &quick);
        assert_eq!(index.fine_codes().is_some(), expected, "{}", rows.len());
    }
    // In memory the embeddings are there anyway.
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset_of(folder.path(), &large, DIM, Metric::InnerProduct);
    assert_eq!(build_in_memory(&dataset, &quick, &Silent).unwrap().fine_codes(), None);
}

/// By itself, a rebuild of a small index would score with embeddings.
#[test]
fn a_rebuild_scores_results_as_the_generation_before() {
    for (rescoring, expected) in [(Rescoring::Codes, true), (Rescoring::Embeddings, false)] {
        let (folder, index) = index_of(
            &rows(300, 0, 11),
            Metric::InnerProduct,
            Dtype::F32,
            &params(Metric::InnerProduct, rescoring),
        );
        assert_eq!(index.metadata().build.rescoring, rescoring);
        let dir = folder.path().join("index");
        let options = EngineOptions {
            indexes: vec![("videos".to_owned(), dir.clone())],
            threads: 1,
            is_writable: true,
            ..EngineOptions::default()
        };
        let engine = Engine::open(options).unwrap();
        engine.start_rebuild("").unwrap();
        let started = Instant::now();
        while engine.status("").unwrap().live.rebuild.state.is_underway() {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", engine.status(""));
            std::thread::sleep(Duration::from_millis(1));
        }
        let rebuilt = IndexStore::new(&dir).open_generation(2).unwrap();
        assert_eq!(rebuilt.metadata().build.rescoring, rescoring);
        assert_eq!(rebuilt.fine_codes().is_some(), expected);
    }
}

#[test]
fn a_fine_code_of_another_row_is_found() {
    let (_folder, index) = index_of(
        &rows(300, 0, 9),
        Metric::InnerProduct,
        Dtype::F32,
        &params(Metric::InnerProduct, Rescoring::Codes),
    );
    let changed = rewritten(&index, |kind, _, bytes| {
        if kind == SectionKind::FineCodes {
            bytes[5 * 64] ^= 1;
        }
        true
    });
    let error = verify(&changed.unwrap()).unwrap_err();
    assert!(
        matches!(&error, IndexError::BadEntry { section, entry: 5, .. } if section == "fine_codes"),
        "{error}"
    );
    let shorter = rewritten(&index, |kind, _, bytes| {
        if kind == SectionKind::FineCodes {
            bytes.truncate(bytes.len() - 64);
        }
        true
    });
    let error = shorter.unwrap_err();
    assert!(
        matches!(&error, IndexError::WrongSectionLength { section, .. } if section == "fine_codes"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Whatever finds a hit, its score is the same to the bit, and nearly that of its embedding; copies score the same.
    #[test]
    fn a_video_has_one_score_for_a_query(
        count in 20usize..900,
        extremes in 0usize..5,
        metric in prop::sample::select(vec![Metric::InnerProduct, Metric::Cosine]),
        dtype in prop::sample::select(vec![Dtype::F32, Dtype::F16]),
        seed in any::<u64>(),
    ) {
        // Under cosine, long rows are no extremes.
        let all = rows(count, extremes, seed);
        let (_folder, index) = index_of(&all, metric, dtype, &params(metric, Rescoring::Codes));
        // A few rows with extremes among them are not coded.
        prop_assume!(index.codes().is_some());
        prop_assert!(index.fine_codes().is_some());
        let query = random_rows(1, DIM, seed ^ 1);
        let queries = Embeddings::in_memory(std::path::Path::new("queries"), DIM, query.clone());
        let exact = ground_truth(index.vectors(), queries.view(), metric, count, |_| {});
        let rules = [Segment::whole(&index)];
        let rules = NodeRules::none(&rules);
        let searcher = Searcher::default();
        let interests = [Interest::single((&query[..]).into())];
        let lengths = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>().sqrt();
        let longest = all.chunks(DIM).map(lengths).fold(0.0, f32::max);
        let slack = 1e-4 * if metric == Metric::Cosine { 1.0 } else { longest * lengths(&query) };
        let mut row = Vec::new();
        for plan in [Plan::Graph, Plan::CodeScan, Plan::ExactScan] {
            let params = SearchParams::new(count, Effort::EfSearch(count)).unwrap().with_plan(Some(plan));
            let found = searcher.search(&index, &query, &params, &mut Interrupt::never()).hits;
            prop_assert_eq!(found.len(), count);
            prop_assert_eq!(hits_of(&index, &query, &found, exact.row(0)), count);
            for hit in &found {
                prop_assert_eq!(*hit, searcher.score(&interests, &rules, hit.node));
                row.clear();
                index.vectors().copy_row(hit.node.index(), &mut row);
                let dot: f32 = row.iter().zip(&query).map(|(a, b)| a * b).sum();
                let expected = if metric == Metric::Cosine { dot / lengths(&query) } else { dot };
                prop_assert!((hit.score - expected).abs() <= slack, "{} {}", hit.score, expected);
            }
        }
    }
}
