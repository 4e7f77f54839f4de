//! `bench --hdf5`: a public benchmark in one command, and what its recall means.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::{BenchmarkSet, Dataset, EmbeddingsView};
use shortlist::eval::{CSV_COLUMNS, Hits, Sweep, sweep};
use shortlist::index::IndexStore;
use shortlist::search::{Effort, Plan, SearchParams, Searcher};
use tempfile::TempDir;

use crate::harness::indexes::build_index;
use crate::harness::process::shortlist;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hdf5").join(name)
}

fn bench(name: &str, arguments: &[&str]) -> Output {
    shortlist().args(["bench", "--hdf5"]).arg(fixture(name)).args(arguments).output().unwrap()
}

fn fail(name: &str, arguments: &[&str]) -> String {
    let output = bench(name, arguments);
    assert!(!output.status.success(), "{name} {arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

/// The report on standard output, and what was written on standard error.
fn report(name: &str, arguments: &[&str]) -> (Value, String) {
    let output = bench(name, &[arguments, &["--json", "-"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

#[test]
fn one_command_builds_and_measures() {
    for (name, metric) in [("angular.hdf5", "cosine"), ("euclidean.hdf5", "l2")] {
        let (report, said) = report(name, &[]);
        assert!(said.contains(&format!("built an index of 200 videos under {metric}")), "{said}");
        // The file has 10 neighbors per query. So few videos are scanned, and a larger effort changes nothing.
        let rows = report["rows"].as_array().unwrap();
        let points: Vec<_> = rows.iter().map(|row| (&row["k"], &row["ef_search"], &row["plan"])).collect();
        assert_eq!(points, [(&json!(10), &json!(10), &json!("code_scan"))]);
        assert_eq!((&rows[0]["recall"], &rows[0]["equal_recall"]), (&json!(1.0), &json!(1.0)));
        assert_eq!((&report["queries"], &report["videos"]), (&json!(20), &json!(200)));
        let from = &report["provenance"];
        assert_eq!(
            (&from["metric"], &from["dim"], &from["training_users"]),
            (&json!(metric), &json!(8), &json!(0))
        );
        let ends = |field: &str, end: &str| from[field].as_str().unwrap().ends_with(end);
        assert!(ends("dataset", name) && ends("command", "--json -"), "{from}");
    }
}

#[test]
fn a_benchmark_without_neighbors_is_measured_against_computed_ones() {
    let (report, said) = report("without_neighbors.h5", &["--metric", "l2", "-k", "3"]);
    assert!(said.contains("no exact neighbors given: computed the 3 of 2 queries"), "{said}");
    assert_eq!(report["rows"][0]["recall"], 1.0);
    let error = fail("without_neighbors.h5", &[]);
    assert!(error.contains("without_neighbors.h5: no attribute \"distance\": pass --metric"), "{error}");
    let (_, said) = self::report("f4.h5", &["--metric", "l2", "-k", "1"]);
    assert!(said.contains("compared by --metric l2, where the file says ip"), "{said}");
}

#[test]
fn an_index_of_another_catalog_is_refused() {
    let folder = TempDir::new().unwrap();
    let build = |name: &str, metric: &str| {
        let index = folder.path().join(format!("{name}-{metric}"));
        let output = shortlist()
            .args(["build", "--metric", metric, "--embeddings"])
            .arg(fixture(name))
            .arg("--out")
            .arg(&index)
            .output()
            .unwrap();
        assert!(output.status.success());
        (index.to_str().unwrap().to_owned(), String::from_utf8(output.stderr).unwrap())
    };
    let (right, said) = build("angular.hdf5", "cosine");
    assert!(!said.contains("where the file says"), "{said}");
    let (other_metric, said) = build("angular.hdf5", "ip");
    assert!(said.contains("compared by --metric ip, where the file says cosine"), "{said}");
    let (other_rows, _) = build("f8.h5", "cosine");
    let (report, said) = report("angular.hdf5", &["--index", &right]);
    assert_eq!(report["rows"][0]["recall"], 1.0);
    assert!(!said.contains("built an index"), "{said}");
    let expected = "expected an index of 200 videos of 8 dimensions under cosine";
    for (index, found) in
        [(other_metric, "found 200 of 8 under ip"), (other_rows, "found 6 of 3 under cosine")]
    {
        let error = fail("angular.hdf5", &["--index", &index]);
        assert!(error.contains(expected) && error.contains(found), "{error}");
    }
    for other in [
        &["--queries", "x.npy"][..],
        &["--requests", "x.jsonl"],
        &["--index", &right, "--training-queries", "x.npy"],
    ] {
        assert!(fail("angular.hdf5", other).contains("cannot be used with"), "{other:?}");
    }
    assert!(fail("hamming.h5", &[]).contains("found \"hamming\""));
}

#[test]
fn rows_are_written_as_csv_in_fixed_columns() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    let efforts = ["-k", "1,5", "--ef-search", "2,4,8", "--plan", "graph", "--threads", "1,2"];
    let (report, _) = report("euclidean.hdf5", &[&efforts[..], &["--csv", path.to_str().unwrap()]].concat());
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], CSV_COLUMNS.join(","));
    assert_eq!(lines.len(), 1 + 12);
    let rows = report
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|report| report["rows"].as_array().unwrap().iter().map(move |row| (report, row)));
    for (line, (report, row)) in lines[1..].iter().zip(rows) {
        // The name of the engine has a comma.
        let (engine, rest) = line[1..].split_once("\",").unwrap();
        assert_eq!(engine, report["engine"]);
        let cells: Vec<&str> = rest.split(',').collect();
        let cell = |column: &str| cells[CSV_COLUMNS.iter().position(|name| *name == column).unwrap() - 1];
        assert_eq!(cells.len(), CSV_COLUMNS.len() - 1, "{line}");
        for column in
            ["k", "ef_search", "recall", "equal_recall", "qps", "mean_us", "p50_us", "p99_us", "distances"]
        {
            assert_eq!(cell(column).parse::<f64>().unwrap(), row[column].as_f64().unwrap(), "{column}");
        }
        assert_eq!((cell("label"), cell("plan"), cell("metric"), cell("videos")), ("", "graph", "l2", "200"));
        assert!(cell("dataset").ends_with("euclidean.hdf5"), "{line}");
        assert_eq!(json!(cell("threads").parse::<u64>().unwrap()), report["threads"]);
    }
    let output = bench("euclidean.hdf5", &["--csv", "-"]);
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("engine,dataset,"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("recall@k"), "the table is shown");
}

/// Recall as ann-benchmarks defines it: the found rows that are at most 0.001 farther than the last exact neighbor.
fn recall_of_ann_benchmarks(set: &BenchmarkSet, metric: Metric, k: usize, answers: &[Vec<u32>]) -> f64 {
    let row = |view: EmbeddingsView<'_>, row: usize| {
        let mut values = Vec::new();
        view.copy_row(row, &mut values);
        values.into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let distance = |query: usize, found: u32| {
        let (a, b) = (row(set.test.view(), query), row(set.train.view(), found as usize));
        match metric {
            Metric::Cosine => 1.0 - dot(&a, &b) / (dot(&a, &a).sqrt() * dot(&b, &b).sqrt()),
            _ => a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        }
    };
    let exact = set.neighbors.as_ref().unwrap();
    let hits = answers.iter().enumerate().map(|(query, found)| {
        let most = distance(query, exact.row(query)[k - 1]) + 1e-3;
        found.iter().take(k).filter(|row| distance(query, **row) <= most).count()
    });
    hits.sum::<usize>() as f64 / (answers.len() * k) as f64
}

#[test]
fn recall_is_that_of_ann_benchmarks() {
    let mut between = 0;
    for (name, metric) in [("angular.hdf5", Metric::Cosine), ("euclidean.hdf5", Metric::L2)] {
        let folder = TempDir::new().unwrap();
        let set = BenchmarkSet::open(&fixture(name)).unwrap();
        let again = BenchmarkSet::open(&fixture(name)).unwrap();
        let dataset = Dataset::from_embeddings(again.train).unwrap();
        let index = build_index(&dataset, &BuildParams::new(metric, 4, 16).unwrap(), folder.path());
        let (manifest, ..) = IndexStore::new(folder.path()).open_current().unwrap();
        for (k, ef_search) in [(1, 1), (5, 2), (10, 1), (10, 3), (10, 5), (10, 40)] {
            let plan = Sweep {
                k: vec![k],
                ef_search: vec![ef_search],
                to_the_end: false,
                hits: Hits::Near,
                plan: Some(Plan::Graph),
                threads: 1,
                limit: None,
            };
            let exact = set.neighbors.as_ref().unwrap();
            let report = sweep(&index, &manifest, set.test.view(), exact, &plan, |_| {}).unwrap();
            let params =
                SearchParams::new(k, Effort::EfSearch(ef_search)).unwrap().with_plan(Some(Plan::Graph));
            let searcher = Searcher::default();
            let answers: Vec<Vec<u32>> = (0..set.test.view().len())
                .map(|query| {
                    let mut vector = Vec::new();
                    set.test.view().copy_row(query, &mut vector);
                    let found = searcher.search(&index, &vector, &params, &mut Interrupt::never());
                    found.hits.iter().map(|hit| index.input_row(hit.node)).collect()
                })
                .collect();
            let expected = recall_of_ann_benchmarks(&set, metric, k, &answers);
            assert!((report.rows[0].recall - expected).abs() < 1e-12, "{name} k {k} ef_search {ef_search}");
            between += usize::from(expected > 0.0 && expected < 1.0);
        }
    }
    assert!(between >= 4, "only {between} recalls between 0 and 1");
}

#[test]
fn a_video_that_is_hardly_farther_counts_for_ann_benchmarks_alone() {
    let folder = TempDir::new().unwrap();
    // Distances 1, 1.0005 and 2 from the query.
    let rows = vec![1.0, 0.0, 1.0005, 0.0, 2.0, 0.0];
    let dataset = Dataset::from_rows(2, rows).unwrap();
    let index = build_index(&dataset, &BuildParams::new(Metric::L2, 4, 16).unwrap(), folder.path());
    let (manifest, ..) = IndexStore::new(folder.path()).open_current().unwrap();
    let query = [0.0f32, 0.0];
    let queries = EmbeddingsView::F32(shortlist::dataset::Rows::contiguous(&query, 2));
    // The nearest row is found, and row 1 or 2 is said to be exact.
    for (exact, near, equal) in [(0, 1.0, 1.0), (1, 1.0, 0.0), (2, 1.0, 0.0)] {
        let truth = shortlist::dataset::Neighbors { rows: 1, k: 1, data: vec![exact] };
        let plan = Sweep {
            k: vec![1],
            ef_search: vec![10],
            to_the_end: false,
            hits: Hits::Near,
            plan: None,
            threads: 1,
            limit: None,
        };
        let row = sweep(&index, &manifest, queries, &truth, &plan, |_| {}).unwrap().rows.remove(0);
        assert_eq!((row.recall, row.equal_recall), (near, Some(equal)), "row {exact}");
    }
}
