//! The table of takedowns. A takedown must never be lost or changed silently, so each has a checksum, and all together have
//! one and a number, which are stored in the same transaction.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::error::LogError;
use crate::base::id::VideoId;

const TAKEDOWNS: TableDefinition<u64, (u64, u32)> = TableDefinition::new("checked_takedowns");
/// Before version 3: without checksums.
const UNCHECKED: TableDefinition<u64, u64> = TableDefinition::new("takedowns");

/// How many takedowns there are, and the exclusive or of their checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TakedownTotals {
    pub(super) count: u64,
    pub(super) checksum: u32,
}

impl TakedownTotals {
    /// Returns the totals with these numbers of the `meta` table.
    pub(super) fn of_meta(count: u64, checksum: u64) -> Self {
        // One that is too large equals none of `u32`, and neither does its lower half, except by chance.
        Self { count, checksum: u32::try_from(checksum).unwrap_or(!(checksum as u32)) }
    }

    fn add(&mut self, checksum: u32) {
        self.count += 1;
        self.checksum ^= checksum;
    }

    fn subtract(&mut self, checksum: u32) {
        self.count = self.count.saturating_sub(1);
        self.checksum ^= checksum;
    }
}

/// Returns the checksum of one takedown.
pub(super) fn checksum(video: VideoId, sequence: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&video.0.to_le_bytes()), &sequence.to_le_bytes())
}

/// The table, open in a transaction.
pub(super) struct Takedowns<'a>(Table<'a, u64, (u64, u32)>);

impl Takedowns<'_> {
    pub(super) fn insert(
        &mut self,
        video: VideoId,
        sequence: u64,
        totals: &mut TakedownTotals,
    ) -> Result<(), redb::Error> {
        let checksum = checksum(video, sequence);
        if let Some(before) = self.0.insert(video.0, (sequence, checksum))? {
            totals.subtract(before.value().1);
        }
        totals.add(checksum);
        Ok(())
    }

    pub(super) fn remove(&mut self, video: VideoId, totals: &mut TakedownTotals) -> Result<(), redb::Error> {
        if let Some(before) = self.0.remove(video.0)? {
            totals.subtract(before.value().1);
        }
        Ok(())
    }
}

pub(super) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    open(transaction).map(drop)
}

pub(super) fn open(transaction: &WriteTransaction) -> Result<Takedowns<'_>, redb::Error> {
    Ok(Takedowns(transaction.open_table(TAKEDOWNS)?))
}

/// Replaces the table of an earlier version.
pub(super) fn upgrade(transaction: &WriteTransaction) -> Result<TakedownTotals, redb::Error> {
    let mut totals = TakedownTotals::default();
    {
        let mut takedowns = open(transaction)?;
        for takedown in transaction.open_table(UNCHECKED)?.iter()? {
            let (video, sequence) = takedown?;
            takedowns.insert(VideoId(video.value()), sequence.value(), &mut totals)?;
        }
    }
    transaction.delete_table(UNCHECKED)?;
    Ok(totals)
}

/// Compares all takedowns with their checksums and their number.
///
/// # Errors
/// [`LogError::Damaged`].
pub(super) fn check(path: &Path, database: &Database, expected: TakedownTotals) -> Result<(), LogError> {
    read(path, database, expected).map(drop)
}

/// Returns all takedowns with their sequence numbers, sorted.
///
/// # Errors
/// As [`check`].
pub(super) fn read(
    path: &Path,
    database: &Database,
    expected: TakedownTotals,
) -> Result<Vec<(VideoId, u64)>, LogError> {
    let damaged = |problem: String| LogError::Damaged { path: path.to_owned(), problem };
    let transaction = database.begin_read().map_err(LogError::redb(path))?;
    let table = transaction.open_table(TAKEDOWNS).map_err(|error| match error {
        TableError::Storage(error) => LogError::redb(path)(error),
        other => damaged(other.to_string()),
    })?;
    let (mut found, mut takedowns) = (TakedownTotals::default(), Vec::new());
    for takedown in table.iter().map_err(LogError::redb(path))? {
        let (video, value) = takedown.map_err(LogError::redb(path))?;
        let (video, (sequence, stored)) = (VideoId(video.value()), value.value());
        let computed = checksum(video, sequence);
        if stored != computed {
            return Err(damaged(format!(
                "takedown of video {}, entry {sequence}: expected crc32c {stored:08x}, found {computed:08x}",
                video.0
            )));
        }
        found.add(computed);
        takedowns.push((video, sequence));
    }
    if found != expected {
        return Err(damaged(format!(
            "expected {} takedowns with checksum {:08x}, found {} with {:08x}",
            expected.count, expected.checksum, found.count, found.checksum
        )));
    }
    Ok(takedowns)
}
