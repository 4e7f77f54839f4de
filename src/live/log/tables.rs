//! The tables of a log in a `redb` database.
//!
//! | table | key | value |
//! |---|---|---|
//! | `entries`   | sequence | `record.rs` |
//! | `checked_takedowns` | video id | sequence of the latest takedown, and a checksum |
//! | `meta`      | `version`, `last`, `trimmed`, `entry_bytes`, `entries`, `takedowns`, `takedowns_checksum` | a number |
//!
//! A log of what was received has `stream_created` and `shard` in `meta`, too: see [`Origin`].
//!
//! In a log of version 1, the entries are those above `trimmed` up to `last`. From version 2 on, some of them may be missing,
//! which no replay needs, or earlier ones are still there; `entries` is their number. From version 3 on, takedowns have
//! checksums. An earlier log becomes one of version 3 when it is opened.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use jiff::Timestamp;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    TableHandle, WriteTransaction,
};

use super::error::LogError;
#[cfg(feature = "cluster")]
use super::mutation::Entry;
use super::mutation::Mutation;
use super::record::{encode, written_at};
use super::takedowns::{self, TakedownTotals};
use crate::base::id::{MAX_SEQUENCE, VideoId};
use crate::base::instant::Instant;
#[cfg(feature = "cluster")]
use crate::base::partition::Shard;

/// The version of the tables above, and the first one. Records have their own version.
const VERSION: u64 = 3;
const WITHOUT_GAPS: u64 = 1;

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const VERSION_KEY: &str = "version";
const LAST_KEY: &str = "last";
const TRIMMED_KEY: &str = "trimmed";
/// Total bytes of the records.
const ENTRY_BYTES_KEY: &str = "entry_bytes";
/// Number of entries; read from version 2 on.
const ENTRIES_KEY: &str = "entries";
/// Number of takedowns, and the checksum of all of them; from version 3 on.
const TAKEDOWNS_KEY: &str = "takedowns";
const TAKEDOWNS_CHECKSUM_KEY: &str = "takedowns_checksum";
/// The two parts of an [`Origin`].
#[cfg(feature = "cluster")]
const CREATED_KEY: &str = "stream_created";
#[cfg(feature = "cluster")]
const SHARD_KEY: &str = "shard";

/// What the `meta` table says of the entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) entries: u64,
    pub(super) entry_bytes: u64,
    pub(super) takedowns: TakedownTotals,
}

impl Totals {
    fn add(&mut self, record: &[u8]) {
        self.entries += 1;
        self.entry_bytes += record.len() as u64;
    }

    fn subtract(&mut self, record: &[u8]) {
        self.entries = self.entries.saturating_sub(1);
        self.entry_bytes = self.entry_bytes.saturating_sub(record.len() as u64);
    }

    pub(super) fn store(self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        let values = [
            (VERSION_KEY, VERSION),
            (ENTRIES_KEY, self.entries),
            (ENTRY_BYTES_KEY, self.entry_bytes),
            (TAKEDOWNS_KEY, self.takedowns.count),
            (TAKEDOWNS_CHECKSUM_KEY, self.takedowns.checksum.into()),
        ];
        values.iter().try_for_each(|(key, value)| meta.insert(key, value).map(drop))?;
        Ok(())
    }
}

/// The content of the `meta` table.
pub(super) struct State {
    pub(super) last: u64,
    pub(super) trimmed: u64,
    pub(super) totals: Totals,
}

/// Reads the `meta` table and compares the takedowns with it. Returns `None` if the database has no tables yet.
pub(super) fn read_state(path: &Path, database: &Database) -> Result<Option<State>, LogError> {
    let transaction = database.begin_read().map_err(LogError::redb(path))?;
    let tables = transaction.list_tables().map_err(LogError::redb(path))?;
    let tables: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
    if tables.is_empty() {
        return Ok(None);
    }
    if !tables.iter().any(|table| table == META.name()) {
        let problem = format!("expected a table {:?}, found {tables:?}", META.name());
        return Err(LogError::ForeignFile { path: path.to_owned(), problem });
    }
    let meta = transaction.open_table(META).map_err(|error| match error {
        redb::TableError::Storage(error) => LogError::redb(path)(error),
        other => LogError::ForeignFile { path: path.to_owned(), problem: other.to_string() },
    })?;
    let number = |key: &str| {
        let found = meta.get(key).map_err(LogError::redb(path))?;
        let problem = || format!("expected {key:?} in table {:?}, found none", META.name());
        let missing = || LogError::Damaged { path: path.to_owned(), problem: problem() };
        found.map(|value| value.value()).ok_or_else(missing)
    };
    let version = number(VERSION_KEY)?;
    if !(WITHOUT_GAPS..=VERSION).contains(&version) {
        return Err(LogError::WrongVersion { path: path.to_owned(), expected: VERSION, found: version });
    }
    let (last, trimmed) = (number(LAST_KEY)?, number(TRIMMED_KEY)?);
    if last > MAX_SEQUENCE || trimmed > last {
        let problem = format!(
            "expected {TRIMMED_KEY:?} of at most {LAST_KEY:?}, of at most {MAX_SEQUENCE}, found {trimmed} and {last}"
        );
        return Err(LogError::Damaged { path: path.to_owned(), problem });
    }
    let expected = match version {
        WITHOUT_GAPS => last.saturating_sub(trimmed),
        _ => number(ENTRIES_KEY)?,
    };
    // Entries are checked when they are read. Checking their number and their ends here costs nothing.
    let entries = transaction.open_table(ENTRIES).map_err(LogError::redb(path))?;
    let found = entries.len().map_err(LogError::redb(path))?;
    let mut ends = Vec::new();
    for end in [entries.first(), entries.last()] {
        let end = end.map_err(LogError::redb(path))?;
        ends.extend(end.map(|(sequence, _)| sequence.value()));
    }
    let (first_end, last_end) = (ends.first().copied(), ends.last().copied());
    let has_ends = match version {
        WITHOUT_GAPS => first_end.is_none_or(|first| first == trimmed + 1),
        _ => last_end <= Some(last),
    };
    // The last entry is only ever trimmed, but may not have been saved from a damaged log.
    let has_last = version == VERSION || trimmed == last || last_end == Some(last);
    if found != expected || !has_ends || !has_last {
        let problem = format!(
            "expected {expected} entries, the last at {last}, trimmed to {trimmed}; found {found} entries, the first and \
             last at {ends:?}"
        );
        return Err(LogError::Damaged { path: path.to_owned(), problem });
    }
    let mut totals = Totals {
        entries: found,
        entry_bytes: number(ENTRY_BYTES_KEY)?,
        takedowns: TakedownTotals::default(),
    };
    if version == VERSION {
        totals.takedowns = TakedownTotals::of_meta(number(TAKEDOWNS_KEY)?, number(TAKEDOWNS_CHECKSUM_KEY)?);
        takedowns::check(path, database, totals.takedowns)?;
    } else {
        // The takedowns of an earlier log get checksums.
        let upgraded = transact(database, |transaction| {
            totals.takedowns = takedowns::upgrade(transaction)?;
            totals.store(transaction)
        });
        upgraded.map_err(LogError::redb(path))?;
    }
    Ok(Some(State { last, trimmed, totals }))
}

pub(super) fn initialize(database: &Database, after: u64) -> Result<State, redb::Error> {
    transact(database, |transaction| {
        transaction.open_table(ENTRIES)?;
        takedowns::create(transaction)?;
        let totals = Totals { entries: 0, entry_bytes: 0, takedowns: TakedownTotals::default() };
        totals.store(transaction)?;
        let mut meta = transaction.open_table(META)?;
        for key in [LAST_KEY, TRIMMED_KEY] {
            meta.insert(key, after)?;
        }
        Ok(State { last: after, trimmed: after, totals })
    })
}

/// Where the entries of a log were received.
#[cfg(feature = "cluster")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// When the stream was created, in nanoseconds since 1970.
    pub(super) created: u64,
    /// The shard whose entries were kept.
    pub(super) shard: Shard,
}

#[cfg(feature = "cluster")]
impl Origin {
    /// Stores it.
    pub(super) fn store(self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        meta.insert(CREATED_KEY, self.created)?;
        meta.insert(SHARD_KEY, u64::from(self.shard.index()) << 32 | u64::from(self.shard.of()))?;
        Ok(())
    }

    /// Reads it; `None` if none was stored, or it names no shard.
    pub(super) fn read(database: &Database) -> Result<Option<Self>, redb::Error> {
        let meta = database.begin_read()?.open_table(META)?;
        let number = |key| Ok::<_, redb::Error>(meta.get(key)?.map(|value| value.value()));
        let (Some(created), Some(shard)) = (number(CREATED_KEY)?, number(SHARD_KEY)?) else {
            return Ok(None);
        };
        let shard = Shard::new((shard >> 32) as u32, (shard & u64::from(u32::MAX)) as u32);
        Ok(shard.ok().map(|shard| Self { created, shard }))
    }
}

/// Runs one transaction; it is on disk when this returns. It is rolled back if `change` fails.
pub(super) fn transact<T>(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
) -> Result<T, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    let changed = change(&transaction)?;
    transaction.commit()?;
    Ok(changed)
}

/// Appends `mutations`, the first with the number `first`.
pub(super) fn insert(
    transaction: &WriteTransaction,
    first: u64,
    mutations: &[Mutation],
    totals: &mut Totals,
) -> Result<(), redb::Error> {
    let entries = (first..).zip(mutations);
    let last = (first + mutations.len() as u64).saturating_sub(1).max(first);
    insert_all(transaction, entries, last, totals)
}

/// Appends entries with their numbers. `last` becomes the last number.
#[cfg(feature = "cluster")]
pub(super) fn insert_received(
    transaction: &WriteTransaction,
    entries: &[Entry],
    last: u64,
    totals: &mut Totals,
) -> Result<(), redb::Error> {
    insert_all(transaction, entries.iter().map(|entry| (entry.sequence, &entry.mutation)), last, totals)
}

fn insert_all<'a>(
    transaction: &WriteTransaction,
    mutations: impl Iterator<Item = (u64, &'a Mutation)>,
    last: u64,
    totals: &mut Totals,
) -> Result<(), redb::Error> {
    let mut entries = transaction.open_table(ENTRIES)?;
    let mut takedowns = takedowns::open(transaction)?;
    let now = Timestamp::now().into();
    for (sequence, mutation) in mutations {
        let record = encode(mutation, now);
        totals.add(&record);
        entries.insert(sequence, record.as_slice())?;
        match mutation {
            Mutation::Takedown(video) => takedowns.insert(*video, sequence, &mut totals.takedowns)?,
            Mutation::Restore(video) => takedowns.remove(*video, &mut totals.takedowns)?,
            Mutation::Upsert(_) | Mutation::Delete(_) => {}
        }
    }
    transaction.open_table(META)?.insert(LAST_KEY, last)?;
    Ok(())
}

/// Adds takedowns that no entry has.
pub(super) fn add_takedowns(
    transaction: &WriteTransaction,
    taken_down: &[(VideoId, u64)],
    totals: &mut Totals,
) -> Result<(), redb::Error> {
    let mut takedowns = takedowns::open(transaction)?;
    let add = |(video, sequence): &(VideoId, u64)| takedowns.insert(*video, *sequence, &mut totals.takedowns);
    taken_down.iter().try_for_each(add)
}

/// Fills an empty log with records and takedowns, up to the number `last`.
pub(super) fn restore(
    transaction: &WriteTransaction,
    records: &BTreeMap<u64, Vec<u8>>,
    taken_down: &[(VideoId, u64)],
    last: u64,
    totals: &mut Totals,
) -> Result<(), redb::Error> {
    let mut entries = transaction.open_table(ENTRIES)?;
    for (sequence, record) in records {
        totals.add(record);
        entries.insert(sequence, record.as_slice())?;
    }
    add_takedowns(transaction, taken_down, totals)?;
    transaction.open_table(META)?.insert(LAST_KEY, last)?;
    Ok(())
}

/// Stores that entries up to `to` were trimmed.
pub(super) fn store_trimmed(transaction: &WriteTransaction, to: u64) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(TRIMMED_KEY, to)?;
    Ok(())
}

/// Returns at most `limit` records from the number `from` on, ascending.
pub(super) fn records(
    database: &Database,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let mut records = Vec::new();
    for entry in entries.range(from..)?.take(limit) {
        let (sequence, record) = entry?;
        records.push((sequence.value(), record.value().to_vec()));
    }
    Ok(records)
}

/// When the first entry was written.
pub(super) fn oldest(database: &Database) -> Result<Option<Instant>, redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let first = entries.first()?;
    Ok(first.and_then(|(_, record)| written_at(record.value())))
}

/// Returns the numbers of the first `limit` entries in a range of numbers, ascending.
pub(super) fn sequences(
    database: &Database,
    range: RangeInclusive<u64>,
    limit: usize,
) -> Result<Vec<u64>, redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let mut sequences = Vec::new();
    for entry in entries.range(range)?.take(limit) {
        sequences.push(entry?.0.value());
    }
    Ok(sequences)
}

/// Removes entries one by one, which reuses the pages of the transaction: `retain_in` copies pages for each entry, and a log
/// of 50 MB grew to 470 MB before it was compacted.
pub(super) fn remove(
    transaction: &WriteTransaction,
    sequences: &[u64],
    totals: &mut Totals,
) -> Result<(), redb::Error> {
    let mut entries = transaction.open_table(ENTRIES)?;
    for sequence in sequences {
        if let Some(record) = entries.remove(sequence)? {
            totals.subtract(record.value());
        }
    }
    Ok(())
}
