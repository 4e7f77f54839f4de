//! Why an index folder has no generation to serve, or cannot take a new one.

use std::io;
use std::path::{Path, PathBuf};

use super::refusal::RefusalReason;
use crate::index::generation::IndexError;

/// Why an index folder has no generation to serve, or cannot take a new one.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system reported an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        r#source: io::Error,
    },
    /// The folder contains no manifest.
    #[error("{}: no index here: the folder contains no manifest", dir.display())]
    Empty {
        /// The folder.
        dir: PathBuf,
    },
    /// A manifest cannot be read or is damaged.
    #[error("{}: {problem}", path.display())]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// The problem, with expected and found.
        problem: String,
    },
    /// A calibration cannot be read, is damaged, or belongs to another generation.
    #[error("{}: {problem}", path.display())]
    BadCalibration {
        /// The calibration.
        path: PathBuf,
        /// The problem, with expected and found.
        problem: String,
    },
    /// A report of the quality gate cannot be read, is damaged, or belongs to another generation.
    #[error("{}: {problem}", path.display())]
    BadGateReport {
        /// The report.
        path: PathBuf,
        /// The problem, with expected and found.
        problem: String,
    },
    /// No manifest in the folder names a generation that opens.
    #[error("{}: no manifest leads to a usable generation; the newest failed with: {newest}", dir.display())]
    NothingUsable {
        /// The folder.
        dir: PathBuf,
        /// The error of the newest manifest or its generation.
        newest: Box<StoreError>,
        /// The errors of the older ones, newest first.
        older: Vec<StoreError>,
    },
    /// The requested generation is not in the folder.
    #[error("{}: no generation {generation}; available: {available:?}", dir.display())]
    UnknownGeneration {
        /// The folder.
        dir: PathBuf,
        /// The requested generation.
        generation: u64,
        /// The generations in the folder.
        available: Vec<u64>,
    },
    /// The generation is sound, but must not be served.
    #[error("{}: cannot be served: {problem}", path.display())]
    NotServable {
        /// The file.
        path: PathBuf,
        /// Why, with expected and found.
        problem: String,
        /// Why, in a word each; at least one.
        reasons: Vec<RefusalReason>,
    },
    /// The generation cannot be opened.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl StoreError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    }

    /// Returns whether the operating system reported the error, or one of several: its cause may end without a change of
    /// the files.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Index(IndexError::Io { .. }) => true,
            Self::NothingUsable { newest, older, .. } => {
                newest.is_transient() || older.iter().any(Self::is_transient)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_operating_system_may_end_whichever_file_they_are_about() {
        let path = || PathBuf::from("file");
        let io = || io::Error::from(io::ErrorKind::PermissionDenied);
        let of_manifest = || StoreError::Io { path: path(), source: io() };
        let of_generation = || StoreError::from(IndexError::Io { path: path(), source: io() });
        let bad = || StoreError::BadManifest { path: path(), problem: "damaged".to_owned() };
        let several = |newest: StoreError, older: Vec<StoreError>| StoreError::NothingUsable {
            dir: path(),
            newest: Box::new(newest),
            older,
        };
        let transient = [
            of_manifest(),
            of_generation(),
            several(of_generation(), vec![bad()]),
            several(bad(), vec![bad(), of_manifest()]),
        ];
        assert!(transient.iter().all(StoreError::is_transient));
        let lasting = [bad(), several(bad(), vec![bad()]), StoreError::Empty { dir: path() }];
        assert!(!lasting.iter().any(StoreError::is_transient));
    }
}
