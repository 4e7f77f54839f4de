//! The synthetic catalog and its requests.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Value, json};
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::{ColumnValues, Dataset, Embeddings};
use shortlist::eval::Requests;
use shortlist::synth::{SynthFiles, SynthParams, synth};

use crate::harness::indexes::{TestDataset, build_index};

const SHARES: [(&str, f64); 5] =
    [("50 %", 0.5), ("10 %", 0.1), ("1 %", 0.01), ("0.1 %", 0.001), ("0.01 %", 0.0001)];

fn lines(files: &SynthFiles) -> Vec<Value> {
    let text = std::fs::read_to_string(&files.requests).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn labels(files: &SynthFiles) -> Vec<String> {
    let queries = Embeddings::open(&files.users_test).unwrap();
    let requests = Requests::read(&files.requests, Some(queries.view()), Timestamp::now(), None).unwrap();
    requests.labels().iter().map(|(label, _)| label.clone().unwrap()).collect()
}

fn column<'a>(dataset: &'a Dataset, name: &str) -> &'a ColumnValues {
    &dataset.attributes.iter().find(|column| column.name == name).unwrap().values
}

fn words<'a>(dataset: &'a Dataset, name: &str) -> Vec<&'a str> {
    let ColumnValues::Keyword(words) = column(dataset, name) else { panic!("{name} has no words") };
    words.iter().map(Option::unwrap).collect()
}

#[test]
fn files_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let make = |threads: usize| {
        // More than one chunk of rows.
        let params = SynthParams { videos: 20_000, dim: 8, users: 1_000, seed: 5, duplicates: 0 };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let files = pool.install(|| synth(params, &folder.path().join(threads.to_string()), |_| {})).unwrap();
        [files.videos, files.attributes, files.users_test, files.requests, files.excluded]
            .map(|path| std::fs::read(path).unwrap())
    };
    assert!(make(1) == make(3));
}

/// About the share that was asked for resembles an earlier video, half of it to the bit, and nothing else changes.
#[test]
fn re_uploads_are_copies_or_nearly_so() {
    let folder = tempfile::tempdir().unwrap();
    let rows = |name: &str, duplicates: usize| -> Vec<Vec<f32>> {
        let params = SynthParams { videos: 3_000, dim: 64, users: 100, seed: 5, duplicates };
        let files = synth(params, &folder.path().join(name), |_| {}).unwrap();
        let embeddings = Embeddings::open(&files.videos).unwrap();
        let row = |at| {
            let mut row = Vec::new();
            embeddings.view().copy_row(at, &mut row);
            row
        };
        (0..3_000).map(row).collect()
    };
    let (without, with) = (rows("without", 0), rows("with", 300));
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = |a: &[f32], b: &[f32]| product(a, b) / (product(a, a) * product(b, b)).sqrt();
    let changed: Vec<usize> = (0..3_000).filter(|at| with[*at] != without[*at]).collect();
    let copies = changed.iter().filter(|at| with[..**at].contains(&with[**at])).count();
    for at in &changed {
        let nearest = with[..*at].iter().map(|other| cosine(other, &with[*at])).fold(-1.0, f32::max);
        assert!(nearest > 0.99, "{at}: {nearest}");
    }
    assert!((250..350).contains(&changed.len()), "{}", changed.len());
    assert!((100..200).contains(&copies), "{copies}");
}

#[test]
fn experiment_is_uniform_and_says_nothing_of_the_topic() {
    let dataset = TestDataset::new(20_000, 4).open(Metric::InnerProduct);
    let ColumnValues::Double(experiments) = column(&dataset, "experiment") else { panic!("no numbers") };
    let experiments: Vec<f64> = experiments.iter().map(Option::unwrap).collect();
    assert!(experiments.iter().all(|value| (0.0..1.0).contains(value)));
    let topics = words(&dataset, "topic");
    let mut by_topic: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (topic, experiment) in topics.into_iter().zip(experiments) {
        by_topic.entry(topic).or_default().push(experiment);
    }
    for (topic, values) in by_topic {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        // Five standard deviations of such a mean.
        let allowed = 5.0 / (12.0 * values.len() as f64).sqrt();
        assert!((mean - 0.5).abs() < allowed, "{topic}: {mean}");
    }
}

#[test]
fn filters_let_through_the_share_that_labels_name() {
    let data = TestDataset::new(20_000, 8);
    let params = BuildParams::new(Metric::InnerProduct, 8, 20).unwrap();
    let index = data.folder.path().join("index");
    drop(build_index(&data.open(Metric::InnerProduct), &params, &index));
    // Some users, and a distinct label per line.
    let some = lines(&data.files).into_iter().filter(|line| {
        let asker = line["query"].as_u64().or(line["interests"][0]["query"].as_u64()).unwrap();
        asker.is_multiple_of(30)
    });
    let numbered: String = some
        .enumerate()
        .map(|(number, mut line)| {
            line["label"] = json!(format!("{} #{number}", line["label"].as_str().unwrap()));
            format!("{line}\n")
        })
        .collect();
    let requests = data.folder.path().join("numbered.jsonl");
    std::fs::write(&requests, numbered).unwrap();
    let report = data.folder.path().join("report.json");
    let measured = Command::new(env!("CARGO_BIN_EXE_shortlist"))
        .args(["bench", "--k", "10", "--ef-search", "40", "--index"])
        .args([&index, Path::new("--queries"), &data.files.users_test])
        .args([Path::new("--requests"), &requests, Path::new("--json"), &report])
        .output()
        .unwrap();
    assert!(measured.status.success(), "{}", String::from_utf8_lossy(&measured.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    // 4 of the 100 held-out users.
    assert_eq!(rows.len(), 4 * (1 + 3 * SHARES.len() + 2));
    for row in rows {
        let label = row["label"].as_str().unwrap();
        let share = SHARES.iter().find(|(share, _)| {
            label
                .strip_prefix(share)
                .is_some_and(|rest| [" random", " near", " far"].iter().any(|kind| rest.starts_with(kind)))
        });
        let Some((_, share)) = share else {
            assert!(row["matches"].is_null(), "{row}");
            continue;
        };
        let (expected, found) = (20_000.0 * share, row["matches"].as_f64().unwrap());
        assert!((expected..=1.2 * expected).contains(&found), "{label}: expected {expected}, found {found}");
        assert!(found == expected || !label.contains("random"), "{label}: {found}");
    }
}

#[test]
fn near_topics_score_better_than_far_ones() {
    let data = TestDataset::new(20_000, 8);
    let dataset = data.open(Metric::InnerProduct);
    let topics = words(&dataset, "topic");
    let users = Embeddings::open(&data.files.users_test).unwrap();
    let (mut user, mut video) = (Vec::new(), Vec::new());
    let mut mean_score = |line: &Value| {
        let (_, names) = line["filter"].as_str().unwrap().split_once("topic in (").unwrap();
        let names: HashSet<&str> = names.split('\'').skip(1).step_by(2).collect();
        user.clear();
        users.view().copy_row(line["query"].as_u64().unwrap() as usize, &mut user);
        let (mut sum, mut count) = (0.0, 0.0);
        for row in (0..topics.len()).filter(|row| names.contains(topics[*row])) {
            video.clear();
            dataset.embeddings.view().copy_row(row, &mut video);
            sum += user.iter().zip(&video).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            count += 1.0;
        }
        sum / count
    };
    let lines = lines(&data.files);
    let under = |label: &str| lines.iter().filter(|line| line["label"] == label).collect::<Vec<_>>();
    for (share, _) in SHARES {
        let (near, far) = (under(&format!("{share} near")), under(&format!("{share} far")));
        for (near, far) in near.into_iter().zip(far).take(10) {
            assert_eq!(near["query"], far["query"]);
            assert!(mean_score(near) > mean_score(far), "{near} {far}");
        }
    }
}

fn numbers(path: &std::path::Path) -> Vec<shortlist::base::id::VideoId> {
    shortlist::dataset::read_ids(path).and_then(|ids| ids.into_numbers(path)).unwrap()
}

#[test]
fn a_fifth_of_a_small_catalog_is_excluded() {
    let data = TestDataset::new(300, 4);
    let known: HashSet<_> = numbers(&data.files.video_ids).into_iter().collect();
    let excluded = numbers(&data.files.excluded);
    let distinct: HashSet<_> = excluded.iter().copied().collect();
    assert_eq!((excluded.len(), distinct.len()), (60, 60));
    assert!(distinct.is_subset(&known));
}

#[test]
fn labels_of_less_than_one_video_are_left_out() {
    let labels_of = |videos: usize| labels(&TestDataset::new(videos, 4).files);
    assert_eq!(labels_of(1), ["no rules", "four interests"]);
    let kinds = |share: &str| ["random", "near", "far"].map(|kind| format!("{share} {kind}"));
    let all = |shares: &[(&str, f64)], excluded: &str| {
        let filters = shares.iter().flat_map(|(share, _)| kinds(share));
        let others = ["four interests".to_owned(), excluded.to_owned()];
        ["no rules".to_owned()].into_iter().chain(filters).chain(others).collect::<Vec<_>>()
    };
    assert_eq!(labels_of(99), all(&SHARES[..2], "19 excluded"));
    assert_eq!(labels_of(100), all(&SHARES[..3], "20 excluded"));
    assert_eq!(labels_of(60_000), all(&SHARES, "10,000 excluded"));
}
