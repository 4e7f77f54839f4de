//! The contract of a mutation log, independent of its storage.

use super::error::LogError;
use super::mutation::{Entry, Mutation};
use crate::base::file_identity::Displaced;
use crate::base::id::VideoId;
use crate::base::instant::Instant;

/// What the entries of a log amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSize {
    /// How many there are.
    pub entries: u64,
    /// Their encoded bytes. The file is larger: its pages are not full.
    pub entry_bytes: u64,
    /// The bytes of all entries that there were since the log was opened, removed or not.
    pub written_bytes: u64,
}

/// Durable mutations in a total order.
///
/// Sequence numbers start at 1, and each append continues after the last one. Entries may be removed one by one, so what
/// is read has gaps. Several threads may call; changes happen one after the other.
pub trait MutationLog: Send + Sync + std::fmt::Debug {
    /// Appends `mutations` with the next sequence numbers, and returns the last number. They are on disk when this
    /// returns: all of them, or after an error or a crash possibly none.
    ///
    /// # Errors
    /// If they may not be on disk. They must not be acknowledged, and may be in the log when it is opened again.
    fn append(&self, mutations: &[Mutation]) -> Result<u64, LogError>;

    /// Returns the last sequence number that was acknowledged or found at the start; 0 if there was none.
    fn last_sequence(&self) -> u64;

    /// Returns the last sequence number that was trimmed; 0 if none was.
    fn trimmed_to(&self) -> u64;

    /// Reads up to `limit` entries with numbers above `after`, ascending. Skips entries that were trimmed or removed.
    ///
    /// # Errors
    /// If they cannot be read or are damaged.
    fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError>;

    /// Returns the videos that are taken down and not restored, sorted, each with the sequence number of its latest
    /// takedown. Trimming keeps them.
    ///
    /// # Errors
    /// If they cannot be read.
    fn takedowns(&self) -> Result<Vec<(VideoId, u64)>, LogError>;

    /// Removes the entries up to `to` or the last one, and releases disk space if there is much of it.
    ///
    /// # Errors
    /// If some or all of them may still be there.
    fn trim(&self, to: u64) -> Result<(), LogError> {
        self.trim_except(to, &[])
    }

    /// Like [`Self::trim`], but keeps the entries with the numbers `kept`, ascending. A later call removes them unless it
    /// keeps them, too.
    ///
    /// # Errors
    /// As [`Self::trim`].
    fn trim_except(&self, to: u64, kept: &[u64]) -> Result<(), LogError>;

    /// Removes the entries with these numbers, but never the last one, and releases disk space if there is much of it.
    ///
    /// # Errors
    /// As [`Self::trim`].
    fn remove(&self, sequences: &[u64]) -> Result<(), LogError>;

    /// Returns what the entries amount to.
    fn size(&self) -> LogSize;

    /// Returns when the oldest entry was written; `None` if there is none, or it was written by an earlier release.
    ///
    /// # Errors
    /// If it cannot be read.
    fn oldest(&self) -> Result<Option<Instant>, LogError> {
        Ok(None)
    }

    /// Returns the size on disk in bytes.
    ///
    /// # Errors
    /// If the operating system reports an error.
    fn bytes(&self) -> Result<u64, LogError>;

    /// Checks that what is appended can be found again: the path of the log still leads to its file, and no other
    /// process has written to it. Does not wait for an append.
    ///
    /// # Errors
    /// [`Displaced`]; never for a log without a file.
    fn check_in_place(&self) -> Result<(), Displaced> {
        Ok(())
    }

    /// Returns the error of a failed write, after which the log accepts no writes until it is opened again. Does not wait
    /// for an append.
    fn failed(&self) -> Option<String> {
        None
    }
}
