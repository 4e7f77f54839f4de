//! The flags of a catalog in files: what a build reads, and what it says of it.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::files::Folder;
use crate::harness::process::{Served, shortlist};

/// Two files of one catalog, with a column that no attribute can hold and a number too small for single precision.
fn files(folder: &Folder) -> [PathBuf; 2] {
    let first = r#"{"key": 1, "vec": [3, 4], "views": 3, "likes": 1, "odd": {"a": 1}}
{"key": 2, "vec": [0, 2], "views": 5, "likes": 2, "odd": {"a": 2}}
"#;
    let second = r#"{"key": 3, "vec": [1e-40, 8], "views": 7, "likes": 3}
"#;
    [folder.file("a.jsonl", first), folder.file("b.jsonl", second)]
}

/// Builds `index` from both files. Returns whether that succeeded, and what is on standard error.
fn build(folder: &Folder, index: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = shortlist();
    command.args(["build", "--embeddings"]).args(files(folder));
    command.args(["--id-column", "key", "--embedding-column", "vec", "--out"]).arg(index).args(arguments);
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.success(), String::from_utf8(stderr).unwrap())
}

/// The videos 1 and 3 of a build, as a server returns them.
fn videos(arguments: &[&str]) -> [Value; 2] {
    let folder = Folder::new();
    let index = folder.path("index");
    let (succeeded, said) = build(&folder, &index, arguments);
    assert!(succeeded, "{said}");
    let small = "embeddings: numbers closer to 0 than 1.2e-38, of which single precision keeps few digits or none: 1\n";
    assert!(said.contains(small), "{said}");
    let mut serve = shortlist();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--index"]).arg(&index);
    let served = Served::start(serve);
    let mut get = shortlist();
    get.args(["get", "1", "3", "--vectors", "--json", "--addr", &served.address.to_string()]);
    let found: Value = serde_json::from_slice(&get.output().unwrap().stdout).unwrap();
    [0, 1].map(|at| found["results"][at]["video"].clone())
}

#[test]
fn columns_are_left_out_and_embeddings_scaled_where_flags_say_so() {
    let folder = Folder::new();
    let (succeeded, said) = build(&folder, &folder.path("index"), &[]);
    assert!(
        !succeeded && said.contains("column \"odd\": type an object in line 1 is not supported"),
        "{said}"
    );
    assert!(said.ends_with("; --skip-columns odd leaves it out\n"), "{said}");
    assert!(!folder.path("index").exists());

    let video = |id: &str, attributes: Value, vector: [f64; 2]| json!({"videoId": id, "attributes": attributes, "vector": {"values": vector}});
    let views = |number: &str| json!({"views": {"int64": number}});
    let likes = |number: &str| json!({"likes": {"int64": number}});
    let both = |views: &str, likes: &str| json!({"views": {"int64": views}, "likes": {"int64": likes}});
    let [first, last] = [[3.0, 4.0], [1e-40, 8.0]];
    assert_eq!(
        videos(&["--skip-columns", "odd,likes"]),
        [video("1", views("3"), first), video("3", views("7"), last)]
    );
    assert_eq!(
        videos(&["--attribute-columns", "likes"]),
        [video("1", likes("1"), first), video("3", likes("3"), last)]
    );
    let [first, last] = [[0.6, 0.8], [1.25e-41, 1.0]];
    assert_eq!(
        videos(&["--skip-columns", "odd", "--normalize"]),
        [video("1", both("3", "1"), first), video("3", both("7", "3"), last)]
    );
}
