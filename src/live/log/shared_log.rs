//! The contract of a log that other processes write to, too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::LogError;
use super::mutation::Entry;
use super::mutation_log::MutationLog;
use crate::base::id::VideoId;

/// What a log received from other processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The entries, ascending. Those of videos that this process does not have are left out.
    pub entries: Vec<Entry>,
    /// The last sequence number that was received, of an entry or of one that was left out.
    pub last: u64,
    /// Videos that are taken down by entries that the log does not have.
    pub taken_down: Vec<VideoId>,
    /// Whether the log had further entries then.
    pub has_more: bool,
}

/// A hash of a block of entries, by which the processes compare what they received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The last entry of the last block that was received as a whole; 0 before the first.
    pub sequence: u64,
    /// The hash of all entries of the block, also of those that were left out.
    pub hash: u64,
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
    /// If they cannot be received now, which may end; [`LogError::Gone`] if they are not there any more; any other error if none
    /// can be received any more.
    fn receive(&self, after: u64, wait: Duration) -> Result<Option<Received>, LogError>;

    /// Returns the hash of the last block of entries, if this log makes one.
    fn digest(&self) -> Option<Digest> {
        None
    }

    /// Returns why this process cannot append, although others may.
    fn read_only(&self) -> Option<String> {
        None
    }
}

/// Opens the shared log of an index.
pub trait OpenSharedLog: Send + Sync + std::fmt::Debug {
    /// Opens the log. `cache`: the file for what is received, which keeps it for the next start. `held`: for each generation of
    /// the index, the last entry before those that it needs; one of them will be served.
    ///
    /// # Errors
    /// If neither the log nor what was received before can be read, or [`LogError::Gone`] if each generation needs entries
    /// that are not there any more.
    fn open(&self, cache: &Path, held: &[u64]) -> Result<Arc<dyn SharedLog>, LogError>;
}
