//! The real binary: a generation that is held, compared and activated; aliases.

use std::process::Output;

use serde_json::Value;

use crate::harness::TestIndex;
use crate::harness::process::{Served, serve, shortlist};

/// Runs a command, and returns what it prints.
fn run(arguments: &[&str]) -> Result<String, String> {
    let Output { status, stdout, stderr } = shortlist().args(arguments).output().unwrap();
    match status.success() {
        true => Ok(String::from_utf8(stdout).unwrap()),
        false => Err(String::from_utf8(stderr).unwrap()),
    }
}

#[test]
fn a_generation_is_held_compared_and_activated() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    run(&["synth", "--out", &path("data"), "--videos", "300", "--dim", "8", "--users", "20"]).unwrap();
    let catalog = path("data/videos.npy");
    let build = |more: &[&str]| {
        let out = path("index");
        let build = ["build", "--embeddings", &catalog, "--out", &out, "--threads", "1", "--json"];
        run(&[&build, more].concat())
    };
    let error = build(&["--hold"]).unwrap_err();
    assert!(error.contains("--hold: expected a folder with a generation that serves"), "{error}");
    build(&[]).unwrap();
    let mut command = shortlist();
    command.args(["serve", "--listen", "127.0.0.1:0", "--index", &path("index")]);
    command.env("SHORTLIST_SERVE_SHADOW__CPU_SHARE", "1.0").env("SHORTLIST_SERVE_POLL_INTERVAL", "50ms");
    let served = Served::start(command);
    let address = served.address.to_string();
    let ask = |arguments: &[&str]| run(&[arguments, &["--addr", &address]].concat());
    let held: Value = serde_json::from_str(&build(&["--hold"]).unwrap()).unwrap();
    assert_eq!(held["generation"], 2);

    let begun = ask(&["shadow", "--generation", "2", "--share", "1"]).unwrap();
    assert!(begun.starts_with("repeating 1 of the searches"), "{begun}");
    let report = loop {
        ask(&["query", "--vector", &path("data/users_test.npy:3"), "-k", "5"]).unwrap();
        let report = ask(&["shadow"]).unwrap();
        if report.contains("| k up to |") {
            break report;
        }
    };
    // Both are of the same videos.
    assert!(report.contains("default (generation 1) and generation 2: 1 of the searches since "), "{report}");
    let row: Vec<&str> =
        report.lines().rfind(|line| line.starts_with('|')).unwrap().split('|').map(str::trim).collect();
    assert_eq!(row[3..5], ["1.0000", "0.000000"], "{report}");
    let status = ask(&["status"]).unwrap();
    assert!(status.contains("generation  1,") && status.contains("shadow      generation 2, "), "{status}");
    let ended = ask(&["shadow", "--stop"]).unwrap();
    assert!(ended.contains(" compared, 0 failed, "), "{ended}");
    assert_eq!(ask(&["shadow"]).unwrap(), "no index has a shadow\n");

    let activated = ask(&["activate", "2"]).unwrap();
    assert!(activated.contains("generation  2,"), "{activated}");
}

#[test]
fn aliases_are_set_listed_and_removed() {
    let index = TestIndex::new(30);
    let file = index.dir().with_file_name("aliases.json");
    let mut command = serve(&index);
    command.arg("--aliases").arg(&file);
    let served = Served::start(command);
    let address = served.address.to_string();
    let ask = |arguments: &[&str]| run(&[arguments, &["--addr", &address]].concat());
    assert_eq!(ask(&["alias"]).unwrap(), "no aliases\n");
    assert_eq!(ask(&["alias", "videos", "default"]).unwrap(), "videos: default, before nothing\n");
    let listed = ask(&["alias"]).unwrap();
    assert!(listed.ends_with("| videos | default |\n"), "{listed}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\n  \"videos\": [\n    \"default\"\n  ]\n}\n");
    let users = index.dir().with_file_name("embeddings-1.npy:2").display().to_string();
    let found = ask(&["query", "--index", "videos", "--vector", &users, "-k", "3", "--json"]).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(
        (&found["index"], found["candidates"].as_array().unwrap().len()),
        (&Value::from("default"), 3)
    );
    assert!(ask(&["status"]).unwrap().contains("alias videos: default\n"));
    let error = ask(&["alias", "videos"]).unwrap_err();
    assert!(error.contains("expected the names of indexes, or --remove"), "{error}");
    let error = ask(&["alias", "videos", "other"]).unwrap_err();
    assert!(error.starts_with("error: NOT_FOUND: "), "{error}");
    assert_eq!(ask(&["alias", "videos", "--remove"]).unwrap(), "videos: nothing, before default\n");
    assert_eq!(ask(&["alias"]).unwrap(), "no aliases\n");
}
