//! `bench` over several indexes and against peers, and the pages that it writes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::prelude::*;
use serde_json::{Value, json};
use shortlist::eval::{Comparison, Report, ReportError, page, picture, read_reports};
use tempfile::TempDir;

use crate::harness::indexes::TestDataset;

/// A name that would end an attribute, a tag or a style unless it is escaped.
const HOSTILE: &str = "</style><script>\"x\" & 'y'";

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shortlist")).arg("bench").args(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fail(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Two indexes over one catalog, and the exact neighbors of its users.
struct Measurable {
    dataset: TestDataset,
    truth: PathBuf,
}

impl Measurable {
    fn new() -> Self {
        let dataset = TestDataset::new(300, 8);
        let truth = dataset.folder.path().join("truth.npy");
        let shortlist = |arguments: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_shortlist")).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let (videos, users) = (&dataset.files.videos, &dataset.files.users_test);
        let (videos, users) = (videos.to_str().unwrap(), users.to_str().unwrap());
        let of_both = ["ground-truth", "--embeddings", videos, "--queries", users, "-k", "10", "--out"];
        shortlist(&[&of_both[..], &[truth.to_str().unwrap()]].concat());
        for (name, codes) in [("coded", "sq8"), ("full", "none")] {
            let dir = dataset.folder.path().join(name);
            shortlist(&["build", "--embeddings", videos, "--codes", codes, "--out", dir.to_str().unwrap()]);
        }
        Self { dataset, truth }
    }

    fn file(&self, name: &str) -> String {
        self.dataset.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let users = self.dataset.files.users_test.to_str().unwrap();
        let common = ["--queries", users, "--ground-truth", self.truth.to_str().unwrap()];
        let few = ["--k", "5,10", "--ef-search", "5,10,40", "--limit", "20"];
        succeed(&[&common[..], &few[..], arguments].concat())
    }
}

/// A report of a peer as compare.py writes it: other fields, and no latency.
fn peers(engine: &str) -> Value {
    json!([{
        "engine": engine, "build_s": 7.05, "bytes": 1 << 20, "rows": [
            {"k": 10, "param": [10, 60], "recall": 0.8, "qps": 4000.0},
            {"k": 10, "param": 20, "recall": 0.92, "qps": 1000.0},
            {"k": 10, "param": 30, "recall": 1.0, "qps": 10.0},
        ],
    }])
}

fn written(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn report(points: &[(f64, f64)]) -> Report {
    let rows: Vec<Value> =
        points.iter().map(|(recall, qps)| json!({"k": 10, "recall": recall, "qps": qps})).collect();
    serde_json::from_value(json!({"engine": "e", "build_s": 1.0, "bytes": 1, "rows": rows})).unwrap()
}

#[test]
fn one_index_and_one_thread_count_stay_an_object() {
    let data = Measurable::new();
    let json = data.file("one.json");
    data.run(&["--index", &data.file("coded"), "--json", &json]);
    let one = read(Path::new(&json));
    assert_eq!(one["engine"], "shortlist");
    assert_eq!((&one["threads"], &one["queries"], &one["videos"]), (&json!(1), &json!(20), &json!(300)));
    let fields: Vec<&String> = one["rows"][0].as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 12, "{fields:?}");
    let sections = one["sections"].as_object().unwrap();
    let sum: u64 = sections.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    let file = one["bytes"].as_u64().unwrap();
    // Header, table and padding belong to no section.
    assert!(sum < file && sum > file / 2, "{sum} of {file}");
    assert_eq!(sections["vectors"], 300 * 8 * 4);
    let hot = ["codes", "layer0_starts", "layer0", "upper_nodes", "upper_edges"]
        .map(|name| sections[name].as_u64().unwrap());
    let per_vector = hot.iter().sum::<u64>() as f64 / 300.0;
    assert!((one["hot_bytes_per_vector"].as_f64().unwrap() - per_vector).abs() < 1e-9, "{one}");
    let phases: Vec<&str> =
        one["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert!(phases.contains(&"inserting videos"), "{phases:?}");
}

#[test]
fn every_index_and_thread_count_has_a_report_under_its_own_name() {
    let data = Measurable::new();
    let (json, html) = (data.file("all.json"), data.file("all.html"));
    let (coded, full) = (data.file("coded"), format!("exact vectors={}", data.file("full")));
    let table = data.run(&[
        "--index",
        &coded,
        "--index",
        &full,
        "--threads",
        "1..2",
        "--json",
        &json,
        "--html",
        &html,
    ]);
    let names =
        ["coded, 1 thread", "coded, 2 threads", "exact vectors, 1 thread", "exact vectors, 2 threads"];
    let all = read(Path::new(&json));
    let found: Vec<&str> =
        all.as_array().unwrap().iter().map(|report| report["engine"].as_str().unwrap()).collect();
    assert_eq!(found, names);
    for (report, threads) in all.as_array().unwrap().iter().zip([1, 2, 1, 2]) {
        assert_eq!(report["threads"], threads);
        let points: Vec<(u64, u64)> = report["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["k"].as_u64().unwrap(), row["ef_search"].as_u64().unwrap()))
            .collect();
        assert_eq!(points, [(5, 5), (5, 10), (5, 40), (10, 5), (10, 10), (10, 40)]);
    }
    let html = std::fs::read_to_string(html).unwrap();
    for name in names {
        assert!(table.contains(name) && html.contains(name), "{name}");
    }
    assert!(table.contains("@10 = 0.95") && table.contains("MiB"), "{table}");
    // So few videos are scanned, with a recall of 1: the speed at a lower recall is at least that.
    assert!(table.lines().last().unwrap().contains("≥ "), "{table}");
    // A written report can be shown again without measuring.
    let again = succeed(&["--from", &json]);
    assert_eq!(again, table);
}

#[test]
fn without_ground_truth_it_is_computed() {
    let data = Measurable::new();
    let users = data.dataset.files.users_test.to_str().unwrap().to_owned();
    let index = data.file("full");
    let measured = |more: &[&str]| {
        let few = [
            "--index",
            &index,
            "--queries",
            &users,
            "--limit",
            "20",
            "--k",
            "5,10",
            "--ef-search",
            "5,10,40",
        ];
        let output = bench(&[&few[..], &["--plan", "graph", "--json", "-"], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        let recalls: Vec<f64> = report.rows.iter().map(|row| row.recall).collect();
        (recalls, String::from_utf8(output.stderr).unwrap())
    };
    let (given, said) = measured(&["--ground-truth", data.truth.to_str().unwrap()]);
    assert!(!said.contains("computed"), "{said}");
    let (computed, said) = measured(&[]);
    assert_eq!(computed, given);
    assert!(said.contains("shortlist: no exact neighbors given: computed the 10 of 20 queries"), "{said}");
}

#[test]
fn two_indexes_under_one_name_are_refused() {
    let data = Measurable::new();
    let coded = data.file("coded");
    let users = data.dataset.files.users_test.to_str().unwrap();
    let common = ["--queries", users, "--ground-truth", data.truth.to_str().unwrap()];
    let error = fail(&[&common[..], &["--index", &coded, "--index", &coded]].concat());
    assert!(error.contains("there is an index \"coded\" already"), "{error}");
    for (threads, expected) in [("0", "1 to 4096"), ("3..1", "FIRST..LAST"), ("1..9999999", "1 to 4096")] {
        let error = fail(&[&common[..], &["--index", &coded, "--threads", threads]].concat());
        assert!(error.contains(expected), "{error}");
    }
    let nowhere = data.file("no/such/report.html");
    let error = fail(&[&common[..], &["--index", &coded, "--html", &nowhere]].concat());
    assert!(error.contains(&nowhere) && !error.contains("queries/s"), "{error}");
}

#[test]
fn peers_end_in_the_table_and_in_the_page() {
    let data = Measurable::new();
    let folder = &data.dataset.folder;
    let file = written(folder, "peers.json", &peers(HOSTILE).to_string());
    let (html, svg) = (data.file("report.html"), data.file("recall.svg"));
    let index = data.file("coded");
    let arguments = ["--index", &index, "--against", file.to_str().unwrap(), "--html", &html, "--svg", &svg];
    let table = data.run(&arguments);
    let row = table.lines().find(|line| line.contains(HOSTILE)).unwrap();
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    assert_eq!(cells[2..4], ["7.0", "1"], "{row}");
    // k = 5 was not measured; between 0.8 and 0.92, then between 0.92 and 1.
    assert_eq!(cells[4..10], ["never", "never", "never", "1260", "178", "18"], "{row}");
    let escaped = "&lt;/style&gt;&lt;script&gt;&quot;x&quot; &amp; &#39;y&#39;";
    for file in [&html, &svg] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(escaped) && text.contains("shortlist"), "{file}");
        assert!(!text.contains("<script") && !text.contains(HOSTILE), "{file}");
    }
}

#[test]
fn pages_are_well_formed_and_need_nothing_else() {
    let ours: Report = serde_json::from_value(json!({
        "engine": HOSTILE, "build_s": 3.0, "bytes": 1 << 24, "threads": 1, "queries": 9, "videos": 1000,
        "hot_bytes_per_vector": 304.5, "sections": {"codes": 128_000, HOSTILE: 5}, "phases": [{"name": HOSTILE, "ms": 7}],
        "rows": [{"k": 10, "ef_search": 10, "recall": 0.5, "qps": 1e4, "p50_us": 90.0, "p95_us": 120.0, "p99_us": 1e3}],
    }))
    .unwrap();
    let peer: Vec<Report> = serde_json::from_value(peers("peer")).unwrap();
    for comparison in [
        Comparison::new(vec![ours.clone()], peer.clone()),
        Comparison::new(vec![ours], Vec::new()),
        Comparison::new(Vec::new(), peer),
    ] {
        let page = page(&comparison, jiff::Timestamp::UNIX_EPOCH);
        let picture = picture(&comparison);
        for text in [&page, &picture] {
            let links = text.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
            for outside in ["http:", "https:", "//", " src=", " href=", "url(", "@import"] {
                assert!(!links.contains(outside), "{outside}");
            }
            assert!(!text.contains("NaN") && !text.contains("inf"), "a figure is not finite");
        }
        assert_balanced(page.strip_prefix("<!DOCTYPE html>").unwrap());
        assert_balanced(&picture);
        assert!(page.contains("width=device-width") && page.contains("prefers-color-scheme:dark"));
        // Every color that plotters wrote has become a class.
        assert!(!page.contains("fill=\"#") && !page.contains("stroke=\"#"));
    }
}

/// The parts of a text that follow `start`, up to `end`.
fn parts<'a>(text: &'a str, start: &'a str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).map(|rest| rest.split(end).next().unwrap()).collect()
}

fn measured(queries: usize, recalls: &[f64]) -> Report {
    let row = |(at, recall): (usize, &f64)| {
        json!({
            "k": 10, "ef_search": 10 << at, "recall": recall, "qps": 1e4 / (at + 1) as f64, "p50_us": 90.0 * (at + 1) as f64,
            "p95_us": 120.0 * (at + 1) as f64, "p99_us": 1e3 * (at + 1) as f64, "plan": "graph",
        })
    };
    let rows: Vec<Value> = recalls.iter().enumerate().map(row).collect();
    let provenance = json!({"cpu": "A <Processor>", "metric": "l2", "command": "shortlist bench"});
    serde_json::from_value(json!({
        "engine": "e", "build_s": 3.0, "bytes": 1 << 24, "threads": 1, "queries": queries, "rows": rows,
        "provenance": provenance,
    }))
    .unwrap()
}

#[test]
fn every_point_tells_how_it_was_measured() {
    let page = |reports| page(&Comparison::new(reports, Vec::new()), jiff::Timestamp::UNIX_EPOCH);
    let one = page(vec![measured(2_000, &[0.9, 0.95, 0.99])]);
    // A chart of throughput and three of latency, each for narrow and for wide screens.
    let points = parts(&one, "<g class=\"point\" tabindex=\"0\"", "</g>");
    assert_eq!(points.len(), 2 * 4 * 3);
    for fact in ["ef_search 20, graph", "recall 0.9500", "5,000 queries/s", "p99 2000.0 µs"] {
        let telling: Vec<_> = points.iter().filter(|point| point.contains(fact)).collect();
        assert!(telling.len() >= 2, "{fact}");
        // As a title, and as text in the picture.
        assert!(telling.iter().all(|point| point.matches(fact).count() == 2), "{fact}");
    }
    let setup = parts(&one, "<table class=\"facts\">", "</table>").concat();
    assert!(
        setup.contains("<td>A &lt;Processor&gt;</td>") && setup.contains("<td>shortlist bench</td>"),
        "{setup}"
    );

    // Where reports differ, a value names its engines.
    let mut other = measured(2_000, &[0.8]);
    other.engine = "f".to_owned();
    other.provenance.as_mut().unwrap().metric = Some("ip".to_owned());
    let both = page(vec![measured(2_000, &[0.9]), other]);
    assert!(
        both.contains("<td>l2 <span class=\"engines\">e</span><br/>ip <span class=\"engines\">f</span></td>")
    );
    assert_eq!(parts(&both, "<td>A &lt;Processor&gt;</td>", "<").len(), 1);
}

#[test]
fn recall_has_no_ticks_that_the_queries_cannot_resolve() {
    let ticks = |queries: usize| {
        let report = measured(queries, &[0.5, 0.9, 1.0]);
        let page = page(&Comparison::new(vec![report], Vec::new()), jiff::Timestamp::UNIX_EPOCH);
        let texts = parts(&page, "<text", "</text>");
        let tick = |text: &&str| text.rsplit('>').next().unwrap().trim().parse::<f64>().ok();
        let mut ticks: Vec<f64> = texts.iter().filter_map(tick).filter(|tick| *tick <= 1.0).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        ticks
    };
    // 20 queries of 10 hits tell 0.995 from 1.
    let few = ticks(20);
    assert!(
        few.contains(&0.99) && few.contains(&1.0) && few.iter().all(|tick| *tick <= 0.995 || *tick == 1.0),
        "{few:?}"
    );
    let many = ticks(2_000);
    assert!(many.contains(&0.999) && many.contains(&1.0), "{many:?}");
}

/// Checks that tags nest and attributes are quoted, as an XML parser requires.
fn assert_balanced(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(!tag.contains('<'), "{tag}");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') && name != "meta" {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} not closed");
}

#[test]
fn figures_that_cannot_be_are_refused_with_the_name_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str, expected: &str| {
        let path = written(&folder, "peers.json", text);
        let error = fail(&["--from", path.to_str().unwrap()]);
        assert!(error.contains("peers.json") && error.contains(expected), "{expected:?} is not in {error}");
        assert!(!error.contains("panicked"), "{error}");
    };
    refused("", "expected one object");
    refused("recall: 1", "line 1");
    refused("[]", "number of reports of engine 0: expected 1 to 64, found 0");
    refused("{\"engine\": \"e\"}", "missing field `build_s`");
    refused(&peers("e").to_string().replace("0.92", "\"high\""), "invalid type: string \"high\"");
    refused(&peers("e").to_string().replace("0.92", "1.5"), "recall of engine 0: expected 0 to 1, found 1.5");
    refused(&peers("e").to_string().replace("1000.0", "-1"), "qps of engine 0");
    refused(&peers("e").to_string().replace("1000.0", "1e999"), "number out of range");
    refused(&peers("e").to_string().replace("1000.0", "NaN"), "expected value");
    refused(&peers("e").to_string().replace("1048576", "-7"), "invalid value: integer `-7`");
    refused(&peers("").to_string(), "expected a name of 1 to 100 printable characters, found \"\"");
    refused(&peers("a\u{1}").to_string(), "printable");
    refused(&peers(&"e".repeat(101)).to_string(), "printable");
    refused(&"[".repeat(1 << 20), "peers.json");
    refused(&" ".repeat((16 << 20) + 1), "expected at most 16777216 bytes");
    let absent = folder.path().join("absent.json");
    assert!(matches!(read_reports(&absent), Err(ReportError::Io { path, .. }) if path == absent));
}

#[test]
fn one_object_is_read_like_an_array_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let array = written(&folder, "array.json", &peers("e").to_string());
    let object = written(&folder, "object.json", &format!("\n {}", peers("e")[0]));
    assert_eq!(read_reports(&array).unwrap(), read_reports(&object).unwrap());
}

#[test]
fn reports_of_one_name_are_told_apart_and_the_same_one_counts_once() {
    let (one, other) = (report(&[(0.9, 10.0)]), report(&[(0.9, 20.0)]));
    let comparison =
        Comparison::new(vec![one.clone(), other.clone()], vec![other.clone(), one, report(&[(0.8, 1.0)])]);
    let names: Vec<&str> = comparison.reports().iter().map(|report| report.engine.as_str()).collect();
    assert_eq!(names, ["e", "e (2)", "e (3)"]);
    assert_eq!(comparison.ours().len(), 2);
}

#[test]
fn speed_between_two_points_is_log_linear_along_the_front() {
    // (0.85, 500) is dominated by (0.9, 1000) and ignored.
    let report = report(&[(0.9, 1000.0), (0.8, 4000.0), (0.85, 500.0), (1.0, 10.0)]);
    let at = |recall| report.qps_at(10, recall);
    assert_eq!(at(0.5), Some(4000.0));
    assert_eq!(at(0.8), Some(4000.0));
    let close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-9 * expected;
    // Halfway between 4000 and 1000, and between 1000 and 10, as geometric means.
    assert!(close(at(0.85), 2000.0) && close(at(0.95), 100.0), "{:?} {:?}", at(0.85), at(0.95));
    assert!(close(at(1.0), 10.0));
    assert_eq!(report.qps_at(100, 0.9), None);
}

proptest! {
    #[test]
    fn no_point_of_the_front_is_beaten_and_speed_falls_with_recall(
        points in prop::collection::vec((0.0f64..=1.0, 1.0f64..1e6), 1..40)
    ) {
        let report = report(&points);
        let front = report.pareto_front(10);
        for (recall, qps) in &front {
            prop_assert!(points.contains(&(*recall, *qps)));
            prop_assert!(!points.iter().any(|other| other.0 > *recall && other.1 > *qps));
            let found = report.qps_at(10, *recall).unwrap();
            prop_assert!((found - qps).abs() <= 1e-9 * qps);
        }
        let best = points.iter().map(|point| point.0).fold(0.0, f64::max);
        prop_assert_eq!(report.qps_at(10, best + 1e-9), None);
        let speeds: Vec<f64> =
            (0..=20).filter_map(|step| report.qps_at(10, best * f64::from(step) / 20.0)).collect();
        prop_assert!(speeds.windows(2).all(|pair| pair[0] >= pair[1] * (1.0 - 1e-9)), "{:?}", speeds);
    }
}
