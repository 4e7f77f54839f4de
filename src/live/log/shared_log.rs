//! The contract of a log that other processes write to, too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::LogError;
use super::mutation::Entry;
use super::mutation_log::MutationLog;

/// What a log received from other processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The entries, ascending. Those of videos that this process does not have are left out.
    pub entries: Vec<Entry>,
    /// The last sequence number that was received, of an entry or of one that was left out.
    pub last: u64,
}

/// A log that other processes write to, too. This process sees an entry, also one of its own, once it has received it: all
/// processes see the same entries in the same order.
///
/// [`MutationLog::append`] returns once the entries are durable for all processes. [`MutationLog::read`] returns what was
/// received.
pub trait SharedLog: MutationLog {
    /// Receives entries with numbers above `after`. Waits for them, up to about `wait`; `None` if none came.
    ///
    /// # Errors
    /// If they cannot be received now, which may end; [`LogError::Gone`] if they are not there any more, and
    /// [`LogError::Behind`] and [`LogError::BadRecord`] if no entry can be received any more.
    fn receive(&self, after: u64, wait: Duration) -> Result<Option<Received>, LogError>;

    /// Returns why this process cannot append, although others may.
    fn read_only(&self) -> Option<String> {
        None
    }
}

/// Opens the shared log of an index.
pub trait OpenSharedLog: Send + Sync + std::fmt::Debug {
    /// Opens the log. `cache`: the file for what is received, which keeps it for the next start. `held`: the last entry that each
    /// generation of the index contains; one of them will be served.
    ///
    /// # Errors
    /// If neither the log nor what was received before can be read, or [`LogError::Gone`] if each generation needs entries
    /// that are not there any more.
    fn open(&self, cache: &Path, held: &[u64]) -> Result<Arc<dyn SharedLog>, LogError>;
}
