//! Checks that imports between modules point one way.

use std::path::{Path, PathBuf};

/// Modules from the top of the stack down; a module imports only modules below it.
const ORDER: [&str; 20] = [
    "cli",
    "config",
    "service",
    "eval",
    "engine",
    "live",
    "recall",
    "search",
    "build",
    "rules",
    "attributes",
    "index",
    "graph",
    "synth",
    "quantize",
    "dataset",
    "node_set",
    "kernel",
    "serialized_bitmap",
    "base",
];
/// Pairs that must not import each other although their order would allow it.
const APART: [(&str, &str); 2] = [("search", "build"), ("build", "search")];

fn rank(module: &str) -> usize {
    let found = ORDER.iter().position(|name| *name == module);
    found.unwrap_or_else(|| panic!("module {module} has no place in the order"))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a source names as `crate::module`. Grouped imports as `crate::{…}` are not found, so they must be
/// written separately.
fn imports(text: &str) -> impl Iterator<Item = String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let names: Vec<String> = code
        .split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .filter(|name: &String| name != "with_rows")
        .collect();
    names.into_iter()
}

#[test]
fn imports_point_down_the_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "only {} sources found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let module = inside.iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        for import in imports(&std::fs::read_to_string(&file).unwrap()) {
            let upwards = rank(&import) < rank(&module);
            if upwards || APART.contains(&(module.as_str(), import.as_str())) {
                wrong.push(format!("{} imports {import}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
