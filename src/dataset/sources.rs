//! The files that an argument names: a file, all files of a folder, or those that match a pattern.
//!
//! What flows in: a path or a glob pattern. What flows out: files in an order that depends on their names alone, each with
//! the values that the names of its folders give (`region=US`). Nothing here opens a file.

use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::error::DatasetError;
use crate::base::local_path::check_local;

/// The most files that an argument may name.
const MAX_FILES: usize = 100_000;
/// The most folders inside each other. Links may form a circle.
const MAX_DEPTH: usize = 32;
/// What Hive and Spark write for a partition without a value.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// A file, and the columns that its folders are named for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub path: PathBuf,
    /// Name and value, outermost first.
    pub partitions: Vec<(String, Option<String>)>,
}

/// Returns the files that `path` names. Names that begin with `_` or `.` are not read from a folder: the programs that
/// write data leave their own files there.
///
/// # Errors
/// If there is no such file, a folder cannot be read, or the pattern is malformed.
pub(super) fn sources(path: &Path) -> Result<Vec<Source>, DatasetError> {
    check_local(path).map_err(DatasetError::io(path))?;
    if path.is_dir() {
        return files_below(path, path);
    }
    if path.exists() || !is_pattern(path) {
        return Ok(vec![Source { path: path.to_owned(), partitions: Vec::new() }]);
    }
    let text = path.to_str().ok_or_else(|| not_found(path))?;
    let bad_pattern = |error: glob::PatternError| DatasetError::BadPattern {
        path: path.to_owned(),
        reason: error.msg.to_owned(),
    };
    let mut found = Vec::new();
    for entry in glob::glob(text).map_err(bad_pattern)? {
        let entry = entry.map_err(|error| {
            let path = error.path().to_owned();
            DatasetError::io(&path)(error.into())
        })?;
        found.push(entry);
        check_count(path, found.len())?;
    }
    found.sort();
    let root = fixed_part(path);
    let mut files = Vec::new();
    for entry in found {
        match entry.is_dir() {
            true => files.extend(files_below(&entry, &root)?),
            false => files.push(source(entry, &root)),
        }
        check_count(path, files.len())?;
    }
    if files.is_empty() { Err(not_found(path)) } else { Ok(files) }
}

/// All files in `folder`. Partitions are read from the names of folders below `root`.
fn files_below(folder: &Path, root: &Path) -> Result<Vec<Source>, DatasetError> {
    let mut paths = Vec::new();
    collect(folder, 0, &mut paths)?;
    if paths.is_empty() {
        return Err(not_found(folder));
    }
    // By the names of the folders, one after the other, then by that of the file.
    paths.sort();
    Ok(paths.into_iter().map(|path| source(path, root)).collect())
}

fn collect(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), DatasetError> {
    if depth > MAX_DEPTH {
        let reason = format!("expected at most {MAX_DEPTH} folders inside each other, found more");
        return Err(DatasetError::BadPattern { path: folder.to_owned(), reason });
    }
    for entry in std::fs::read_dir(folder).map_err(DatasetError::io(folder))? {
        let path = entry.map_err(DatasetError::io(folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with(['_', '.']) {
            continue;
        }
        match path.is_dir() {
            true => collect(&path, depth + 1, paths)?,
            false => paths.push(path),
        }
        check_count(folder, paths.len())?;
    }
    Ok(())
}

fn check_count(path: &Path, found: usize) -> Result<(), DatasetError> {
    if found <= MAX_FILES {
        return Ok(());
    }
    let reason = format!("expected at most {MAX_FILES} files, found more");
    Err(DatasetError::BadPattern { path: path.to_owned(), reason })
}

fn not_found(path: &Path) -> DatasetError {
    DatasetError::NoFiles { path: path.to_owned() }
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// The folders of a pattern before the first that has a wildcard.
fn fixed_part(pattern: &Path) -> PathBuf {
    let is_fixed = |component: &Component<'_>| !is_pattern(Path::new(component));
    let folders = pattern.parent().map(Path::components).into_iter().flatten();
    folders.take_while(is_fixed).collect()
}

fn source(path: PathBuf, root: &Path) -> Source {
    let below = path.strip_prefix(root).unwrap_or(&path);
    let folders = below.parent().map(Path::components).into_iter().flatten();
    let partition = |folder: Component<'_>| {
        let folder = folder.as_os_str().to_str()?;
        let (name, value) = folder.split_once('=')?;
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Some((decoded(name), (value != NULL_PARTITION).then(|| decoded(value))))
    };
    let partitions = folders.filter_map(partition).collect();
    Source { path, partitions }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn found(folder: &Path, pattern: &str) -> Vec<String> {
        let sources = sources(&folder.join(pattern)).unwrap_or_else(|error| panic!("{error}"));
        let below = |source: Source| source.path.strip_prefix(folder).unwrap().display().to_string();
        sources.into_iter().map(below).collect()
    }

    #[test]
    fn files_are_in_the_order_of_their_names() {
        let names =
            ["b/part-2", "b/part-10", "a/part-3", "a/_SUCCESS", "a/.part-3.crc", "a/x/part-1", "_tmp/part-9"];
        let folder = folder(&names);
        let all = ["a/part-3", "a/x/part-1", "b/part-10", "b/part-2"];
        assert_eq!(found(folder.path(), ""), all);
        assert_eq!(found(folder.path(), "b/part-*"), ["b/part-10", "b/part-2"]);
        assert_eq!(found(folder.path(), "[ab]"), all);
        assert_eq!(found(folder.path(), "*/part-?"), ["_tmp/part-9", "a/part-3", "b/part-2"]);
        assert_eq!(found(folder.path(), "b/part-2"), ["b/part-2"]);
    }

    #[test]
    fn a_file_of_the_name_of_a_pattern_is_that_file() {
        let folder = folder(&["a[1].npy", "a1.npy"]);
        assert_eq!(found(folder.path(), "a[1].npy"), ["a[1].npy"]);
        assert_eq!(found(folder.path(), "a[12].npy"), ["a1.npy"]);
    }

    #[test]
    fn folders_give_values() {
        let folder = folder(&["t/region=US/day=a%2Fb/x", "t/region=__HIVE_DEFAULT_PARTITION__/x", "t/y"]);
        let partitions = |pattern: &str| {
            let sources = sources(&folder.path().join(pattern)).unwrap();
            sources.into_iter().map(|source| source.partitions).collect::<Vec<_>>()
        };
        let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let us = vec![pair("region", Some("US")), pair("day", Some("a/b"))];
        let null = vec![pair("region", None)];
        assert_eq!(partitions("t"), [us.clone(), null, vec![]]);
        assert_eq!(partitions("t/region=U*"), [us]);
        // The folder that is asked for is no part of the data.
        assert_eq!(partitions("t/region=US"), [vec![pair("day", Some("a/b"))]]);
    }

    #[test]
    fn what_names_no_file_is_refused() {
        let folder = folder(&["a/_SUCCESS"]);
        for pattern in ["a", "b/*", "a/*.parquet"] {
            let error = sources(&folder.path().join(pattern)).unwrap_err();
            assert!(matches!(error, DatasetError::NoFiles { .. }), "{pattern}: {error}");
        }
        let error = sources(&folder.path().join("a/[")).unwrap_err().to_string();
        assert!(error.contains("a/["), "{error}");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
        let error = sources(folder.path()).unwrap_err().to_string();
        assert!(error.contains("at most 32 folders"), "{error}");
    }
}
