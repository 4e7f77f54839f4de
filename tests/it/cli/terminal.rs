//! Texts that fit a terminal, and its character set.

use std::path::Path;
use std::process::{Command, Stdio};

use unicode_width::UnicodeWidthStr;

use crate::harness::indexes::TestDataset;
use crate::harness::process::{Served, shortlist};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An index with attributes and users, and what `build` printed at 80 columns.
fn built() -> (TestDataset, String) {
    let dataset = TestDataset::new(2000, 8);
    let mut build = shortlist();
    build.args([
        "build",
        "--embeddings",
        text(&dataset.files.videos),
        "--ids",
        text(&dataset.files.video_ids),
    ]);
    build.args(["--attributes", text(&dataset.files.attributes)]);
    build.args(["--training-queries", text(&dataset.files.users_train)]);
    build.arg("--out").arg(dataset.folder.path().join("index")).env("COLUMNS", "80");
    let built = printed(&mut build);
    (dataset, built)
}

#[test]
fn texts_fit_80_columns_and_any_locale() {
    let (dataset, built) = built();
    let index = dataset.folder.path().join("index");
    let mut serve = shortlist();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--index"]).arg(&index);
    let served = Served::start(serve);
    let address = served.address.to_string();
    let users = format!("{}:3", text(&dataset.files.users_test));
    let attributes = "title,creator,topic,published_at";
    let query = [
        "query",
        "--addr",
        &address,
        "--vector",
        &users,
        "--columns",
        attributes,
        "--filter",
        "duration_s > 0",
    ];
    let commands = [
        vec!["inspect", text(&index)],
        vec!["tune", "--index", text(&index), "-k", "10,1000"],
        query.to_vec(),
        vec!["query", "--addr", &address, "--vector", &users],
        vec!["status", "--addr", &address],
        vec!["list", "--addr", &address],
    ];
    let fits = |text: &str| text.lines().filter(|line| !line.contains('/')).all(|line| line.width() <= 80);
    assert!(fits(&built), "{built}");
    for arguments in &commands {
        let run =
            |locale: &str| printed(shortlist().args(arguments).env("COLUMNS", "80").env("LC_ALL", locale));
        let unicode = run("en_US.UTF-8");
        assert!(fits(&unicode), "{arguments:?}: {unicode}");
        let ascii = run("C");
        assert!(ascii.is_ascii(), "{arguments:?}: {ascii}");
        assert!(fits(&ascii), "{arguments:?}: {ascii}");
    }
    let table = printed(shortlist().args(query).env("COLUMNS", "80"));
    let widths: Vec<usize> =
        table.lines().filter(|line| line.starts_with('|')).map(UnicodeWidthStr::width).collect();
    assert!(widths.len() == 12 && widths.iter().all(|width| *width == widths[0]), "{table}");
    // Without a terminal, lines are as long as they are.
    assert!(printed(shortlist().arg("inspect").arg(&index)).lines().any(|line| line.len() > 100));
}

#[test]
fn a_reader_that_stops_is_no_error_in_any_form() {
    let (dataset, _) = built();
    let index = dataset.folder.path().join("index");
    let commands =
        [vec!["inspect", text(&index)], vec!["inspect", text(&index), "--json"], vec!["completions", "bash"]];
    for arguments in commands {
        let mut process = shortlist().args(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        drop(process.stdout.take());
        let output = process.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "{arguments:?}: {error}");
    }
}
