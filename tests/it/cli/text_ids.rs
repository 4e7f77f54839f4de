//! Ids that are text on the command line: a build, and every command that names videos.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::files::Folder;
use crate::harness::process::{Served, shortlist};

fn run(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn commands_name_videos_by_text() {
    let folder = Folder::new();
    let record = |id: &str, row: [f32; 2]| format!("{}\n", serde_json::json!({"key": id, "embedding": row}));
    let catalog = [record("dQw4w9WgXcQ", [1.0, 0.0]), record("17", [0.9, 0.1]), record("a=b", [0.0, 1.0])];
    let videos = folder.file("videos.jsonl", catalog.concat());
    let index = folder.path("index");
    let mut build = shortlist();
    build.args(["build", "--embeddings", text(&videos), "--id-column", "key", "--out", text(&index)]);
    let (code, _, stderr) = run(build);
    assert_eq!(code, Some(0), "{stderr}");
    let expected =
        format!("ids: column \"key\" of {}, text; requests take it as text_id\n", videos.display());
    assert!(stderr.contains(&expected), "{stderr}");

    let mut serve = shortlist();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--index", text(&index)]);
    let served = Served::start(serve);
    let address = served.address.to_string();
    let ask = |arguments: &[&str]| {
        let mut command = shortlist();
        command.args(arguments).args(["--addr", &address]);
        let (code, stdout, stderr) = run(command);
        (code, format!("{stdout}{stderr}"))
    };
    let (code, shown) = ask(&["query", "--video", "a=b", "-k", "3"]);
    assert!(code == Some(0) && shown.contains("| dQw4w9WgXcQ |"), "{shown}");
    let (code, shown) =
        ask(&["query", "--seed", "a=b=2", "--seed", "17=-1", "--text-ids", "--explain", "17"]);
    assert!(code == Some(0) && shown.starts_with("video 17 is "), "{shown}");
    let (_, shown) = ask(&["get", "dQw4w9WgXcQ", "nobody"]);
    assert!(
        shown.contains("video dQw4w9WgXcQ\n") && shown.contains("video nobody: not in the index\n"),
        "{shown}"
    );
    let excluded = folder.file("seen.txt", "dQw4w9WgXcQ\n");
    let (_, shown) = ask(&["query", "--video", "a=b", "--exclude", text(&excluded)]);
    // The text is the id, and no column of its own.
    assert!(shown.starts_with("| rank | video id |") && !shown.contains("video_id"), "{shown}");
    assert!(shown.contains(" 17 |") && !shown.contains("dQw4w9WgXcQ"), "{shown}");

    assert_eq!(ask(&["takedown", "dQw4w9WgXcQ"]).0, Some(0));
    assert_eq!(ask(&["delete", "--text-ids", "17"]).0, Some(0));
    let (_, shown) = ask(&["get", "--text-ids", "dQw4w9WgXcQ", "17"]);
    assert_eq!(shown, "video dQw4w9WgXcQ: taken down\nvideo 17: not in the index\n");
    // A number and a text in one request.
    let (code, shown) = ask(&["takedown", "a=b", "17"]);
    assert!(code == Some(1) && shown.contains("expected video_ids or text_ids, found both"), "{shown}");
    assert_eq!(ask(&["restore", "dQw4w9WgXcQ"]).0, Some(0));

    let more = folder.file("more.jsonl", record("new", [0.5, 0.5]) + &record("17", [0.7, 0.7]));
    let (code, shown) = ask(&["upsert", "--embeddings", text(&more), "--id-column", "key"]);
    assert!(code == Some(0) && shown.contains("2 of 2 videos written"), "{shown}");
    let (_, shown) = ask(&["get", "--text-ids", "new", "17"]);
    assert!(shown.contains("video new\n") && shown.contains("video 17\n"), "{shown}");
}
