//! Imports point one way: from the top of the stack down, and in no circle between files.

mod imports;

use std::collections::{BTreeMap, BTreeSet};

use self::imports::Sources;

/// The modules from the top of the stack down. A module imports only from those below it.
const ORDER: [&str; 25] = [
    "fuzzing",
    "cli",
    "config",
    "router",
    "service",
    "eval",
    "embedded",
    "engine",
    "bucket",
    "live",
    "nats",
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
/// These use the same modules and know nothing of each other.
const APART: [(&str, &str); 2] = [("search", "build"), ("build", "search")];

fn rank(module: &str) -> usize {
    let found = ORDER.iter().position(|name| *name == module);
    found.unwrap_or_else(|| panic!("module {module} has no place in the order"))
}

fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn imports_point_down_the_order() {
    let sources = Sources::read();
    assert!(sources.files().count() > 150, "only {} sources found", sources.files().count());
    let mut wrong = Vec::new();
    for (file, imports) in &sources.imports() {
        let module = module_of(file);
        if ["lib", "main"].contains(&module) {
            continue;
        }
        for import in imports {
            let imported = module_of(import);
            let is_root = imported == "lib";
            if is_root || rank(imported) < rank(module) || APART.contains(&(module, imported)) {
                wrong.push(format!("{file} imports {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles(&Sources::read().imports());
    assert!(circles.is_empty(), "files that import each other in a circle: {circles:#?}");
}

#[test]
fn circles_are_found_through_groups_parents_and_reexports() {
    let sources = Sources::of(&[
        (
            "a/mod.rs",
            "mod one;\nmod two;\npub use one::{One, helper as help};\npub use two::*;\npub struct Own;",
        ),
        ("a/one.rs", "use super::two::{self, Two};\n#[cfg(test)]\nmod tests {\n use crate::b::B;\n}"),
        ("a/two.rs", "use crate::{a::{One}, b};\nfn f(_: super::Own) {}"),
        ("b.rs", "// use crate::a::One;\npub struct B;"),
    ]);
    let imports = sources.imports();
    let of = |file: &str| imports[file].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("a/one.rs"), ["a/two.rs"]);
    assert_eq!(of("a/two.rs"), ["a/mod.rs", "a/one.rs", "b.rs"]);
    assert_eq!(of("a/mod.rs"), [] as [&str; 0]);
    assert_eq!(circles(&imports), [["a/one.rs", "a/two.rs"]]);
}

/// The strongly connected components of more than one file: files that can reach each other.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|file| (file, reached(file, imports))).collect();
    let mut circles = BTreeSet::new();
    for file in imports.keys() {
        let circle: Vec<String> = reach[file]
            .iter()
            .filter(|other| reach.get(**other).is_some_and(|back| back.contains(file)))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// All files that `file` imports, directly or not.
fn reached<'a>(file: &'a String, imports: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut next = vec![file];
    while let Some(file) = next.pop() {
        next.extend(imports.get(file).into_iter().flatten().filter(|import| found.insert(*import)));
    }
    found
}
