//! Why credentials cannot be loaded.

use std::path::PathBuf;

/// Why a file with credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct AccessError {
    /// The file.
    pub(super) path: PathBuf,
    /// What was expected and found.
    pub(super) problem: String,
}

impl AccessError {
    pub(super) fn new(path: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self { path: path.into(), problem: problem.to_string() }
    }
}
