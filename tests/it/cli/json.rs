//! Results as JSON: one object with the keys that `docs/reference/scripts.md` describes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use shortlist::synth::{SynthParams, synth};

use crate::harness::process::{Served, shortlist};

/// Objects that are documented once, whatever object they are in, and the section that does so.
const SHARED: [(&str, &str); 2] = [("calibration", "calibration"), ("contents", "log inspect")];

/// Runs a command that succeeds or, for refused videos, exits with `code`, and returns what it prints.
fn json_with(code: i32, arguments: &[&str]) -> Value {
    parsed(code, &[arguments, &["--json"]].concat())
}

/// The JSON that a command prints.
fn parsed(code: i32, arguments: &[&str]) -> Value {
    let mut command = shortlist();
    // Data is UTF-8 in any locale.
    let Output { status, stdout, stderr } =
        command.args(arguments).env("LC_ALL", "C").env("COLUMNS", "40").output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{arguments:?}: {stderr}");
    let text = String::from_utf8(stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    json_with(0, arguments)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The keys of objects.
#[derive(Default)]
struct Keys {
    printed: BTreeSet<String>,
    /// Lists without an element: of anything.
    empty: BTreeSet<String>,
    shared: Vec<(&'static str, Value)>,
}

impl Keys {
    fn of(objects: &[Value]) -> Self {
        let mut keys = Self::default();
        objects.iter().for_each(|object| keys.add("", object));
        keys
    }

    fn add(&mut self, path: &str, value: &Value) {
        match value {
            // Of names that are not known beforehand.
            Value::Object(fields) if fields.is_empty() => _ = self.printed.insert(path.to_owned()),
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match SHARED.into_iter().find(|(shared, _)| shared == name && value.is_object()) {
                        Some((_, section)) => {
                            self.shared.push((section, value.clone()));
                            self.printed.insert(path);
                        }
                        None => self.add(&path, value),
                    }
                }
            }
            Value::Array(values) if values.is_empty() => _ = self.empty.insert(path.to_owned()),
            Value::Array(values) if values[0].is_object() => {
                values.iter().for_each(|value| self.add(&format!("{path}[]"), value));
            }
            _ => _ = self.printed.insert(path.to_owned()),
        }
    }
}

/// The keys that the page describes, by command.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/scripts.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut sections = BTreeMap::new();
    for section in page.split("\n### ").skip(1) {
        let (name, rest) = section.split_once('\n').unwrap();
        let rows = rest.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        sections.insert(name.to_owned(), rows.map(|(key, _)| key.to_owned()).collect());
    }
    sections
}

#[test]
fn the_page_describes_the_keys_that_commands_print() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let params = SynthParams { videos: 2000, dim: 8, users: 1500, seed: 5, duplicates: 0 };
    let files = synth(params, &path("catalog"), |_| {}).unwrap();
    let (catalog, small) = (path("catalog"), path("small"));
    let (plain, taught, truth, saved) =
        (path("plain"), path("taught"), path("truth.npy"), path("saved.redb"));
    let (videos, ids) = (text(&files.videos), text(&files.video_ids));
    let mut results: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut add = |command: &'static str, result: Value| results.entry(command).or_default().push(result);

    add("synth", json(&["synth", "--videos", "50", "--dim", "4", "--users", "20", "--out", text(&small)]));
    let without =
        ["build", "--embeddings", videos, "--metric", "cosine", "--codes", "none", "--out", text(&plain)];
    let built = json(&without);
    assert_eq!(built["ids_from"], "row_numbers");
    let kinds: Vec<_> =
        built["warnings"].as_array().unwrap().iter().map(|warning| &warning["kind"]).collect();
    assert_eq!(kinds[..2], ["ids_are_row_numbers", "no_training_queries"]);
    add("build", built);
    let of_files = ["build", "--embeddings", videos, "--ids", ids, "--attributes", text(&files.attributes)];
    let with_users = ["--training-queries", text(&files.users_train), "--out", text(&taught)];
    let built = json(&[&of_files[..], &with_users].concat());
    assert_eq!((&built["videos"], &built["generation"]), (&2000.into(), &1.into()));
    assert_eq!((&built["ids_from"], &built["warnings"]), (&"file".into(), &Value::Array(Vec::new())));
    assert_eq!(built["size_bytes"], std::fs::metadata(built["path"].as_str().unwrap()).unwrap().len());
    let phases = built["phases"].as_array().unwrap().iter().map(|phase| phase["seconds"].as_f64().unwrap());
    let (phases, all) = (phases.sum::<f64>(), built["build_seconds"].as_f64().unwrap());
    assert!(phases > 0.0 && phases <= all + 0.001, "{phases} of {all}");
    add("build", built);
    let tuned = json(&["tune", "--index", text(&taught), "-k", "5,20"]);
    let k: Vec<_> = tuned["calibration"]["recall"].as_array().unwrap().iter().map(|of| &of["k"]).collect();
    assert_eq!(k, [5, 20]);
    add("tune", tuned);
    let of_users = ["ground-truth", "--embeddings", videos, "--queries", text(&files.users_test), "-k", "3"];
    add("ground-truth", json(&[&of_users[..], &["--out", text(&truth)]].concat()));
    add("inspect", json(&["inspect", text(&plain)]));
    add("verify", json(&["verify", text(&plain)]));

    {
        let mut serve = shortlist();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--index"]).arg(&taught);
        let served = Served::start(serve);
        let address = served.address.to_string();
        // Rows of another dimension are all refused.
        let wrong =
            ["--embeddings", text(&small.join("videos.npy")), "--ids", text(&small.join("video_ids.npy"))]
                .map(str::to_owned);
        let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
        add("upsert", json_with(1, &[&["upsert", "--addr", &address][..], &wrong].concat()));
        let right = ["upsert", "--addr", &address, "--embeddings", videos, "--ids", ids];
        let sent = json(&right);
        assert_eq!((&sent["written"], &sent["last_sequence"]), (&2000.into(), &2000.into()));
        add("upsert", sent);
        let load =
            ["bench", "--addr", &address, "--queries", videos, "--rate", "50", "--seconds", "0.2", "-k", "5"];
        add("health", json(&["health", "--service", "default", "--addr", &address]));
        add("bench --addr", parsed(0, &[&load[..], &["--json", "-"]].concat()));
        let rebuilt = json(&["rebuild", "--follow", "--addr", &address]);
        assert_eq!((&rebuilt["generation"], &rebuilt["vectors"]), (&"2".into(), &"2000".into()));
        assert_eq!(rebuilt["rebuild"]["state"], "STATE_DONE");
        add("verify", json(&["verify", text(&taught)]));
        served.terminate();
    }
    add("verify", json(&["verify", text(&taught)]));
    let inspected = json(&["inspect", text(&taught)]);
    assert_eq!(inspected["generations"], serde_json::json!([1, 2]));
    assert!(
        inspected["gate"]["passed"] == true && inspected["gate"]["queries"].as_u64() > Some(0),
        "{inspected}"
    );
    add("inspect", inspected);
    add("log inspect", json(&["log", "inspect", text(&taught)]));
    add("log salvage", json(&["log", "salvage", text(&taught), "--out", text(&saved)]));
    let backups = path("backups");
    add("backup create", json(&["backup", "create", "--index", text(&taught), "--out", text(&backups)]));
    add("backup list", json(&["backup", "list", "--from", text(&backups)]));
    let key = json(&["key", "--name", "Jörg", "--role", "write"]);
    assert_eq!((&key["name"], &key["roles"]), (&"Jörg".into(), &serde_json::json!(["write"])));
    add("key", key);
    assert!(catalog.is_dir() && saved.is_file());

    let mut documented = documented();
    let shared: Vec<_> = results.values().flat_map(|objects| Keys::of(objects).shared).collect();
    assert!(shared.len() >= 4);
    shared.into_iter().for_each(|(section, object)| results.entry(section).or_default().push(object));
    for (command, objects) in results {
        let described = documented.remove(command).unwrap_or_default();
        compare(command, &Keys::of(&objects), &described);
    }
    assert!(documented.is_empty(), "not printed by any command: {documented:?}");
}

fn compare(command: &str, keys: &Keys, described: &BTreeSet<String>) {
    let missing: Vec<_> = keys.printed.difference(described).collect();
    assert!(missing.is_empty(), "{command}: not documented: {missing:?}");
    let is_of = |key: &String, list: &String| key == list || key.starts_with(&format!("{list}[]"));
    for list in &keys.empty {
        assert!(described.iter().any(|key| is_of(key, list)), "{command}: not documented: {list}");
    }
    let absent: Vec<_> = described
        .difference(&keys.printed)
        .filter(|key| !keys.empty.iter().any(|list| *key == list))
        .collect();
    assert!(absent.is_empty(), "{command}: not printed: {absent:?}");
}
