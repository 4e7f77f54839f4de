//! A database of redb whose panics are errors.
//!
//! redb trusts the page numbers and lengths in a file. Those that were damaged after the file was opened can make it panic,
//! in a read, in a transaction, or when the file is closed.

use std::path::Path;

use redb::Database;

use super::error::LogError;
use crate::base::panics::caught;

/// An open database. Closing it never panics.
#[derive(Debug)]
pub(super) struct OpenDatabase(Option<Database>);

impl OpenDatabase {
    pub(super) fn new(database: Database) -> Self {
        Self(Some(database))
    }

    /// Runs `work` on the database of the log at `path`.
    ///
    /// # Errors
    /// Those of `work`, and [`LogError::Damaged`] if it panics.
    pub(super) fn with<T>(
        &self,
        path: &Path,
        work: impl FnOnce(&Database) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        guarded(path, || work(self.0.as_ref().expect(IS_OPEN)))
    }

    /// Releases free pages.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub(super) fn compact(&mut self, path: &Path) -> Result<(), LogError> {
        guarded(path, || self.0.as_mut().expect(IS_OPEN).compact().map(drop).map_err(LogError::redb(path)))
    }
}

const IS_OPEN: &str = "the database is open until it is dropped";

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        // What could not be written is repaired at the next open, or found to be damaged.
        let _ = caught(|| drop(self.0.take()));
    }
}

/// Runs `work` on the log at `path`.
///
/// # Errors
/// Those of `work`, and [`LogError::Damaged`] if it panics.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
    caught(work).unwrap_or_else(|panic| Err(LogError::Damaged { path: path.to_owned(), problem: panic.0 }))
}
