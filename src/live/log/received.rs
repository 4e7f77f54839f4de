//! A local log as the file for what was received of a shared one: its entries come with their numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::{fs, io};

use super::error::LogError;
use super::mutation::Entry;
use super::redb_log::RedbLog;
use super::tables::{self, Origin};
use crate::base::id::VideoId;
use crate::base::staged_file::sync_folder;

impl RedbLog {
    /// Creates a log without entries in place of the one at `path`, if there is one. Its first entry follows `after` and comes
    /// from `origin`, and these videos are taken down.
    ///
    /// # Errors
    /// If it cannot be written; then the one at `path` is as it was.
    pub(super) fn replace_received(
        path: &Path,
        takedowns: &[(VideoId, u64)],
        after: u64,
        origin: Origin,
    ) -> Result<(), LogError> {
        let staged = path.with_extension("replacing");
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::io(path)(error)),
            _ => Ok(()),
        };
        remove(&staged)?;
        Self::create_with(&staged, &BTreeMap::new(), takedowns, after, after)?;
        Self::open(&staged)?.set_origin(origin)?;
        fs::rename(&staged, path).map_err(LogError::io(path))?;
        path.parent().map_or(Ok(()), sync_folder).map_err(LogError::io(path))
    }

    /// Returns where the entries were received; `None` in a log of an earlier release.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn origin(&self) -> Result<Option<Origin>, LogError> {
        self.with_database(Origin::read)
    }

    /// Stores where the entries were received.
    ///
    /// # Errors
    /// As [`append`](super::mutation_log::MutationLog::append).
    pub(super) fn set_origin(&self, origin: Origin) -> Result<(), LogError> {
        self.commit(&mut self.writer.lock(), |transaction, _| origin.store(transaction))
    }

    /// Appends entries with their numbers, which are above the last one, and at most `last`, which becomes the last number.
    ///
    /// # Errors
    /// As [`append`](super::mutation_log::MutationLog::append).
    pub(super) fn append_received(&self, entries: &[Entry], last: u64) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.commit(&mut writer, |transaction, totals| {
            tables::insert_received(transaction, entries, last, totals)
        })?;
        self.last.store(last, Ordering::Release);
        Ok(())
    }

    /// Takes videos down without entries.
    ///
    /// # Errors
    /// As [`append`](super::mutation_log::MutationLog::append).
    pub(super) fn add_takedowns(&self, takedowns: &[(VideoId, u64)]) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.commit(&mut writer, |transaction, totals| tables::add_takedowns(transaction, takedowns, totals))
    }
}
