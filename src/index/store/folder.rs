//! The folder of an index: names and numbers of its files.
//!
//! Every file is created once and never changed. Its number is in its name, and the next file of the same kind takes
//! the next number that is free.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::error::StoreError;
use crate::base::local_path::check_local;
use crate::index::generation::Index;

/// How many numbers are tried if other processes keep taking the next one.
pub(super) const PUBLISH_ATTEMPTS: usize = 1000;

/// A file with a larger number was not written by this program. There must be room for higher numbers.
const LARGEST_NUMBER: u64 = u64::MAX >> 1;

/// The names of generation files, before and after the number.
pub const GENERATION_NAME: (&str, &str) = ("generation-", ".index");
/// The names of manifests, before and after the number.
pub const MANIFEST_NAME: (&str, &str) = ("manifest-", ".json");

/// Returns the name of a generation file.
pub fn generation_name(generation: u64) -> String {
    let (prefix, suffix) = GENERATION_NAME;
    format!("{prefix}{generation:08}{suffix}")
}

/// Returns the name of a manifest.
pub fn manifest_name(manifest: u64) -> String {
    let (prefix, suffix) = MANIFEST_NAME;
    format!("{prefix}{manifest:08}{suffix}")
}

/// Returns the number in a file name of `prefix`, digits, `suffix`.
pub fn number_in(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse::<u64>().ok().filter(|number| *number <= LARGEST_NUMBER)
}

/// The folder of one index: its generations, manifests and reports.
#[derive(Clone, Debug)]
pub struct IndexStore {
    dir: PathBuf,
}

impl IndexStore {
    /// The store in `dir`, which does not need to exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Creates the folder unless it exists.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(&self) -> Result<(), StoreError> {
        let created = check_local(&self.dir).and_then(|()| fs::create_dir_all(&self.dir));
        let created = created.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::new(error.kind(), "expected a folder, found a file"),
            _ => error,
        });
        created.map_err(StoreError::io(&self.dir))
    }

    /// The path of the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a generation file.
    pub fn generation_path(&self, generation: u64) -> PathBuf {
        self.dir.join(generation_name(generation))
    }

    /// Returns the numbers of the generations on disk, ascending.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn generations(&self) -> Result<Vec<u64>, StoreError> {
        self.numbered(GENERATION_NAME.0, GENERATION_NAME.1)
    }

    /// Opens a generation, current or not.
    ///
    /// # Errors
    /// If there is no such generation, or it does not open.
    pub fn open_generation(&self, generation: u64) -> Result<Index, StoreError> {
        let available = self.generations()?;
        if !available.contains(&generation) {
            return Err(StoreError::UnknownGeneration { dir: self.dir.clone(), generation, available });
        }
        Ok(Index::open(&self.generation_path(generation))?)
    }

    /// Returns the numbers of all files named `prefix`, digits, `suffix`, ascending; none if the folder does not exist.
    pub(super) fn numbered(&self, prefix: &str, suffix: &str) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        check_local(&self.dir).map_err(StoreError::io(&self.dir))?;
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(numbers),
            Err(error) => return Err(StoreError::Io { path: self.dir.clone(), source: error }),
        };
        for entry in entries {
            let name = entry.map_err(StoreError::io(&self.dir))?.file_name();
            numbers.extend(name.to_str().and_then(|name| number_in(name, prefix, suffix)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The error after [`PUBLISH_ATTEMPTS`] numbers were taken by other processes.
    pub(super) fn too_contended(&self) -> StoreError {
        StoreError::Io {
            path: self.dir.clone(),
            source: std::io::Error::other(format!("no free number after {PUBLISH_ATTEMPTS} attempts")),
        }
    }
}
