//! The command line, run as users do.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::files::{Folder, numbers, three_rows, video_ids};
use crate::harness::indexes::TestDataset;

fn shortlist() -> Command {
    Command::new(env!("CARGO_BIN_EXE_shortlist"))
}

fn run(arguments: &[&str]) -> Output {
    shortlist().args(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fail(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_engineer_gets_from_nothing_to_a_recall_curve() {
    let folder = tempfile::tempdir().unwrap();
    let (data, index) = (folder.path().join("data"), folder.path().join("index"));
    let file = |name: &str| data.join(name).to_str().unwrap().to_owned();
    succeed(&[
        "synth",
        "--videos",
        "3000",
        "--dim",
        "16",
        "--users",
        "500",
        "--out",
        text(&data),
        "--seed",
        "3",
    ]);
    let (videos, ids, attributes) = (file("videos.npy"), file("video_ids.npy"), file("attributes.parquet"));
    let (users, truth, json) = (file("users_test.npy"), file("truth.npy"), file("bench.json"));
    let built = succeed(&[
        "build",
        "--embeddings",
        &videos,
        "--ids",
        &ids,
        "--attributes",
        &attributes,
        "--out",
        text(&index),
        "--metric",
        "ip",
        "--m",
        "12",
        "--ef-construction",
        "80",
        "--embedding-model",
        "towers-1",
    ]);
    assert!(built.contains("published generation 1 of 3000 videos"), "{built}");
    succeed(&[
        "ground-truth",
        "--embeddings",
        &videos,
        "--queries",
        &users,
        "--metric",
        "ip",
        "-k",
        "50",
        "--out",
        &truth,
    ]);
    let table = succeed(&[
        "bench",
        "--index",
        text(&index),
        "--queries",
        &users,
        "--ground-truth",
        &truth,
        "--k",
        "10,50",
        "--ef-search",
        "10,50,400",
        "--plan",
        "graph",
        "--threads",
        "2",
        "--memory",
        "resident",
        "--limit",
        "80",
        "--json",
        &json,
    ]);
    assert!(table.contains("recall@k") && table.contains("p99"), "{table}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["engine"], "shortlist");
    assert!(report["build_s"].is_f64() && report["bytes"].as_u64().unwrap() > 3000 * 16 * 4);
    let rows = report["rows"].as_array().unwrap();
    let points: Vec<(u64, u64)> =
        rows.iter().map(|row| (row["k"].as_u64().unwrap(), row["ef_search"].as_u64().unwrap())).collect();
    assert_eq!(points, [(10, 10), (10, 50), (10, 400), (50, 10), (50, 50), (50, 400)]);
    for row in rows {
        for field in ["recall", "qps", "p50_us", "p95_us", "p99_us", "distances", "hops"] {
            assert!(row[field].as_f64().unwrap() > 0.0, "{field}: {row}");
        }
    }
    assert!(rows[2]["recall"].as_f64().unwrap() > 0.95, "{}", rows[2]);
    let inspected = succeed(&["inspect", text(&index)]);
    for expected in ["native, m 12, ef_construction 80", "towers-1", "reachability", "layer0", "published_at"]
    {
        assert!(inspected.contains(expected), "{expected} is not in {inspected}");
    }
    assert!(succeed(&["verify", text(&index)]).contains("is sound"));
}

#[test]
fn synth_gives_the_same_files_for_the_same_seed_only() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, seed: &str| {
        let dir = folder.path().join(name);
        succeed(&[
            "synth",
            "--videos",
            "500",
            "--dim",
            "8",
            "--users",
            "50",
            "--out",
            text(&dir),
            "--seed",
            seed,
        ]);
        [
            "videos.npy",
            "video_ids.npy",
            "attributes.parquet",
            "users_train.npy",
            "users_test.npy",
            "videos_test.npy",
            "requests.jsonl",
            "excluded.npy",
        ]
        .map(|file| std::fs::read(dir.join(file)).unwrap())
    };
    let (one, same, other) = (make("one", "1"), make("same", "1"), make("other", "2"));
    assert_eq!(one, same);
    assert!(one.iter().zip(&other).all(|(one, other)| one != other));
}

#[test]
fn verify_names_what_is_damaged() {
    let dataset = TestDataset::new(200, 8);
    let index = dataset.folder.path().join("index");
    succeed(&["build", "--embeddings", text(&dataset.files.videos), "--out", text(&index)]);
    let generation = index.join("generation-00000001.index");
    let mut bytes = std::fs::read(&generation).unwrap();
    bytes[2000] ^= 1;
    std::fs::write(&generation, bytes).unwrap();
    let error = fail(&["verify", text(&index)]);
    assert!(error.contains("generation-00000001.index: section vectors is damaged"), "{error}");
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let dataset = TestDataset::new(50, 8);
    let folder = dataset.folder.path();
    let (out, videos) = (folder.join("index"), text(&dataset.files.videos));
    let refused = |arguments: &[&str], expected: &str| {
        let error = fail(&[&["build", "--out", text(&out)], arguments].concat());
        assert!(error.contains(expected), "{expected:?} is not in {error}");
        assert!(!out.exists(), "{arguments:?} wrote something");
    };
    let mut bytes = std::fs::read(videos).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let nan = folder.join("nan.npy");
    std::fs::write(&nan, &bytes).unwrap();
    refused(&["--embeddings", text(&nan)], "row 49, column 7");
    let ids = folder.join("ids.txt");
    std::fs::write(&ids, "1\n2\n3\n").unwrap();
    refused(&["--embeddings", videos, "--ids", text(&ids)], "expected 50");
    refused(&["--embeddings", videos, "--m", "1"], "m: expected 2 to 1024, found 1");
    refused(&["--embeddings", videos, "--metric", "hamming"], "expected ip, cosine or l2");
    refused(&["--embeddings", "no-such-file.npy"], "no-such-file.npy");
    let zeros = folder.join("zeros.npy");
    bytes[end - 32..].fill(0);
    std::fs::write(&zeros, &bytes).unwrap();
    refused(&["--embeddings", text(&zeros), "--metric", "cosine"], "row 49");
}

/// Whether an error message repeats a clause between colons.
fn repeats_itself(error: &str) -> bool {
    let parts: Vec<&str> = error.trim_end().split(": ").collect();
    (1..=parts.len() / 2).any(|count| parts.windows(2 * count).any(|both| both[..count] == both[count..]))
}

#[test]
fn an_error_says_what_caused_it_once() {
    assert!(repeats_itself("error: a.npy: No such file: No such file\n"));
    assert!(repeats_itself("error: line 1: k: too large: k: too large\n"));
    assert!(!repeats_itself("error: line 1: k: too large: line 2\n"));

    let dataset = TestDataset::new(100, 8);
    let file = |name: &str| dataset.folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(file(name), bytes).unwrap();
        file(name)
    };
    let (index, absent) = (file("index"), file("absent.npy"));
    let (videos, users) = (text(&dataset.files.videos), text(&dataset.files.users_test));
    succeed(&["build", "--embeddings", videos, "--out", &index]);
    let broken = write("broken.parquet", b"PAR1 no footer\x00\x00\x00\x00PAR1");
    let report = write("report.json", b"{");
    let requests = write("requests.jsonl", b"{\"offset\": 20000}\n");
    let of_index = ["bench", "--index", &index, "--queries", users, "--requests"];
    let refused = |arguments: &[&str], expected: &str| {
        let error = fail(arguments);
        assert!(error.contains(expected), "{expected:?} is not in {error}");
        assert!(!repeats_itself(&error), "{error}");
    };
    refused(&["build", "--embeddings", &absent, "--out", &file("other")], "absent.npy: No such file");
    refused(&["build", "--embeddings", &broken, "--out", &file("other")], "broken.parquet: ");
    let beneath = format!("{videos}/data");
    refused(&["synth", "--videos", "10", "--dim", "4", "--out", &beneath], "data: Not a directory");
    let into_file = ["build", "--embeddings", videos, "--out", videos];
    refused(&into_file, "videos.npy: expected a folder, found a file");
    refused(&["bench", "--from", &absent], "absent.npy: No such file");
    refused(&["bench", "--from", &report], "report.json: expected one object");
    refused(&[&of_index[..], &[&absent]].concat(), "absent.npy: No such file");
    refused(&[&of_index[..], &[&requests]].concat(), "line 1: offset: expected at most 9990 with k = 10");
    refused(&["inspect", videos], "videos.npy: Not a directory");
    std::fs::remove_file(Path::new(&index).join("generation-00000001.index")).unwrap();
    refused(&["verify", &index], "generation-00000001.index: No such file");
}

#[test]
fn figures_of_things_that_do_not_belong_together_are_refused() {
    let (one, other) = (TestDataset::new(100, 8), TestDataset::new(300, 8));
    let folder = one.folder.path();
    let (index, truth) = (folder.join("index"), folder.join("truth.npy"));
    succeed(&["build", "--embeddings", text(&one.files.videos), "--out", text(&index)]);
    let users = text(&one.files.users_test);
    succeed(&[
        "ground-truth",
        "--embeddings",
        text(&other.files.videos),
        "--queries",
        users,
        "-k",
        "20",
        "--out",
        text(&truth),
    ]);
    let bench = ["bench", "--index", text(&index), "--ground-truth", text(&truth), "--queries"];
    let error = fail(&[&bench[..], &[users, "--k", "10"]].concat());
    assert!(error.contains("ground truth: expected rows below 100"), "{error}");
    let error = fail(&[&bench[..], &[users, "--k", "21"]].concat());
    assert!(error.contains("at least k = 21 neighbors per query, found 20"), "{error}");
    let error = fail(&[&bench[..], &[text(&one.files.users_train), "--k", "10"]].concat());
    assert!(error.contains("expected one row for each of 400 queries, found 100"), "{error}");
    let wrong = fail(&[
        "ground-truth",
        "--embeddings",
        users,
        "--queries",
        text(&truth),
        "-k",
        "1",
        "--out",
        "x.npy",
    ]);
    assert!(wrong.contains("truth.npy"), "{wrong}");
}

#[test]
fn ids_that_are_row_numbers_are_mentioned() {
    let folder = Folder::new();
    let build = |columns: &[_], more: &[&str]| {
        let embeddings = folder.parquet("x.parquet", columns);
        let out = folder.path("index");
        let output =
            run(&[&["build", "--embeddings", text(&embeddings), "--out", text(&out)], more].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{error}");
        let inspected = succeed(&["inspect", text(&out)]);
        (
            error.contains("row numbers are the ids"),
            inspected.contains("equal to the row numbers of the input"),
        )
    };
    assert_eq!(build(&[numbers("id", [7, 8, 9]), three_rows()], &[]), (true, true));
    assert_eq!(build(&[video_ids([7, 8, 9]), three_rows()], &[]), (false, false));
    let ids = folder.file("ids.txt", "7\n8\n9\n");
    assert_eq!(build(&[three_rows()], &["--ids", text(&ids)]), (false, false));
}

#[test]
fn ctrl_c_leaves_no_partial_index() {
    let dataset = TestDataset::new(20_000, 32);
    let index = dataset.folder.path().join("index");
    // Too much work to finish: only the signal ends it.
    let mut build = shortlist()
        .args(["build", "--embeddings", text(&dataset.files.videos), "--out", text(&index)])
        .args(["--m", "100", "--ef-construction", "20000"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !index.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &build.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let status = build.wait().unwrap();
    assert_eq!(status.code(), Some(130), "the build was not ended by its own decision");
    assert_eq!(std::fs::read_dir(&index).unwrap().count(), 0, "something is left");
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let dataset = TestDataset::new(50, 8);
    let index = dataset.folder.path().join("index");
    succeed(&["build", "--embeddings", text(&dataset.files.videos), "--out", text(&index)]);
    let mut inspect = shortlist()
        .args(["inspect", text(&index)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(inspect.stdout.take());
    let output = inspect.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_kernel_that_is_not_there_is_refused() {
    let output = shortlist().args(["inspect", "."]).env("SHORTLIST_KERNEL", "mmx").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("mmx") && error.contains("scalar"), "{error}");
}

#[test]
fn every_kernel_answers_alike() {
    let dataset = TestDataset::new(500, 24);
    let folder = dataset.folder.path();
    let truth = |kernel: &str| {
        let out = folder.join(format!("{kernel}.npy"));
        let arguments = ["ground-truth", "--embeddings", text(&dataset.files.videos), "--queries"];
        let status = shortlist()
            .args(arguments)
            .args([text(&dataset.files.users_test), "-k", "5", "--out", text(&out)])
            .env("SHORTLIST_KERNEL", kernel)
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        std::fs::read(out).unwrap()
    };
    let scalar = truth("scalar");
    for kernels in shortlist::kernel::Kernels::available() {
        assert_eq!(truth(kernels.isa().name()), scalar, "{}", kernels.isa());
    }
}
