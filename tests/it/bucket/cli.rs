//! `build` into buckets, and stores that are refused.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output};

use serde_json::Value;
use shortlist::bucket::{Mirror, TakedownObjects};

use super::places::Place;
use crate::harness::indexes::TestDataset;
use crate::harness::process::shortlist;

fn build(place: &Place, dataset: &TestDataset, scratch: &Path) -> Command {
    let mut command = place.with(shortlist());
    command.arg("build").arg("--embeddings").arg(&dataset.files.videos);
    command.args(["--out", &place.url, "--json", "--scratch"]).arg(scratch);
    command
}

fn result(child: Child) -> Value {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

#[test]
fn two_racing_builds_both_land() {
    for place in Place::all() {
        let (dataset, scratch) = (TestDataset::new(300, 8), tempfile::tempdir().unwrap());
        let builds = [(); 2].map(|()| build(&place, &dataset, scratch.path()).spawn().unwrap());
        let mut results = builds.map(result);
        results.sort_by_key(|result| result["generation"].as_u64());
        for (number, result) in (1..).zip(&results) {
            assert_eq!(result["generation"], number);
            assert_eq!(result["path"], format!("{}/generation-{number:08}.index", place.url));
            assert_eq!(result["videos"], 300);
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "something is left");
        let cache = tempfile::tempdir().unwrap();
        let mut mirror = Mirror::new(place.bucket(), cache.path().to_owned()).unwrap();
        assert_eq!(mirror.bring(&|_, _| true).unwrap().published.unwrap().manifest, 2);
        assert!(TakedownObjects::of(&place.bucket()).all().unwrap().videos.is_empty());
    }
}

fn refused(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let error = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{error}");
    error
}

#[test]
fn a_scratch_folder_is_only_for_a_bucket() {
    let (dataset, folder) = (TestDataset::new(20, 4), tempfile::tempdir().unwrap());
    let mut command = shortlist();
    command.arg("build").arg("--embeddings").arg(&dataset.files.videos).args(["--scratch", "x", "--out"]);
    let error = refused({
        command.arg(folder.path().join("index"));
        command
    });
    assert!(error.contains("--scratch x: expected --out in a bucket, found a folder"), "{error}");
}

#[test]
fn an_index_in_a_bucket_needs_a_cache_and_a_name_for_its_folder() {
    let place = Place::folder();
    let mut command = shortlist();
    command.args(["serve", "--listen", "127.0.0.1:0", "--index", &place.url]);
    assert!(refused(command).contains("set --cache DIR"));
    let cache = tempfile::tempdir().unwrap();
    let mut command = shortlist();
    command.args(["serve", "--listen", "127.0.0.1:0", "--index", &format!("../x={}", place.url)]);
    command.arg("--cache").arg(cache.path());
    assert!(refused(command).contains("expected a name that can be that of a folder"));
    let mut command = shortlist();
    command.args(["serve", "--listen", "127.0.0.1:0", "--index", &place.url, "--cache"]).arg(cache.path());
    let error = refused(command);
    assert!(
        error.contains(&format!("{}: no index here: the bucket contains no manifest", place.url)),
        "{error}"
    );
}

/// A store that ignores `If-None-Match`, as old ones do: every request succeeds.
#[test]
fn a_store_that_lets_two_creators_win_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    let with_store = |mut command: Command| {
        command.env("AWS_ENDPOINT", &endpoint).env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command
    };
    let (dataset, folder) = (TestDataset::new(20, 4), tempfile::tempdir().unwrap());
    let mut build = with_store(shortlist());
    build.arg("build").arg("--embeddings").arg(&dataset.files.videos).args(["--out", "s3://bucket/x"]);
    let mut serve = with_store(shortlist());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--index", "s3://bucket/x", "--cache"]);
    serve.arg(folder.path());
    let mut backup = with_store(shortlist());
    backup.args(["backup", "create", "--index"]).arg(folder.path()).args(["--out", "s3://bucket/x"]);
    for command in [build, serve, backup] {
        let error = refused(command);
        assert!(error.contains("s3://bucket/x: the store lets two creators win"), "{error}");
    }
}

/// Answers one request with success.
fn answer(mut stream: std::net::TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) && line.trim() != "" {
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    let answer = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let _ = stream.write_all(answer.as_bytes());
}

#[test]
fn a_bucket_out_of_reach_has_its_error() {
    let dataset = TestDataset::new(20, 4);
    let mut build = shortlist();
    build.arg("build").arg("--embeddings").arg(&dataset.files.videos).args(["--out", "s3://bucket/x"]);
    build.env("AWS_ENDPOINT", "http://127.0.0.1:9").env("AWS_ACCESS_KEY_ID", "key");
    build.env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_ALLOW_HTTP", "true");
    let error = refused(build);
    assert!(error.starts_with("error: s3://bucket/x/"), "{error}");
}
