//! A copy of a log in another file: the same entries, takedowns and numbers, without the free pages.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::LogError;
use super::mutation_log::MutationLog as _;
use super::redb_log::RedbLog;
use super::tables;

/// Entries read at a time.
const ENTRIES_AT_ONCE: usize = 4096;

impl RedbLog {
    /// Writes a copy of this log, to which nobody writes meanwhile, at `path`.
    ///
    /// # Errors
    /// If there is a file at `path`, or one of the two cannot be read or written.
    pub fn copy_to(&self, path: &Path) -> Result<(), LogError> {
        let mut entries: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        loop {
            let from = entries.last_key_value().map_or(0, |(last, _)| *last + 1);
            let some = self.with_database(|database| tables::records(database, from, ENTRIES_AT_ONCE))?;
            if some.is_empty() {
                break;
            }
            entries.extend(some);
        }
        let takedowns = self.takedowns()?;
        Self::create_with(path, &entries, &takedowns, self.last_sequence(), self.trimmed_to())
    }
}
