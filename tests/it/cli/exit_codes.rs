//! Exit codes: 2 for wrong arguments, 130 for Ctrl-C; 0 and 1 are in the tests of each command.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use shortlist::dataset::write_npy;

use crate::harness::files::Folder;
use crate::harness::indexes::random_rows;
use crate::harness::process::{send_signal, shortlist};

const SIGINT: u32 = 2;

#[test]
fn wrong_arguments_are_told_from_errors() {
    let commands = [
        "synth",
        "build",
        "serve",
        "key",
        "query",
        "takedown",
        "restore",
        "delete",
        "get",
        "upsert",
        "health",
        "status",
        "list",
        "activate",
        "rebuild",
        "ground-truth",
        "bench",
        "tune",
        "inspect",
        "verify",
        "log",
        "completions",
        "man",
    ];
    let help = String::from_utf8(shortlist().arg("--help").output().unwrap().stdout).unwrap();
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        for arguments in [&[command, "--no-such-flag"][..], &["no-such-command", command]] {
            let output = shortlist().args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(output.stdout.is_empty() && output.stderr.starts_with(b"error: "), "{arguments:?}");
        }
    }
    let numbers = shortlist().args(["tune", "--index", "x", "-k", "1 2 5"]).output().unwrap();
    let error = String::from_utf8(numbers.stderr).unwrap();
    assert!(numbers.status.code() == Some(2) && error.contains("separated by commas"), "{error}");
}

/// Waits until the process handles Ctrl-C.
fn until_it_handles_ctrl_c(process: &Child) {
    let status = format!("/proc/{}/status", process.id());
    let is_caught = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (SIGINT - 1) != 0
    };
    while !is_caught() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends a command by Ctrl-C once it is at work, and checks the exit code.
fn interrupt(arguments: &[&str], is_at_work: impl Fn() -> bool) {
    let mut process = shortlist().args(arguments).spawn().unwrap();
    until_it_handles_ctrl_c(&process);
    while !is_at_work() {
        std::thread::sleep(Duration::from_millis(1));
    }
    send_signal(&process, "INT");
    let code = process.wait().unwrap().code();
    let mut error = String::new();
    process.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(code, Some(130), "{arguments:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Each has much more work than it can do before the signal.
#[test]
fn ctrl_c_has_an_exit_code_of_its_own() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name);
    let (rows, dim) = (30_000, 64);
    let [vectors, truth, index, out] = ["vectors.npy", "truth.npy", "index", "out.npy"].map(path);
    write_npy(&vectors, &[rows, dim], &random_rows(rows, dim, 1)).unwrap();
    write_npy(&truth, &[rows, 1], &vec![0i32; rows]).unwrap();
    let (vectors, index) = (text(&vectors), text(&index));
    let build = ["build", "--m", "4", "--ef-construction", "8", "--embeddings", vectors, "--out"];
    assert!(shortlist().args(build).arg(index).status().unwrap().success());

    let bench = ["bench", "--index", index, "--queries", vectors, "--ground-truth", text(&truth), "-k", "1"];
    interrupt(&[&bench[..], &["--ef-search", "9000,9001,9002,9003"]].concat(), || true);
    interrupt(&["tune", "--index", index, "--queries", vectors, "-k", "5000"], || true);
    let truth = ["ground-truth", "--embeddings", vectors, "--queries", vectors, "--out"];
    interrupt(&[&truth[..], &[text(&out)]].concat(), || true);
    assert!(!out.exists());

    let catalog = path("catalog");
    let synth = ["synth", "--videos", "1000", "--users", "100000000", "--dim", "64", "--out", text(&catalog)];
    interrupt(&synth, || catalog.join("videos_test.npy").exists());
    let entries = std::fs::read_dir(&catalog).unwrap().map(|entry| entry.unwrap().file_name());
    let staged: Vec<_> = entries.filter(|name| name.to_str().unwrap().starts_with('.')).collect();
    assert!(staged.is_empty(), "{staged:?} is left");
}

#[test]
fn ctrl_c_ends_a_query_that_nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = std::thread::spawn(move || listener.accept().unwrap());
    interrupt(&["query", "--addr", &address, "--video", "7"], || accepted.is_finished());
    interrupt(&["status", "--addr", &address], || true);
}
