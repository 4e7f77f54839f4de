//! Where the commands write, and the paths and addresses that they refuse.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::indexes::TestDataset;
use crate::harness::process::shortlist;

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn succeed(arguments: &[&str]) -> Output {
    let output = run(shortlist().args(arguments));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A catalog with exact neighbors and an index, and the command that measures it.
struct Measurable(TestDataset);

impl Measurable {
    fn new() -> Self {
        let dataset = TestDataset::new(100, 8);
        let [truth, index] = ["truth.npy", "index"].map(|name| dataset.folder.path().join(name));
        let (videos, users) = (text(&dataset.files.videos), text(&dataset.files.users_test));
        let of = ["--embeddings", videos, "--queries", users, "-k", "5"];
        succeed(&[&["ground-truth"], &of[..], &["--out", text(&truth)]].concat());
        succeed(&["build", "--embeddings", videos, "--out", text(&index)]);
        Self(dataset)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.folder.path().join(name)
    }

    fn bench(&self) -> Command {
        let mut command = shortlist();
        command
            .args(["bench", "--k", "5", "--ef-search", "10", "--limit", "5", "--index"])
            .arg(self.path("index"));
        command
            .arg("--queries")
            .arg(&self.0.files.users_test)
            .arg("--ground-truth")
            .arg(self.path("truth.npy"));
        command
    }
}

fn assert_is_report(bytes: &[u8]) {
    let report: Value = serde_json::from_slice(bytes).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(bytes));
    });
    assert_eq!(report["engine"], "shortlist");
}

#[test]
fn a_report_on_standard_output_is_alone_there() {
    let measurable = Measurable::new();
    let link = measurable.path("stdout");
    symlink("/proc/self/fd/1", &link).unwrap();
    for path in [Path::new("-"), &link] {
        let output = run(measurable.bench().arg("--json").arg(path).current_dir(measurable.0.folder.path()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_is_report(&output.stdout);
        assert!(String::from_utf8_lossy(&output.stderr).contains("recall@k"), "the table is shown");
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(!measurable.path("-").exists());

    // Standard output is the file that is named.
    let file = measurable.path("report.json");
    let redirected = fs::File::create(&file).unwrap();
    let status = measurable.bench().arg("--json").arg(&link).stdout(redirected).status().unwrap();
    assert!(status.success());
    assert_is_report(&fs::read(&file).unwrap());

    let both = run(measurable.bench().args(["--json", "-", "--html", "-"]));
    let error = String::from_utf8_lossy(&both.stderr);
    assert!(!both.status.success() && error.contains("at most one"), "{error}");
}

#[test]
fn a_pipe_is_written_to_and_stays() {
    let measurable = Measurable::new();
    let pipe = measurable.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (flag, expected) in [("--json", "{"), ("--html", "<!"), ("--svg", "<svg")] {
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        let output = run(measurable.bench().arg(flag).arg(&pipe));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read = reader.join().unwrap();
        assert!(read.starts_with(expected), "{flag}: {read}");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}

#[test]
fn a_reader_of_a_report_may_stop() {
    let measurable = Measurable::new();
    let mut bench = measurable.bench().args(["--json", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(bench.stdout.take());
    let output = bench.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn links_are_followed_and_devices_stay() {
    let measurable = Measurable::new();
    let (users, link) = (&measurable.0.files.users_test, measurable.path("link"));
    let truth = |out: &Path| {
        let of = ["ground-truth", "--embeddings", text(users), "--queries", text(users), "-k", "3", "--out"];
        succeed(&[&of[..], &[text(out)]].concat())
    };
    symlink("target.npy", &link).unwrap();
    truth(&link);
    truth(&measurable.path("plain.npy"));
    let [written, plain] = ["target.npy", "plain.npy"].map(|name| fs::read(measurable.path(name)).unwrap());
    assert_eq!(written, plain);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

    let null = measurable.path("null");
    symlink("/dev/null", &null).unwrap();
    truth(&null);
    assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
    assert!(fs::metadata(&null).unwrap().file_type().is_char_device());

    let data = measurable.path("data");
    fs::create_dir(&data).unwrap();
    symlink("/dev/null", data.join("attributes.parquet")).unwrap();
    symlink("../videos-elsewhere.npy", data.join("videos.npy")).unwrap();
    succeed(&["synth", "--videos", "50", "--dim", "4", "--users", "20", "--out", text(&data)]);
    for name in ["attributes.parquet", "videos.npy"] {
        assert!(fs::symlink_metadata(data.join(name)).unwrap().is_symlink(), "{name}");
    }
    assert!(fs::metadata(measurable.path("videos-elsewhere.npy")).unwrap().is_file());
}

#[test]
fn an_output_that_is_no_file_is_refused_before_the_work() {
    let measurable = Measurable::new();
    let socket = measurable.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let folder = measurable.path("index");
    for (path, found) in [(&socket, "a socket"), (&folder, "a folder")] {
        for flag in ["--json", "--html", "--svg"] {
            let output = run(measurable.bench().arg(flag).arg(path));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && error.contains(text(path)) && error.contains(found),
                "{error}"
            );
            assert!(!error.contains("queries/s"), "{error}");
        }
    }
    let users = text(&measurable.0.files.users_test);
    let of = ["ground-truth", "--embeddings", users, "--queries", users, "-k", "3", "--out"];
    for (path, expected) in [(text(&folder), "a folder"), ("-", "standard output")] {
        let output = run(shortlist().args(of).arg(path).current_dir(&folder));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{error}");
    }
}

#[test]
fn an_address_is_no_path() {
    let measurable = Measurable::new();
    let dataset = &measurable.0.files;
    let [truth, index] = ["truth.npy", "index"].map(|name| measurable.path(name));
    let [videos, users, index] = [&dataset.videos, &dataset.users_test, &index].map(|path| text(path));
    let build = ["build", "--embeddings", videos, "--out", "x"];
    let with = |arguments: &[&'static str]| [&build[..], arguments].concat();
    let commands = [
        vec!["build", "--embeddings", "s3://bucket/x.parquet", "--out", "x"],
        vec!["build", "--embeddings", "gs://bucket/folder", "--out", "x"],
        with(&["--ids", "file:///ids.npy"]),
        with(&["--attributes", "https://host/x.parquet"]),
        with(&["--training-queries", "s3://bucket/users.npy"]),
        vec!["synth", "--videos", "9", "--dim", "4", "--out", "s3://bucket/x"],
        vec![
            "ground-truth",
            "--embeddings",
            videos,
            "--queries",
            users,
            "-k",
            "1",
            "--out",
            "s3://bucket/x.npy",
        ],
        vec![
            "ground-truth",
            "--embeddings",
            videos,
            "--queries",
            "hdfs://x.npy",
            "-k",
            "1",
            "--out",
            "x.npy",
        ],
        vec![
            "bench",
            "--index",
            index,
            "--queries",
            users,
            "--ground-truth",
            text(&truth),
            "--json",
            "s3://bucket/x",
        ],
        vec!["bench", "--index", index, "--queries", users, "--ground-truth", "s3://bucket/x.npy"],
        vec!["bench", "--index", index, "--queries", users, "--requests", "s3://bucket/x.jsonl"],
        vec!["bench", "--from", "s3://bucket/x.json"],
        vec!["tune", "--index", "s3://bucket/x"],
        vec!["inspect", "s3://bucket/x"],
        vec!["verify", "s3://bucket/x"],
        vec!["query", "--vector", "s3://bucket/users.npy:7"],
        vec!["query", "--video", "5", "--exclude", "s3://bucket/seen.npy"],
    ];
    let folder = tempfile::tempdir().unwrap();
    for arguments in commands {
        let output = run(shortlist().args(&arguments).current_dir(folder.path()));
        let error = String::from_utf8_lossy(&output.stderr);
        let address = arguments.iter().find_map(|argument| {
            let (scheme, _) = argument.split_once("://")?;
            Some(format!("{}://", scheme.trim_start_matches("videos=")))
        });
        let expected = format!(
            "expected the path of a local file or folder, found an address with {}",
            address.unwrap()
        );
        assert!(!output.status.success() && error.contains(&expected), "{arguments:?}: {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was made");
}

#[test]
fn an_unknown_scheme_of_a_location_is_refused_with_those_that_are_known() {
    let measurable = Measurable::new();
    let videos = text(&measurable.0.files.videos);
    for arguments in [
        vec!["build", "--embeddings", videos, "--out", "gs://bucket/x"],
        vec!["serve", "--listen", "127.0.0.1:0", "--index", "videos=gs://bucket/x"],
    ] {
        let output = run(shortlist().args(&arguments));
        let error = String::from_utf8_lossy(&output.stderr);
        let expected = "gs://bucket/x: expected a folder, s3://BUCKET/PREFIX or file:///FOLDER";
        assert!(!output.status.success() && error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn an_address_of_another_scheme_than_http_and_https_is_refused() {
    for scheme in ["grpc", "unix"] {
        let address = format!("{scheme}://127.0.0.1:1");
        let output = run(shortlist().args(["get", "--addr", &address, "5"]));
        let error = String::from_utf8_lossy(&output.stderr);
        let expected = format!("--addr {address}: expected http:// or https://, found {scheme}://");
        assert!(!output.status.success() && error.contains(&expected), "{error}");
    }
    for address in ["127.0.0.1:1", "http://127.0.0.1:1", "HTTP://127.0.0.1:1", "https://127.0.0.1:1"] {
        let output = run(shortlist().args(["get", "--addr", address, "5"]));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(&format!("cannot reach {address}")), "{error}");
    }
}
