//! The real binary on a running server: its indexes, and answers as JSON.

use std::process::Output;

use serde_json::Value;

use crate::harness::process::{Served, serve, shortlist};
use crate::harness::{TestIndex, video_id};

/// Runs a command on a server, and returns what it prints.
fn ask(served: &Served, arguments: &[&str]) -> String {
    let mut command = shortlist();
    command.args(arguments).args(["--addr", &served.address.to_string()]);
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn json(served: &Served, arguments: &[&str]) -> Value {
    let text = ask(served, &[arguments, &["--json"]].concat());
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_state_of_a_server_is_shown_and_a_generation_activated() {
    let mut index = TestIndex::new(25);
    index.publish(30);
    let served = Served::start(serve(&index));
    let listed = ask(&served, &["list"]);
    let row: Vec<&str> = listed.lines().last().unwrap().split('|').map(str::trim).collect();
    assert_eq!(row[1..8], ["default", "yes", "yes", "2", "1 2", "30", "8"], "{listed}");
    let status = ask(&served, &["status"]);
    for line in ["index       default", "generation  2, published ", "videos      30 × 8 f32, ip"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let activated = ask(&served, &["activate", "1", "--force"]);
    assert!(activated.contains("generation  1, "), "{activated}");
    let status = json(&served, &["status", "--index", "default"]);
    assert_eq!(status["indexes"][0]["generation"], "1");
    let mut unknown = shortlist();
    unknown.args(["activate", "9", "--addr", &served.address.to_string()]);
    let error = String::from_utf8(unknown.output().unwrap().stderr).unwrap();
    assert!(error.starts_with("error: NOT_FOUND: "), "{error}");
}

#[test]
fn health_is_told_by_the_exit_code() {
    let index = TestIndex::new(25);
    let mut served = Served::start(serve(&index));
    let address = served.address.to_string();
    let health = |service: &[&str]| {
        let mut command = shortlist();
        let Output { status, stdout, stderr } =
            command.args(["health", "--addr", &address]).args(service).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        (status.code().unwrap(), stdout, stderr)
    };
    for service in ["", "default", "shortlist.v1.Retrieval", "shortlist.v1.Catalog", "shortlist.v1.Admin"] {
        assert_eq!(health(&["--service", service]), (0, "serving\n".to_owned(), String::new()), "{service}");
    }
    let (code, _, error) = health(&["--service", "other"]);
    assert!(code == 1 && error.contains("--service other") && error.contains("NOT_FOUND"), "{error}");

    // The only generation is lost while it is served: no index answers, and the process is alive.
    let generation = std::fs::OpenOptions::new().write(true).open(index.generation_path(1)).unwrap();
    generation.set_len(100).unwrap();
    while health(&[]).0 == 0 {}
    let (code, said, error) = health(&[]);
    assert_eq!((code, said.as_str()), (1, "not serving\n"));
    assert!(error.contains("does not serve"), "{error}");
    assert_eq!(health(&["--service", "shortlist.v1.Admin"]).0, 0);

    served.terminate();
    served.process.wait().unwrap();
    let (code, said, error) = health(&[]);
    assert!(code == 1 && said.is_empty() && error.contains("cannot reach"), "{said}{error}");
}

#[test]
fn every_answer_is_json_if_asked() {
    let index = TestIndex::new(25);
    let served = Served::start(serve(&index));
    let video = video_id(3).to_string();
    let found = json(&served, &["query", "--video", &video, "-k", "3"]);
    assert_eq!(found["candidates"].as_array().unwrap().len(), 3);
    assert!(found["candidates"][0]["videoId"].is_string());
    let explained = json(&served, &["query", "--video", &video, "--explain", &video]);
    assert_eq!(explained["removedBy"], "RULE_SEED");
    assert_eq!(json(&served, &["takedown", &video])["written"], 1);
    assert_eq!(json(&served, &["get", &video])["results"][0]["state"], "STATE_TAKEN_DOWN");
    assert_eq!(json(&served, &["restore", &video])["sequence"], "2");
    assert_eq!(json(&served, &["delete", &video])["sequence"], "3");
    assert_eq!(json(&served, &["rebuild", "--cancel"])["state"], "STATE_IDLE");
}

#[test]
fn shells_and_man_know_every_command() {
    let printed = |arguments: &[&str]| {
        let Output { status, stdout, .. } = shortlist().args(arguments).output().unwrap();
        assert!(status.success());
        String::from_utf8(stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let completions = printed(&["completions", shell]);
        assert!(["ground-truth", "target-recall"].iter().all(|word| completions.contains(word)), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    printed(&["man", "--out", out.to_str().unwrap()]);
    let pages = std::fs::read_dir(&out).unwrap().count();
    assert!(pages > 15, "{pages} pages");
    assert!(std::fs::read_to_string(out.join("shortlist-query.1")).unwrap().contains("target"));
}
