//! The errors of a mutation log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::file_identity::Displaced;
use crate::base::partition::Shard;

/// The end of a message about a damaged log.
const WHAT_TO_DO: &str = "; put a copy from before the damage in its place, or write a new log from what is intact with `shortlist log salvage`";

/// Why a log cannot be opened, written or read.
///
/// Cloneable, because a failed group commit is reported to all its callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system reported an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// Its error.
        r#source: Arc<io::Error>,
    },
    /// Another process or handle has the log open.
    #[error("{}: in use: another process or handle has this log open", path.display())]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// The file is not a log.
    #[error("{}: not a mutation log of Shortlist: {problem}", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// What was found instead, or is missing.
        problem: String,
    },
    /// The file is a damaged log.
    #[error("{}: the log is damaged: {problem}{WHAT_TO_DO}", path.display())]
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
    #[error("{}: entry {sequence}: {problem}{WHAT_TO_DO}", path.display())]
    BadRecord {
        /// The log.
        path: PathBuf,
        /// The sequence number of the entry.
        sequence: u64,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// An earlier write failed. How much of it is on disk is unknown until the log is opened again.
    #[error("{}: the log accepts no writes until it is opened again, because a write failed: {problem}", path.display())]
    Poisoned {
        /// The log.
        path: PathBuf,
        /// The error of the failed write.
        problem: String,
    },
    /// The file of the log is not the one that was opened, or another process has written to it.
    #[error("the log is not the one that was opened: {0}")]
    Displaced(Arc<Displaced>),
    /// The log was opened without the permission to write.
    #[error("{}: the log was opened for reading only", path.display())]
    ReadOnly {
        /// The log.
        path: PathBuf,
    },
    /// A mutation is too large. Nothing was written.
    #[error("{}: {problem}", path.display())]
    TooLarge {
        /// The log.
        path: PathBuf,
        /// The error of the storage engine.
        problem: String,
    },
    /// The storage engine reported an error.
    #[error("{}: {problem}", path.display())]
    Storage {
        /// The log.
        path: PathBuf,
        /// Its error.
        problem: String,
    },
    /// The next entries of a shared log are not there any more.
    #[error(
        "{log}: expected the entry after {after}, found that entries before {first} were removed; a generation that contains them is needed"
    )]
    Gone {
        /// The log.
        log: String,
        /// The last entry that this process has.
        after: u64,
        /// The first entry that is there.
        first: u64,
    },
    /// A shared log ends before the last entry that this process has: it is another log, or it lost entries.
    #[error(
        "{log}: expected entries up to {after} at least, which this server has, found {last} as the last one: the log was replaced or lost entries"
    )]
    Behind {
        /// The log.
        log: String,
        /// The last entry that this process has.
        after: u64,
        /// The last entry that is there.
        last: u64,
    },
    /// A shared log is another one than the one that entries were received from, under the same name.
    #[error(
        "{log}: expected the log from which the entries up to {after} were received, found another one of the same name: the log was replaced"
    )]
    Replaced {
        /// The log.
        log: String,
        /// The last entry that this process has.
        after: u64,
    },
    /// What was received of a shared log belongs to another shard.
    #[error("{}: expected the entries of shard {expected}, found those of {found}: use another cache folder", path.display())]
    OtherShard {
        /// The file.
        path: PathBuf,
        /// The shard of this process.
        expected: Shard,
        /// The shard of the file.
        found: Shard,
    },
    /// A shared log cannot be reached.
    #[error("{log}: {problem}")]
    Unreachable {
        /// The log.
        log: String,
        /// The problem.
        problem: String,
    },
    /// A write was sent to a shared log, which did not confirm it in time.
    #[error("{log}: the write may be lost: {problem}")]
    Unconfirmed {
        /// The log.
        log: String,
        /// The problem.
        problem: String,
    },
    /// A generation contains entries of a shared log that this process has not received yet.
    #[error(
        "the generation contains the writes up to {position}, of which those after {last} were not received yet"
    )]
    NotReceived {
        /// The last entry that the generation contains.
        position: u64,
        /// The last entry that was received.
        last: u64,
    },
    /// A message of a shared log cannot be read: it is damaged, or was written by another program.
    #[error("{log}: message {sequence}: {problem}")]
    BadMessage {
        /// The log.
        log: String,
        /// The number of the message.
        sequence: u64,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// A shared log refuses a write or a request. Nothing was written.
    #[error("{log}: {problem}")]
    Refused {
        /// The log.
        log: String,
        /// The problem.
        problem: String,
    },
    /// The settings of a shared log are invalid.
    #[error("{problem}")]
    Misconfigured {
        /// The problem, with expected and found.
        problem: String,
    },
    /// Entries of a shared log cannot be searched.
    #[error("entries of the log cannot be searched: {problem}")]
    Unsearchable {
        /// The problem.
        problem: String,
    },
    /// The writer thread ended because the log or the callback for its entries panicked.
    #[error("the writer of the mutation log stopped")]
    Stopped,
}

impl LogError {
    /// Returns whether what a shared log reports may end by itself.
    pub(crate) fn may_end(&self) -> bool {
        matches!(
            self,
            LogError::Io { .. }
                | LogError::InUse { .. }
                | LogError::Unreachable { .. }
                | LogError::Unconfirmed { .. }
                // A server that has just become the leader may lag behind, and an operator may restore the log.
                | LogError::Behind { .. }
                | LogError::Replaced { .. }
                | LogError::NotReceived { .. }
        )
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| LogError::Io { path, source: Arc::new(source) }
    }

    pub(crate) fn redb<E: Into<redb::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| match error.into() {
            redb::Error::Io(source) => LogError::Io { path, source: Arc::new(source) },
            redb::Error::DatabaseAlreadyOpen => LogError::InUse { path },
            other @ redb::Error::ValueTooLarge(_) => LogError::TooLarge { path, problem: other.to_string() },
            redb::Error::Corrupted(problem) => LogError::Damaged { path, problem },
            other => LogError::Storage { path, problem: other.to_string() },
        }
    }
}
