//! `shortlist bench --addr` on real servers.

use std::process::Output;

use serde_json::{Value, json};
use shortlist::dataset::write_npy;
use shortlist::service::{ServiceLimits, ServiceOptions};

use crate::harness::files::Folder;
use crate::harness::indexes::random_rows;
use crate::harness::process::shortlist;
use crate::harness::{DIM, Setup, TestIndex, TestServer};

/// Runs `bench --addr` on another thread, and returns its exit code and what it printed.
async fn load(address: String, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let run = move || {
        let folder = Folder::new();
        let users = folder.path("users.npy");
        write_npy(&users, &[50, DIM], &random_rows(50, DIM, 3)).unwrap();
        let mut command = shortlist();
        command.args(["bench", "--addr", &address, "--queries"]).arg(users).args(arguments);
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_search_is_sent_when_it_is_due_and_counted() {
    let index = TestIndex::new(100);
    let server = TestServer::of(&index).await;
    let folder = Folder::new();
    let csv = folder.path("load.csv");
    let arguments = ["--rate", "100,400", "--seconds", "1", "-k", "5,10", "--arrivals", "fixed"];
    let more = ["--filter", "safe = true", "--json", "-", "--csv", csv.to_str().unwrap()];
    let address = server.address.to_string();
    let (code, stdout, stderr) = load(address.clone(), &[&arguments[..], &more].concat()).await;
    assert_eq!(code, Some(0), "{stderr}");
    let rows = serde_json::from_str::<Value>(&stdout).unwrap()["rows"].as_array().unwrap().clone();
    let loads: Vec<_> = rows.iter().map(|row| [&row["k"], &row["sent"], &row["answered"]]).collect();
    let load_of = |k: u64, sent: u64| [json!(k), json!(sent), json!(sent)];
    let expected = [load_of(5, 100), load_of(5, 400), load_of(10, 100), load_of(10, 400)];
    assert!(
        loads.iter().zip(&expected).all(|(found, expected)| found.iter().zip(expected).all(|(a, b)| *a == b)),
        "{stdout}"
    );
    for row in &rows {
        let ms = |key: &str| row[key].as_f64().unwrap();
        assert!(ms("p50_ms") > 0.0 && ms("p50_ms") <= ms("p99_ms") && ms("p99_ms") <= ms("max_ms"), "{row}");
        assert_eq!((&row["refused"], &row["errors"]), (&json!(0), &json!({})));
    }
    let text = std::fs::read_to_string(csv).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert!(lines.len() == 5 && lines.iter().all(|cells| cells.len() == lines[0].len()), "{text}");
    // One search per connection, before.
    let answered = "shortlist_requests_total{index=\"videos\",method=\"Search\",code=\"OK\"}";
    assert_eq!(server.metric(answered).await, Some(1004.0));
    let (code, stdout, _) = load(address.clone(), &["--rate", "50", "--seconds", "0.5"]).await;
    assert!(code == Some(0) && stdout.contains("answered/s"), "{stdout}");

    let (code, stdout, stderr) = load(address.clone(), &["--rate", "50", "--filter", "none = 1"]).await;
    assert!(code == Some(1) && stdout.is_empty() && stderr.contains("INVALID_ARGUMENT"), "{stderr}");
    let (code, _, stderr) = load(address, &["--rate", "0"]).await;
    assert!(code == Some(1) && stderr.contains("--rate: expected 0.001 to 1000000, found 0"), "{stderr}");
    server.stop().await;
}

/// Offers a load to a server that computes nothing. Returns the figures.
async fn load_of_blocked_server(limits: ServiceLimits) -> Value {
    let index = TestIndex::new(100);
    let service = ServiceOptions { limits, ..ServiceOptions::default() };
    let setup = Setup { service, threads: 1, ..Setup::default() };
    let server = TestServer::start(&[("videos", &index)], setup).await;
    let gate = server.close_gate();
    let arguments =
        ["--rate", "100", "--seconds", "1", "--arrivals", "fixed", "--deadline-ms", "100", "--json", "-"];
    let (code, stdout, stderr) = load(server.address.to_string(), &arguments).await;
    assert_eq!(code, Some(0), "{stderr}");
    drop(gate);
    server.stop().await;
    let row = serde_json::from_str::<Value>(&stdout).unwrap()["rows"][0].clone();
    assert_eq!(
        (&row["sent"], &row["answered"], &row["p50_ms"]),
        (&json!(100), &json!(0), &Value::Null),
        "{row}"
    );
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_missed_deadlines_are_counted_and_nothing_is_repeated() {
    let row = load_of_blocked_server(ServiceLimits { max_in_flight: 1, ..ServiceLimits::default() }).await;
    assert!(row["refused"].as_u64() > Some(0) && row["refused_with_delay"] == row["refused"], "{row}");
    let row = load_of_blocked_server(ServiceLimits::default()).await;
    let count = |key: &str| row[key].as_u64().unwrap();
    assert!(count("deadline_exceeded") > 0, "{row}");
    assert_eq!(count("refused") + count("deadline_exceeded"), 100, "{row}");
}
