//! What can be wrong with a mutation log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a log cannot be opened, or does not take or give back mutations.
///
/// Many callers may have to hear of one failure, so it can be cloned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// What it said.
        r#source: Arc<io::Error>,
    },
    /// Somebody else has the log open.
    #[error("{}: in use: another process or handle has this log open", path.display())]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// Not a log at all.
    #[error("{}: not a mutation log of Shortlist: {problem}", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// What it is instead, or what is missing.
        problem: String,
    },
    /// It was a log once.
    #[error("{}: the log is damaged: {problem}", path.display())]
    Damaged {
        /// The log.
        path: PathBuf,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// Written by another release of the format.
    #[error("{}: log version {found} is not supported: this release reads version {expected}", path.display())]
    WrongVersion {
        /// The log.
        path: PathBuf,
        /// The version that this release reads.
        expected: u64,
        /// The version in the file.
        found: u64,
    },
    /// One entry cannot be read.
    #[error("{}: entry {sequence}: {problem}", path.display())]
    BadRecord {
        /// The log.
        path: PathBuf,
        /// Of the entry.
        sequence: u64,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// A write failed before, and what of it is on disk is not known until the log is opened again.
    #[error("{}: takes nothing until it is opened again, because a write failed: {problem}", path.display())]
    Poisoned {
        /// The log.
        path: PathBuf,
        /// Of the write that failed.
        problem: String,
    },
    /// The storage engine refused.
    #[error("{}: {problem}", path.display())]
    Storage {
        /// The log.
        path: PathBuf,
        /// What it said.
        problem: String,
    },
    /// The thread that writes is gone, because the log or what applies its entries panicked.
    #[error("the writer of the mutation log stopped")]
    Stopped,
}

impl LogError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| LogError::Io { path, source: Arc::new(source) }
    }

    pub(crate) fn redb<E: Into<redb::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| match error.into() {
            redb::Error::Io(source) => LogError::Io { path, source: Arc::new(source) },
            redb::Error::DatabaseAlreadyOpen => LogError::InUse { path },
            redb::Error::Corrupted(problem) => LogError::Damaged { path, problem },
            other => LogError::Storage { path, problem: other.to_string() },
        }
    }
}
