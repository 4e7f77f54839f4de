//! `shortlist upsert` on real servers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use parquet::basic::TimeUnit;
use serde_json::{Value, json};
use shortlist::dataset::write_npy;
use shortlist::service::{ServiceLimits, ServiceOptions};

use crate::harness::files::Folder;
use crate::harness::indexes::random_rows;
use crate::harness::parquet::{
    boolean, double, embeddings, int64, integer, lists, text as words, timestamp, values,
};
use crate::harness::process::{Served, send_signal, serve, shortlist};
use crate::harness::{DIM, Setup, TestIndex, TestServer};

/// Enough batches of one video to be at work for a while.
const MANY: usize = 100_000;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn upsert(address: &str, arguments: &[&str]) -> Command {
    let mut command = shortlist();
    command.args(["upsert", "--addr", address]).args(arguments);
    command
}

/// Returns the exit code and what is on standard output and standard error.
fn run(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn ask(address: &str, arguments: &[&str]) -> Value {
    let mut command = shortlist();
    command.args(arguments).args(["--addr", address, "--json"]);
    let (code, stdout, stderr) = run(command);
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Random embeddings with ids from 1.
fn catalog(folder: &Folder, rows: usize) -> [PathBuf; 2] {
    let [vectors, ids] = ["vectors.npy", "ids.npy"].map(|name| folder.path(name));
    write_npy(&vectors, &[rows, DIM], &random_rows(rows, DIM, 9)).unwrap();
    let numbers: Vec<u64> = (1..=rows as u64).collect();
    write_npy(&ids, &[rows], &numbers).unwrap();
    [vectors, ids]
}

#[test]
fn a_catalog_is_written_with_attributes_of_every_type() {
    let index = TestIndex::new(25);
    let served = Served::start(serve(&index));
    let address = served.address.to_string();
    let folder = Folder::new();
    let rows: Vec<[f32; DIM]> = (0..3).map(|row| std::array::from_fn(|at| (row * 10 + at) as f32)).collect();
    let file = folder.parquet(
        "catalog.parquet",
        &[
            values("video_id", integer(64, false), [Some(7u64), Some(8), Some(u64::MAX)]),
            embeddings(&rows),
            values("title", words(), [Some("cats · 猫"), None, Some("")]),
            lists("tags", words(), [Some(vec![Some("a"), Some("b")]), None, Some(vec![])]),
            values("delta", int64(), [Some(-5i64), None, Some(i64::MIN)]),
            values("views", integer(64, false), [Some(u64::MAX), None, Some(0u64)]),
            values("rating", double(), [Some(0.5f64), None, Some(-1e300)]),
            values("safe", boolean(), [Some(true), None, Some(false)]),
            values("published_at", timestamp(TimeUnit::MICROS, true), [Some(-1i64), None, Some(1_500_000)]),
        ],
    );
    let (code, stdout, stderr) = run(upsert(&address, &["--embeddings", text(&file), "--batch-size", "2"]));
    assert_eq!((code, stdout.as_str()), (Some(0), "3 of 3 videos written · last sequence 3\n"), "{stderr}");
    let largest = u64::MAX.to_string();
    let got = ask(&address, &["get", "7", "8", &largest, "--vectors"]);
    let video = |at: usize| got["results"][at]["video"].clone();
    assert_eq!(
        video(0)["attributes"],
        json!({
            "title": { "keyword": "cats · 猫" },
            "tags": { "keywordList": { "values": ["a", "b"] } },
            "delta": { "int64": "-5" },
            "views": { "uint64": u64::MAX.to_string() },
            "rating": { "double": 0.5 },
            "safe": { "bool": true },
            "published_at": { "timestamp": "1969-12-31T23:59:59.999999Z" },
        })
    );
    assert!(video(1)["attributes"].as_object().is_none_or(|values| values.is_empty()), "{}", video(1));
    assert_eq!(video(2)["attributes"]["delta"], json!({ "int64": i64::MIN.to_string() }));
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(video(at)["vector"]["values"], json!(row), "row {at}");
    }
    let found = ask(&address, &["query", "--video", "7", "-k", "3", "--filter", "title is null"]);
    assert_eq!(found["candidates"][0]["videoId"], "8");
}

#[test]
fn refused_videos_are_reported_and_the_others_written() {
    let folder = Folder::new();
    let (base, index) = (folder.path("base.npy"), folder.path("index"));
    write_npy(&base, &[50, DIM], &random_rows(50, DIM, 3)).unwrap();
    let built = shortlist()
        .args(["build", "--metric", "cosine", "--embeddings", text(&base), "--out", text(&index)])
        .status();
    assert!(built.unwrap().success());
    let mut serve = shortlist();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--index", text(&index)]);
    let served = Served::start(serve);
    let address = served.address.to_string();

    let mut rows = random_rows(20, DIM, 4);
    for zero in [0, 13] {
        rows[zero * DIM..(zero + 1) * DIM].fill(0.0);
    }
    let (vectors, ids) = (folder.path("vectors.npy"), folder.path("ids.txt"));
    write_npy(&vectors, &[20, DIM], &rows).unwrap();
    let lines: String = (0..20).map(|row| format!("{}\n", 100 + row)).collect();
    std::fs::write(&ids, lines).unwrap();
    let of_files = ["--embeddings", text(&vectors), "--ids", text(&ids), "--batch-size", "6"];
    let (code, stdout, stderr) = run(upsert(&address, &of_files));
    assert_eq!(
        (code, stdout.as_str()),
        (Some(1), "18 of 20 videos written · last sequence 18\n"),
        "{stderr}"
    );
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("ids: ")).collect();
    assert!(lines[0].starts_with("row 0, video 100: INVALID_ARGUMENT: vector: "), "{stderr}");
    assert!(lines[1].starts_with("row 13, video 113: INVALID_ARGUMENT: vector: "), "{stderr}");
    assert_eq!(lines[2], "error: 2 of 20 videos were refused");
    let (code, stdout, _) = run(upsert(&address, &[&of_files[..], &["--json"]].concat()));
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &result["written"], &result["unanswered"]), (Some(1), &json!(18), &json!(0)));
    assert_eq!((&result["refused"][1]["row"], &result["refused"][1]["video_id"]), (&json!(13), &json!(113)));
    assert_eq!(result["refused"][1]["code"], "INVALID_ARGUMENT");
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is_written() {
    let index = TestIndex::new(25);
    let served = Served::start(serve(&index));
    let address = served.address.to_string();
    let folder = Folder::new();
    let [vectors, ids] = catalog(&folder, 10);
    let (vectors, ids) = (text(&vectors), text(&ids));
    let refused = |address: &str, arguments: &[&str], expected: &str| {
        let (code, _, stderr) = run(upsert(address, arguments));
        assert!(code == Some(1) && stderr.contains(expected), "{expected} is not in {stderr}");
    };
    refused(&address, &["--embeddings", vectors], "error: no column video_id and no --ids");
    refused(&address, &["--embeddings", "absent.npy"], "absent.npy: No such file");
    let of_files = ["--embeddings", vectors, "--ids", ids];
    refused("127.0.0.1:1", &of_files, "error: cannot reach 127.0.0.1:1; is `shortlist serve` running?");
    refused(
        &address,
        &[&of_files[..], &["--index", "music"]].concat(),
        "error: NOT_FOUND: unknown index \"music\"",
    );
    assert!(ask(&address, &["status"])["indexes"][0]["sequence"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_a_busy_server_refuses_are_sent_again() {
    let index = TestIndex::new(25);
    let limits = ServiceLimits { max_concurrent_writes: 1, ..ServiceLimits::default() };
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    let address = server.address.to_string();
    let written = tokio::task::spawn_blocking(move || {
        let folder = Folder::new();
        let [vectors, ids] = catalog(&folder, 300);
        run(upsert(&address, &["--embeddings", text(&vectors), "--ids", text(&ids), "--batch-size", "1"]))
    });
    let (code, stdout, stderr) = written.await.unwrap();
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), "300 of 300 videos written · last sequence 300\n"),
        "{stderr}"
    );
    let refused =
        "shortlist_requests_total{index=\"videos\",method=\"StreamUpsert\",code=\"RESOURCE_EXHAUSTED\"}";
    assert!(server.metric(refused).await > Some(0.0), "no batch was refused");
    server.stop().await;
}

/// Starts to send [`MANY`] videos, and ends the server or the command by a signal once some are written. Returns the exit
/// code, what the command printed, and the last write of the server after a restart.
fn interrupted(signal: impl FnOnce(&std::process::Child, &Served)) -> (Option<i32>, Value, String, u64) {
    let index = TestIndex::new(25);
    let served = Served::start(serve(&index));
    let address = served.address.to_string();
    let folder = Folder::new();
    let [vectors, ids] = catalog(&folder, MANY);
    let of_files = ["--embeddings", text(&vectors), "--ids", text(&ids), "--batch-size", "1", "--json"];
    let sending = upsert(&address, &of_files).spawn().unwrap();
    let sequence =
        |status: Value| status["indexes"][0]["sequence"].as_str().map_or(0, |text| text.parse().unwrap());
    // Many more than the server reads before it answers.
    while sequence(ask(&address, &["status"])) < 5000 {}
    signal(&sending, &served);
    let Output { status, stdout, stderr } = sending.wait_with_output().unwrap();
    drop(served);
    let served = Served::start(serve(&index));
    let last = sequence(ask(&served.address.to_string(), &["status"]));
    let result = serde_json::from_slice(&stdout).unwrap();
    (status.code(), result, String::from_utf8(stderr).unwrap(), last)
}

fn assert_is_part(result: &Value, last: u64) {
    let count = |key: &str| result[key].as_u64().unwrap();
    assert!(count("written") > 0 && count("unanswered") > 0, "{result}");
    assert_eq!(count("written") + count("unanswered"), MANY as u64);
    // Others may have been written without an answer.
    assert!(count("last_sequence") >= count("written") && last >= count("last_sequence"), "{result}, {last}");
}

#[test]
fn a_server_that_goes_away_leaves_a_count_of_what_it_confirmed() {
    let (code, result, stderr, last) = interrupted(|_, served| served.signal("KILL"));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("error: the server ended the stream: "), "{stderr}");
    assert_is_part(&result, last);
}

#[test]
fn ctrl_c_leaves_a_count_of_what_the_server_confirmed() {
    let (code, result, stderr, last) = interrupted(|sending, _| send_signal(sending, "INT"));
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("ids: ")).collect();
    assert_eq!((code, lines), (Some(130), vec!["error: interrupted"]));
    assert_is_part(&result, last);
}
