//! What a mutation log promises, wherever it lies.

use super::error::LogError;
use super::mutation::{Entry, Mutation};
use crate::base::id::VideoId;

/// Mutations in one order, durable.
///
/// Sequence numbers start at 1 and have no gaps. Several threads may call; appends happen one after the other.
pub trait MutationLog: Send + Sync + std::fmt::Debug {
    /// Gives `mutations` the numbers after the last one and returns the last that it gave, or the last there is
    /// if there are none. They are on disk when this returns, all of them or, after an error or a crash, perhaps
    /// none.
    ///
    /// # Errors
    /// If they may not be on disk. They are acknowledged to nobody, and may be there when the log is opened again.
    fn append(&self, mutations: &[Mutation]) -> Result<u64, LogError>;

    /// The last number that was acknowledged or was found at the start; 0 if there never was one.
    fn last_sequence(&self) -> u64;

    /// Entries up to this one are gone; 0 if none are.
    fn trimmed_to(&self) -> u64;

    /// Up to `limit` entries with numbers above `after`, ascending and without gaps; those that are gone are left
    /// out, so that the first may be further on.
    ///
    /// # Errors
    /// If they cannot be read, or are not what was written.
    fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError>;

    /// The videos that are taken down and not restored, each with the number of its latest takedown, by video.
    /// Trimming leaves them.
    ///
    /// # Errors
    /// If they cannot be read.
    fn takedowns(&self) -> Result<Vec<(VideoId, u64)>, LogError>;

    /// Removes entries up to `to`, or up to the last if that is less, and gives back disk where that is worth it.
    ///
    /// # Errors
    /// If it may not have happened, or only for a part of them.
    fn trim(&self, to: u64) -> Result<(), LogError>;

    /// Bytes on disk.
    ///
    /// # Errors
    /// If the operating system does not say.
    fn bytes(&self) -> Result<u64, LogError>;
}
