//! `bench --requests`: requests with rules, by label.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use shortlist::dataset::write_npy;
use shortlist::index::IndexStore;

use crate::harness::indexes::TestDataset;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shortlist")).arg("bench").args(arguments).output().unwrap()
}

fn fail(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// An index of 1,500 synthetic videos with ids and attributes, and its users.
struct Measurable {
    dataset: TestDataset,
}

impl Measurable {
    fn new(codes: &str) -> Self {
        let measurable = Self { dataset: TestDataset::new(1_500, 8) };
        let files = &measurable.dataset.files;
        let of = |path: &Path| path.to_str().unwrap().to_owned();
        let (videos, ids, attributes) = (of(&files.videos), of(&files.video_ids), of(&files.attributes));
        let (out, users) = (measurable.file("index"), of(&files.users_train));
        let built = Command::new(env!("CARGO_BIN_EXE_shortlist"))
            .args(["build", "--embeddings", &videos, "--ids", &ids, "--attributes", &attributes])
            .args(["--training-queries", &users, "--codes", codes, "--out", &out])
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        measurable
    }

    fn file(&self, name: &str) -> String {
        self.dataset.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, lines: &[Value]) -> String {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let path = self.file("requests.jsonl");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn measure(&self, requests: &str, arguments: &[&str]) -> Output {
        let users = self.dataset.files.users_test.to_str().unwrap();
        let common = ["--index", &self.file("index"), "--queries", users, "--requests", requests];
        bench(&[&common[..], arguments].concat())
    }

    /// The report.
    fn report(&self, lines: &[Value], arguments: &[&str]) -> Value {
        let json = self.file("report.json");
        let output = self.measure(&self.write(lines), &[arguments, &["--json", &json]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
    }

    /// The error message of a refused file.
    fn refusal(&self, text: &[u8]) -> String {
        let path = self.file("requests.jsonl");
        std::fs::write(&path, text).unwrap();
        let output = self.measure(&path, &["--k", "10", "--ef-search", "20"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !error.contains("panicked"), "{error}");
        assert!(error.contains("requests.jsonl"), "{error}");
        error
    }

    fn ids(&self, count: usize) -> Vec<u64> {
        let (_, index, _) = IndexStore::new(self.file("index")).open_current().unwrap();
        index.video_ids().iter().step_by(index.len() / count).map(|id| id.0).collect()
    }
}

/// Several requests per rule, with a label per rule.
fn one_of_each(ids: &[u64]) -> Vec<Value> {
    let each = [
        json!({"label": "none"}),
        json!({"label": "half", "filter": "duration_s >= 40 or region = \"US\""}),
        json!({"label": "rare", "filter": "region = 'FR' and not safety_rating = 'everyone'"}),
        json!({"label": "late", "filter": "published_at > 2025-11-01 and published_at < -1s"}),
        json!({"label": "excluded", "exclude": ids}),
        json!({"label": "capped", "caps": {"creator": 1, "region": 4}}),
        json!({"label": "fresh", "fresh": {"within": "36500d", "at_least": 4}}),
        json!({"label": "interests", "interests": [
            {"query": 3, "weight": 0.5, "min_share": 0.25}, {"query": 4}, {"query": 5, "min_share": 0.2},
        ]}),
        json!({"label": "seeds", "seeds": [{"video_id": ids[0]}, {"video_id": ids[1], "weight": -0.5}]}),
        json!({"label": "page", "offset": 20, "caps": {"creator": 2}}),
        json!({"label": "none are so good", "score_threshold": 1e6, "query": 7}),
        json!({"label": "everything", "filter": "region in ('US', 'IN')", "caps": {"creator": 2},
            "exclude": ids, "score_threshold": -1.0, "fresh": {"within": "36500d", "at_least": 2}}),
        json!({}),
    ];
    // Interleaved, so that grouping depends on labels and not on positions.
    [&each[..], &each[..], &each[..]].concat()
}

#[test]
fn every_label_has_a_row_per_k_and_effort() {
    let data = Measurable::new("none");
    let lines = one_of_each(&data.ids(500));
    let report = data.report(&lines, &["--k", "4,10", "--ef-search", "1500,3000"]);
    assert_eq!((&report["engine"], &report["queries"]), (&json!("shortlist"), &json!(lines.len())));
    let rows = report["rows"].as_array().unwrap();
    let labels: Vec<&Value> = rows.iter().map(|row| &row["label"]).collect();
    let expected: Vec<&Value> = lines[..13].iter().flat_map(|line| [&line["label"]; 4]).collect();
    assert_eq!(labels, expected);
    let points: Vec<(&Value, &Value)> = rows.iter().map(|row| (&row["k"], &row["ef_search"])).collect();
    assert_eq!(
        points[..4],
        [
            (&json!(4), &json!(1500)),
            (&json!(4), &json!(3000)),
            (&json!(10), &json!(1500)),
            (&json!(10), &json!(3000))
        ]
    );
    for row in rows {
        // A candidate list of all videos, in full precision.
        assert_eq!(
            (&row["recall"], &row["violations"], &row["requests"]),
            (&json!(1.0), &json!(0), &json!(3)),
            "{row}"
        );
        let is_short = row["label"] == "none are so good";
        assert_eq!(row["short_answers"], if is_short { 3 } else { 0 }, "{row}");
        let plans = row["plans"].as_object().unwrap();
        let shares: f64 = plans.values().map(|share| share.as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9 && plans.contains_key(row["plan"].as_str().unwrap()), "{row}");
        let has_filter = ["half", "rare", "late", "everything"].iter().any(|label| row["label"] == *label);
        assert_eq!(row["matches"].is_number(), has_filter, "{row}");
        for field in ["qps", "p50_us", "p95_us", "p99_us", "distances", "hops"] {
            assert!(row[field].as_f64().is_some_and(|value| value >= 0.0), "{field} of {row}");
        }
    }
}

#[test]
fn codes_and_little_effort_break_no_rule() {
    let data = Measurable::new("sq8");
    let report =
        data.report(&one_of_each(&data.ids(50)), &["--k", "10", "--ef-search", "10", "--threads", "1,2"]);
    let rows = report.as_array().unwrap().iter().flat_map(|report| report["rows"].as_array().unwrap());
    let rows: Vec<&Value> = rows.collect();
    assert_eq!(rows.len(), 2 * 13);
    for row in rows {
        assert!(row["recall"].as_f64().unwrap() > 0.5, "{row}");
        assert_eq!(row["violations"], 0, "{row}");
    }
}

#[test]
fn a_plan_is_that_of_the_line_or_else_that_of_the_command() {
    let data = Measurable::new("sq8");
    let us = "region = 'US'";
    let lines = [
        json!({"label": "told", "filter": us, "plan": "filtered_graph"}),
        json!({"label": "not told", "filter": us}),
    ];
    let arguments = ["--k", "5", "--ef-search", "50", "--plan", "block_scan", "--limit", "1"];
    let report = data.report(&[&lines[..], &lines[..]].concat(), &arguments);
    let rows = report["rows"].as_array().unwrap();
    let plans: Vec<(&Value, &Value)> = rows.iter().map(|row| (&row["plan"], &row["requests"])).collect();
    assert_eq!(plans, [(&json!("filtered_graph"), &json!(1)), (&json!("block_scan"), &json!(1))]);
}

#[test]
fn ids_of_a_file_beside_the_requests_are_excluded() {
    let data = Measurable::new("sq8");
    let ids = data.ids(1_500);
    // All but ten.
    write_npy(Path::new(&data.file("seen.npy")), &[1_490], &ids[10..]).unwrap();
    let lines =
        [json!({"exclude_file": "seen.npy"}), json!({"exclude_file": "seen.npy", "exclude": [ids[0]]})];
    let report = data.report(&lines, &["--k", "10", "--ef-search", "20"]);
    let row = &report["rows"][0];
    assert_eq!(
        (&row["recall"], &row["short_answers"], &row["violations"]),
        (&json!(1.0), &json!(1), &json!(0))
    );
}

#[test]
fn an_empty_list_excludes_nothing_and_a_file_of_no_bytes_is_no_array() {
    let data = Measurable::new("sq8");
    std::fs::write(data.file("nothing.txt"), "").unwrap();
    std::fs::write(data.file("newline.txt"), "\n").unwrap();
    write_npy::<u64>(Path::new(&data.file("array.npy")), &[0], &[]).unwrap();
    let lines = ["nothing.txt", "newline.txt", "array.npy"].map(|name| json!({"exclude_file": name}));
    let report = data.report(&lines, &["--k", "10", "--ef-search", "20"]);
    let row = &report["rows"][0];
    assert_eq!((&row["requests"], &row["short_answers"]), (&json!(3), &json!(0)));
    std::fs::write(data.file("nothing.npy"), "").unwrap();
    let error = data.refusal(br#"{"exclude_file": "nothing.npy"}"#);
    assert!(error.contains("line 1: exclude_file: ") && error.contains("the file is empty"), "{error}");
}

#[test]
fn requests_of_seeds_need_no_queries() {
    let data = Measurable::new("sq8");
    let requests = data.write(&[json!({"seeds": [{"video_id": data.ids(1)[0]}]})]);
    let output =
        bench(&["--index", &data.file("index"), "--requests", &requests, "--k", "5", "--ef-search", "50"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let error = fail(&["--index", &data.file("index"), "--requests", &data.write(&[json!({"query": 3})])]);
    assert!(
        error.contains("line 1: query: expected --queries to take row 3 from, or seeds instead"),
        "{error}"
    );
}

#[test]
fn bench_says_which_memory_it_measures() {
    let data = Measurable::new("sq8");
    let users = data.dataset.files.users_test.to_str().unwrap().to_owned();
    let (index, truth) = (data.file("index"), data.file("truth.npy"));
    let plain = ["--index", &index, "--queries", &users, "--ground-truth", &truth];
    let requests = data.write(&[json!({})]);
    let with_rules = ["--index", &index, "--queries", &users, "--requests", &requests];
    let videos = data.dataset.files.videos.to_str().unwrap();
    let command = ["ground-truth", "--embeddings", videos, "--queries", &users, "-k", "5", "--out", &truth];
    assert!(Command::new(env!("CARGO_BIN_EXE_shortlist")).args(command).output().unwrap().status.success());
    for inputs in [&plain, &with_rules] {
        let said = |arguments: &[&str]| {
            let few = ["--k", "5", "--ef-search", "10", "--limit", "3"];
            let output = bench(&[&inputs[..], &few, arguments].concat());
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{said}");
            (said.contains("shortlist: resident: "), said.contains("mapped: "))
        };
        assert_eq!(said(&["--memory", "resident"]), (true, false));
        assert_eq!(said(&["--memory", "mapped"]), (false, false));
        // Depends on the memory of the machine.
        let (is_resident, is_mapped) = said(&[]);
        assert!(is_resident != is_mapped);
        assert_eq!(said(&["--memory", "auto"]), (is_resident, is_mapped));
    }
    let error = fail(&[&plain[..], &["--memory", "huge"]].concat());
    assert!(error.contains("unknown memory mode \"huge\": expected auto, mapped or resident"), "{error}");
}

#[test]
fn figures_of_requests_are_shown_again_and_not_drawn() {
    let data = Measurable::new("sq8");
    let json = data.file("requests.json");
    let requests = data.write(&[json!({"label": "no \"rules\""}), json!({"filter": "region = 'US'"})]);
    let output = data.measure(&requests, &["--k", "5", "--ef-search", "10", "--json", &json]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.starts_with("| label") && table.contains("no \"rules\"") && table.contains("violations"),
        "{table}"
    );
    assert_eq!(String::from_utf8(bench(&["--from", &json]).stdout).unwrap(), table);
    let svg = data.file("recall.svg");
    for arguments in [["--svg", &svg], ["--html", &svg]] {
        let error = fail(&[&["--from", &json][..], &arguments].concat());
        assert!(error.contains("expected figures of plain queries for --html and --svg"), "{error}");
        let error = data.measure(&requests, &arguments).stderr;
        let error = String::from_utf8(error).unwrap();
        assert!(error.contains("'--requests <FILE>' cannot be used with"), "{error}");
    }
    assert!(!Path::new(&svg).exists());
}

#[test]
fn peers_are_compared_label_by_label() {
    let data = Measurable::new("none");
    let lines = [json!({"label": "US", "filter": "region = 'US'"}), json!({"label": "capped"}), json!({})];
    let peers = data.file("peers.json");
    let rows = json!([
        {"label": "US", "k": 5, "recall": 0.92, "qps": 400.0, "param": 10},
        {"label": "US", "k": 5, "recall": 0.98, "qps": 100.0, "param": 20},
        // A label that was not measured belongs to no curve of ours.
        {"label": "peer's own", "k": 5, "recall": 1.0, "qps": 9000.0},
    ]);
    let peer = json!([{"engine": "peer", "build_s": 7.05, "bytes": 1 << 20, "rows": rows}]);
    std::fs::write(&peers, peer.to_string()).unwrap();
    let requests = data.write(&lines);
    let effort = ["--k", "5", "--ef-search", "1500", "--against", &peers];
    let output = data.measure(&requests, &effort);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, summary) = text.split_once("queries/s at recall@k").unwrap();
    let row = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let found: Vec<Vec<String>> = summary.lines().filter(|line| line.starts_with('|')).map(row).collect();
    let of_peer = |label: &str, speeds: [&str; 3]| {
        ["", label, "peer", "7.0", "1"].into_iter().chain(speeds).chain([""]).map(str::to_owned).collect()
    };
    let starts: Vec<(&str, &str)> = found[2..].iter().map(|row| (row[1].as_str(), row[2].as_str())).collect();
    assert_eq!(
        starts,
        [
            ("US", "shortlist"),
            ("US", "peer"),
            ("capped", "shortlist"),
            ("-", "shortlist"),
            ("peer's own", "peer")
        ]
    );
    let expected: [Vec<String>; 2] =
        [of_peer("US", ["≥ 400", "200", "never"]), of_peer("peer's own", ["≥ 9000", "≥ 9000", "≥ 9000"])];
    assert_eq!([&found[3], &found[6]], [&expected[0], &expected[1]]);
    // A candidate list of all videos finds everything.
    assert!(!found[2].contains(&"never".to_owned()), "{summary}");
}

#[test]
fn figures_of_requests_are_not_compared_with_those_of_plain_queries() {
    let data = Measurable::new("sq8");
    let report = |name: &str, row: Value| {
        let file = data.file(name);
        let report = json!({"engine": name, "build_s": 1.0, "bytes": 1, "rows": [row]});
        std::fs::write(&file, report.to_string()).unwrap();
        file
    };
    let labeled = report("labeled.json", json!({"label": "US", "k": 5, "recall": 0.9, "qps": 1.0}));
    let plain = report("plain.json", json!({"k": 5, "recall": 0.9, "qps": 1.0}));
    let expected = "--against: expected figures of one kind";
    for arguments in [["--from", &plain, "--against", &labeled], ["--from", &labeled, "--against", &plain]] {
        let error = fail(&arguments);
        assert!(error.contains(expected), "{error}");
    }
    let requests = data.write(&[json!({"label": "US"})]);
    let error = String::from_utf8(data.measure(&requests, &["--against", &plain]).stderr).unwrap();
    // Refused before anything is measured.
    assert!(error.contains(expected) && !error.contains("recall"), "{error}");
}

#[test]
fn requests_replace_exact_neighbors() {
    let data = Measurable::new("sq8");
    let requests = data.write(&[json!({})]);
    let error = data.measure(&requests, &["--ground-truth", "truth.npy"]).stderr;
    let error = String::from_utf8(error).unwrap();
    assert!(error.contains("cannot be used with"), "{error}");
    let error = fail(&["--index", &data.file("index")]);
    assert!(error.contains("--queries") && error.contains("--requests"), "{error}");
    let error = fail(&["--from", &requests, "--plan", "match_scan"]);
    assert!(
        error.contains("--plan match_scan: expected --requests") || error.contains("requests.jsonl"),
        "{error}"
    );
}

#[test]
fn a_wrong_line_is_named_with_what_was_expected() {
    let data = Measurable::new("sq8");
    for (line, expected) in [
        (
            r#"{"cap": {"creator": 2}}"#,
            "column 6: cap: unknown field `cap`, expected one of `label`, `query`",
        ),
        (r#"["a", 3]"#, "expected an object, such as"),
        (r#"{"query": 3"#, "column 11: EOF while parsing an object"),
        (r#"{"query": -3}"#, "column 12: query: invalid value: integer `-3`, expected usize"),
        (r#"{"query": 100000}"#, "query: expected a row of --queries below 100, found 100000"),
        (r#"{"query": 1, "seeds": []}"#, "expected one of query, interests and seeds, found several"),
        (
            r#"{"interests": [{"query": 1}, {"query": 200}]}"#,
            "interests[1].query: expected a row of --queries",
        ),
        (r#"{"interests": [{"weight": 1}]}"#, "interests[0]: missing field `query`"),
        (r#"{"seeds": [{"video_id": 1}, {"video_id": "2"}]}"#, "seeds[1].video_id: invalid type: string"),
        (r#"{"caps": {"creator": "2"}}"#, "caps.creator: invalid type: string \"2\", expected usize"),
        (r#"{"query": 3} {}"#, "column 14: trailing characters"),
        (r#"{"interests": []}"#, "interests: expected 1 to 16 interests, found 0"),
        (r#"{"seeds": [{"video_id": 1}]}"#, "video 1 is not in index"),
        (r#"{"label": ""}"#, "label: expected 1 to 100 printable characters, found \"\""),
        (r#"{"label": "a\u0000"}"#, "label: expected 1 to 100 printable characters"),
        (r#"{"filter": "region = US"}"#, "filter: line 1, column 10: expected a value"),
        (r#"{"filter": "color = 'red'"}"#, "no attribute \"color\": expected one of title"),
        (r#"{"caps": {"creator": 0}}"#, "caps.creator: expected at least 1, found 0"),
        (
            r#"{"caps": {"title": 2, "creator": 0, "region": 1}}"#,
            "caps.creator: expected at least 1, found 0",
        ),
        (r#"{"caps": {"creator": 1, "region": 2, "creator": 3}}"#, "caps: duplicate field `creator`"),
        (r#"{"caps": {"color": 1}}"#, "caps.color: no attribute \"color\": expected one of"),
        (r#"{"caps": {"published_at": 1}}"#, "caps.published_at: expected a keyword"),
        (
            r#"{"fresh": {"within": "soon", "at_least": 1}}"#,
            "fresh.within: expected a duration in s, m, h, d or w, such as 7d, found \"soon\"",
        ),
        (r#"{"fresh": {"within": "0s", "at_least": 1}}"#, "within: expected a duration"),
        (
            r#"{"fresh": {"within": "7d", "at_least": 11}}"#,
            "fresh.at_least: expected at most 10 of k = 10, found 11",
        ),
        (r#"{"score_threshold": 1e60}"#, "score_threshold: expected a finite number, found inf"),
        (r#"{"offset": 9999}"#, "offset: expected at most 9990 with k = 10, found 9999"),
        (r#"{"plan": "walk"}"#, "plan: unknown plan \"walk\": expected one of graph"),
        (r#"{"plan": "match_scan"}"#, "plan: expected another plan: the request has no filter"),
        (r#"{"exclude_file": "absent.txt"}"#, "absent.txt"),
        (r#"{"exclude_file": "seen.csv"}"#, "exclude_file: "),
        (r#"{"exclude": [-1]}"#, "exclude[0]: invalid value: integer `-1`, expected u64"),
    ] {
        let error = data.refusal(format!("{{}}\n{line}\n").as_bytes());
        assert!(error.contains("line 2") && error.contains(expected), "{line}: {error}");
    }
    assert!(data.refusal(b"\xff\n").contains("line 1: expected an object"));
    assert!(data.refusal(b"\n \n").contains("expected a request per line, found none"));
    let long = [b"{}\n".to_vec(), vec![b' '; (4 << 20) + 1]].concat();
    assert!(data.refusal(&long).contains("line 2: expected at most 4194304 bytes, found more"));
    assert!(data.refusal(&b"{}\n".repeat(100_001)).contains("expected at most 100000 lines, found more"));
    let absent = data.measure(&data.file("requests.jsonl.absent"), &[]).stderr;
    assert!(String::from_utf8(absent).unwrap().contains("No such file"));
}
