//! Which source file imports which, read from the text of `src/`.
//!
//! Understood are nested groups, `crate`, `super`, `self` and paths in expressions. A name that a `mod.rs` re-exports counts
//! for the file that defines it. Comments and test modules do not count. A re-export is no import of the file that makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// All source files by path below `src/`.
pub struct Sources {
    files: BTreeMap<String, Source>,
    /// The file of each module path: `["engine", "query"]` is in `engine/query/mod.rs`.
    modules: BTreeMap<Vec<String>, String>,
}

struct Source {
    module: Vec<String>,
    /// Paths of `use` items and of expressions, as written.
    paths: Vec<Vec<String>>,
    reexports: Vec<Reexport>,
}

/// A re-exported name and the path of the item.
type Reexport = (String, Vec<String>);

impl Sources {
    /// The sources of this package.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut texts = Vec::new();
        collect(&root, &root, &mut texts);
        let texts: Vec<(&str, &str)> =
            texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        Self::of(&texts)
    }

    /// Sources with these paths and texts.
    pub fn of(texts: &[(&str, &str)]) -> Self {
        let codes: Vec<(&str, String)> = texts.iter().map(|(path, text)| (*path, code_of(text))).collect();
        let tests: BTreeSet<Vec<String>> = codes
            .iter()
            .zip(texts)
            .flat_map(|((path, _), (_, text))| test_modules(&module_path(path), text))
            .collect();
        let mut files = BTreeMap::new();
        for (path, code) in &codes {
            let module = module_path(path);
            if tests.iter().any(|test| module.starts_with(test)) {
                continue;
            }
            let (paths, reexports) = paths_of(code);
            files.insert((*path).to_owned(), Source { module, paths, reexports });
        }
        let modules = files.iter().map(|(path, source)| (source.module.clone(), path.clone())).collect();
        Self { files, modules }
    }

    pub fn files(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// The files that each file imports.
    pub fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let of = |(path, source): (&String, &Source)| {
            let found = source.paths.iter().filter_map(|import| self.resolve(&source.module, import, 0));
            (path.clone(), found.filter(|import| import != path).collect())
        };
        self.files.iter().map(of).collect()
    }

    /// The file that defines what `path` names in `module`; `None` for names of other crates.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<String> {
        let mut at: Vec<String> = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            // A child module named without `self`.
            first => {
                at.push(first.to_owned());
                if !self.modules.contains_key(&at) {
                    return None;
                }
                rest = &rest[1..];
            }
        }
        while let [name, others @ ..] = rest {
            at.push(name.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                break;
            }
            rest = others;
        }
        let file = self.modules.get(&at)?;
        let Some(name) = rest.first().filter(|_| depth < 8) else { return Some(file.clone()) };
        let reexports = &self.files[file].reexports;
        let target = reexports.iter().find(|(exported, _)| exported == name).map(|(_, target)| target);
        match target {
            Some(target) => self.resolve(&at, target, depth + 1),
            None => Some(file.clone()),
        }
    }
}

fn collect(root: &Path, dir: &Path, texts: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            texts.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// `engine/query/mod.rs` is the module `engine::query`; `lib.rs` is the root.
fn module_path(file: &str) -> Vec<String> {
    let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// The text without comments and without what follows the test module at the end of a file.
fn code_of(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Modules in files of their own that only tests have: `#[cfg(test)] mod name;`.
fn test_modules(module: &[String], text: &str) -> Vec<Vec<String>> {
    let after = text.split("#[cfg(test)]\n").skip(1);
    let names = after.filter_map(|rest| {
        let line = rest.lines().next()?.trim();
        let name = line.strip_suffix(';')?.split_whitespace().last()?;
        line.contains("mod ").then(|| name.to_owned())
    });
    names.map(|name| [module, &[name]].concat()).collect()
}

/// The paths of a code, and its re-exports.
fn paths_of(code: &str) -> (Vec<Vec<String>>, Vec<Reexport>) {
    let (mut paths, mut reexports, mut rest_of_code) = (Vec::new(), Vec::new(), String::new());
    let mut rest = code;
    while let Some(at) = next_use(rest) {
        let line_start = rest[..at].rfind('\n').map_or(0, |end| end + 1);
        let is_reexport = rest[line_start..at].contains("pub");
        rest_of_code.push_str(&rest[..line_start]);
        let end = at + rest[at..].find(';').unwrap_or(rest.len() - at);
        let mut expanded = Vec::new();
        expand(&rest[at + "use ".len()..end], &[], &mut expanded);
        if is_reexport {
            reexports.extend(expanded);
        } else {
            paths.extend(expanded.into_iter().map(|(_, path)| path));
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    rest_of_code.push_str(rest);
    for start in ["crate::", "super::"] {
        for (at, _) in rest_of_code.match_indices(start) {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let is_start = !rest_of_code[..at].ends_with(is_word) && !rest_of_code[..at].ends_with('$');
            if is_start {
                let path: String = rest_of_code[at..].chars().take_while(|c| is_word(*c)).collect();
                paths.push(path.trim_end_matches(':').split("::").map(str::to_owned).collect());
            }
        }
    }
    // A macro of the root is no import of it.
    paths.retain(|path| path.get(1).is_none_or(|name| name != "with_rows"));
    (paths, reexports)
}

/// Where the next `use` item of a code begins.
fn next_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(at, _)| at).find(|at| {
        let line = code[..*at].rsplit('\n').next().unwrap_or_default().trim();
        line.is_empty() || line.starts_with("pub") && !line.contains(['=', '{', '"'])
    })
}

/// Adds each name that a use tree brings in, with its whole path.
fn expand(tree: &str, before: &[String], found: &mut Vec<Reexport>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let prefix = tree[..open].trim().trim_end_matches("::");
        let names = prefix.split("::").filter(|name| !name.is_empty()).map(|name| name.trim().to_owned());
        let before: Vec<String> = before.iter().cloned().chain(names).collect();
        let inside = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
        split_group(inside).into_iter().for_each(|part| expand(part, &before, found));
        return;
    }
    if tree.is_empty() {
        return;
    }
    let (path, name) = match tree.split_once(" as ") {
        Some((path, name)) => (path, Some(name.trim().to_owned())),
        None => (tree, None),
    };
    let mut path: Vec<String> =
        before.iter().cloned().chain(path.split("::").map(|name| name.trim().to_owned())).collect();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
        path.pop();
    }
    found.push((name.unwrap_or_else(|| path.last().cloned().unwrap_or_default()), path));
}

/// The parts of a group, separated by commas outside of inner groups.
fn split_group(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts
}
