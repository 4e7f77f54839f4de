//! Why a file of credentials or settings cannot be used.

use std::path::PathBuf;

/// Why a file of credentials or settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    /// The file.
    pub(crate) path: PathBuf,
    /// What was expected and found.
    pub(crate) problem: String,
}

impl FileError {
    pub(crate) fn new(path: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self { path: path.into(), problem: problem.to_string() }
    }
}
