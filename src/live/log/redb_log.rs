//! A log in one local file, stored by the `redb` engine.
//!
//! | table | key | value |
//! |---|---|---|
//! | `entries`   | sequence | `record.rs` |
//! | `takedowns` | video id | sequence of the latest takedown |
//! | `meta`      | `version`, `last`, `trimmed`, `entry_bytes`, `entries` | a number |
//!
//! In a log of version 1, the entries are those above `trimmed` up to `last`. In a log of version 2, some of them are
//! missing, which no replay needs, or earlier ones are still there; `entries` is their number. A log becomes one of version
//! 2 when that happens first: earlier releases read it until then.
//!
//! One append is one two-phase transaction: its pages are synced before the byte that commits it, so a partial append is
//! never visible. That byte is in the first sector, which disks write atomically.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    TableDefinition, TableHandle, WriteTransaction,
};

use super::error::LogError;
use super::mutation::{Entry, Mutation};
use super::mutation_log::{LogSize, MutationLog};
use super::record::{decode, encode};
use crate::base::file_identity::{Displaced, FileId, FileStamp};
use crate::base::id::VideoId;
use crate::base::panics::caught;
use crate::base::staged_file::StagedFile;

/// The versions of the tables above: without and with gaps between entries. Records have their own version.
const WITHOUT_GAPS: u64 = 1;
const WITH_GAPS: u64 = 2;

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const TAKEDOWNS: TableDefinition<u64, u64> = TableDefinition::new("takedowns");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const VERSION_KEY: &str = "version";
const LAST_KEY: &str = "last";
const TRIMMED_KEY: &str = "trimmed";
/// Total bytes of the records.
const ENTRY_BYTES_KEY: &str = "entry_bytes";
/// Number of entries; read only in a log of version 2.
const ENTRIES_KEY: &str = "entries";

/// Size of the page cache of redb. Small, because the log is read only at the start.
const CACHE_BYTES: usize = 16 << 20;
/// Entries removed per transaction. Appends wait for at most one such transaction.
const REMOVED_AT_ONCE: u64 = 50_000;
/// A file up to this size is never compacted.
const COMPACT_FROM_BYTES: u64 = 8 << 20;
/// The file is compacted once it is this many times larger than its records. Pages are at least half full, so at least
/// half of the file is free then.
const COMPACT_FACTOR: u64 = 4;
/// Block size for rewriting a file that was not closed.
const REWRITE_BYTES: usize = 1 << 20;

/// The first bytes of every redb file.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// Offset of the byte with the flag [`NOT_CLOSED`].
const FLAGS_OFFSET: usize = MAGIC.len();
const NOT_CLOSED: u8 = 2;
/// Length of the header of redb, at the start of the file, which every transaction changes.
const HEAD_BYTES: usize = 320;

/// A mutation log in a file.
#[derive(Debug)]
pub struct RedbLog {
    path: PathBuf,
    source: Source,
    disk: Disk,
    /// Locked exclusively only for compaction.
    database: RwLock<Database>,
    writer: Mutex<Writer>,
    last: AtomicU64,
    trimmed: AtomicU64,
    size: Mutex<LogSize>,
    compact_from_bytes: u64,
}

/// Where the bytes of a log are.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// In a storage backend without a path.
    Backend,
    /// In this file.
    File(FileId),
    /// In memory, as a copy of this file.
    Copy(FileStamp),
}

/// The state of the writer, locked during a write.
#[derive(Debug)]
struct Writer {
    /// The error after which the state of the file is unknown.
    poisoned: Option<String>,
    totals: Totals,
}

/// What the `meta` table says of the entries.
#[derive(Clone, Copy, Debug)]
struct Totals {
    version: u64,
    entries: u64,
    entry_bytes: u64,
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

    fn values(self) -> [(&'static str, u64); 3] {
        [(VERSION_KEY, self.version), (ENTRIES_KEY, self.entries), (ENTRY_BYTES_KEY, self.entry_bytes)]
    }
}

impl RedbLog {
    /// Opens the log at `path`, or creates an empty one. After a crash it contains every acknowledged mutation.
    ///
    /// # Errors
    /// If the file cannot be read or written, is in use, is not a log, or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        Self::open_after(path, 0)
    }

    /// Opens the log at `path`, or creates an empty one whose first mutation gets the number after `sequence`.
    ///
    /// # Errors
    /// As [`RedbLog::open`].
    pub fn open_after(path: impl AsRef<Path>, sequence: u64) -> Result<Self, LogError> {
        let path = path.as_ref();
        loop {
            match OpenOptions::new().read(true).write(true).open(path) {
                Ok(file) => return Self::open_file(path, file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, sequence)?,
                Err(error) => return Err(LogError::io(path)(error)),
            }
        }
    }

    /// Copies the log at `path` into memory, to be read. Every append fails.
    ///
    /// # Errors
    /// If the file cannot be read, is being written, is not a log, or is damaged.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(LogError::io(path))?;
        // Held during the copy. A file system without locks has none to respect.
        if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            return Err(LogError::InUse { path: path.to_owned() });
        }
        let metadata = file.metadata().map_err(LogError::io(path))?;
        check_not_empty(path, metadata.len())?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(LogError::io(path))?;
        let memory = InMemoryBackend::new();
        let copied = memory.set_len(bytes.len() as u64).and_then(|()| memory.write(0, &bytes));
        copied.map_err(LogError::io(path))?;
        Self::on(path, Source::Copy(FileStamp::of(&metadata)), Disk::of(memory), 0)
    }

    /// Opens the log on a storage backend, or creates an empty one if the backend has no bytes.
    ///
    /// # Errors
    /// As [`RedbLog::open`].
    pub fn with_backend(backend: impl StorageBackend) -> Result<Self, LogError> {
        Self::on(Path::new("(a log without a file)"), Source::Backend, Disk::of(backend), 0)
    }

    /// Sets the smallest file size to compact, in bytes.
    pub fn compacting_from(mut self, bytes: u64) -> Self {
        self.compact_from_bytes = bytes;
        self
    }

    fn open_file(path: &Path, file: File) -> Result<Self, LogError> {
        let metadata = file.metadata().map_err(LogError::io(path))?;
        check_not_empty(path, metadata.len())?;
        let backend = FileBackend::new(file).map_err(LogError::redb(path))?;
        Self::on(path, Source::File(FileId::of(&metadata)), Disk::of(backend), 0)
    }

    /// Opens a log. On an empty disk, the first mutation gets the number after `after`.
    fn on(path: &Path, source: Source, disk: Disk, after: u64) -> Result<Self, LogError> {
        check_magic(path, &disk)?;
        disk.rewrite_unclosed().map_err(LogError::io(path))?;
        // redb trusts the lengths and page numbers in a file, and panics on impossible ones.
        caught(|| Self::recover(path, source, disk, after))
            .unwrap_or_else(|panic| Err(LogError::Damaged { path: path.to_owned(), problem: panic.0 }))
    }

    fn recover(path: &Path, source: Source, disk: Disk, after: u64) -> Result<Self, LogError> {
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(disk.clone())
            .map_err(LogError::redb(path))?;
        let state = match read_state(path, &database)? {
            Some(state) => state,
            None => initialize(&database, after).map_err(LogError::redb(path))?,
        };
        disk.read_head().map_err(LogError::io(path))?;
        let Totals { entries, entry_bytes, .. } = state.totals;
        Ok(Self {
            path: path.to_owned(),
            source,
            disk,
            database: RwLock::new(database),
            writer: Mutex::new(Writer { poisoned: None, totals: state.totals }),
            last: AtomicU64::new(state.last),
            trimmed: AtomicU64::new(state.trimmed),
            size: Mutex::new(LogSize { entries, entry_bytes, written_bytes: entry_bytes }),
            compact_from_bytes: COMPACT_FROM_BYTES,
        })
    }

    /// Runs one transaction, which updates the totals, unless an earlier one failed. If this one fails, no other will run.
    fn commit(
        &self,
        writer: &mut Writer,
        change: impl FnOnce(&WriteTransaction, &mut Totals) -> Result<(), redb::Error>,
    ) -> Result<(), LogError> {
        self.check(writer)?;
        let mut totals = writer.totals;
        let changed = transact(&self.database.read(), |transaction| {
            change(transaction, &mut totals)?;
            let mut meta = transaction.open_table(META)?;
            totals.values().iter().try_for_each(|(key, value)| meta.insert(key, value).map(drop))?;
            Ok(())
        });
        changed.map_err(|error| self.poison(writer, error))?;
        let grown = totals.entry_bytes.saturating_sub(writer.totals.entry_bytes);
        writer.totals = totals;
        let mut size = self.size.lock();
        let written_bytes = size.written_bytes + grown;
        *size = LogSize { entries: totals.entries, entry_bytes: totals.entry_bytes, written_bytes };
        Ok(())
    }

    fn check(&self, writer: &Writer) -> Result<(), LogError> {
        if let Source::Copy(_) = self.source {
            return Err(LogError::ReadOnly { path: self.path.clone() });
        }
        if let Some(problem) = &writer.poisoned {
            return Err(LogError::Poisoned { path: self.path.clone(), problem: problem.clone() });
        }
        self.check_head().map_err(|displaced| LogError::Displaced(Arc::new(displaced)))
    }

    /// Checks that the file starts with what was written last. Call it between transactions.
    fn check_head(&self) -> Result<(), Displaced> {
        let Source::File(_) = self.source else { return Ok(()) };
        if self.disk.has_own_head() {
            return Ok(());
        }
        // Closing would write to the file, whose contents belong to another process.
        self.disk.is_detached.store(true, Ordering::Release);
        Err(Displaced::Changed { path: self.path.clone() })
    }

    fn poison(&self, writer: &mut Writer, error: redb::Error) -> LogError {
        // This error is detected before anything is written.
        if !matches!(error, redb::Error::ValueTooLarge(_)) {
            writer.poisoned = Some(error.to_string());
        }
        LogError::redb(&self.path)(error)
    }

    /// Releases free pages if there are many.
    fn compact(&self, writer: &mut Writer) -> Result<(), LogError> {
        let bytes = self.bytes()?;
        if bytes < self.compact_from_bytes || bytes < writer.totals.entry_bytes.saturating_mul(COMPACT_FACTOR)
        {
            return Ok(());
        }
        match self.database.write().compact() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.poison(writer, error.into())),
        }
    }
}

impl MutationLog for RedbLog {
    fn append(&self, mutations: &[Mutation]) -> Result<u64, LogError> {
        let mut writer = self.writer.lock();
        let first = self.last_sequence() + 1;
        let last = self.last_sequence() + mutations.len() as u64;
        if mutations.is_empty() {
            return Ok(last);
        }
        self.commit(&mut writer, |transaction, totals| {
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut takedowns = transaction.open_table(TAKEDOWNS)?;
            for (sequence, mutation) in (first..).zip(mutations) {
                let record = encode(mutation);
                totals.add(&record);
                entries.insert(sequence, record.as_slice())?;
                match mutation {
                    Mutation::Takedown(video) => drop(takedowns.insert(video.0, sequence)?),
                    Mutation::Restore(video) => drop(takedowns.remove(video.0)?),
                    Mutation::Upsert(_) | Mutation::Delete(_) => {}
                }
            }
            transaction.open_table(META)?.insert(LAST_KEY, last)?;
            Ok(())
        })?;
        self.last.store(last, Ordering::Release);
        Ok(last)
    }

    fn last_sequence(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    fn trimmed_to(&self) -> u64 {
        self.trimmed.load(Ordering::Acquire)
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        let Some(from) = after.checked_add(1) else { return Ok(Vec::new()) };
        let database = self.database.read();
        let records = records(&database, from, limit).map_err(LogError::redb(&self.path))?;
        let mut entries: Vec<Entry> = Vec::with_capacity(records.len());
        for (sequence, record) in records {
            let bad = |problem| LogError::BadRecord { path: self.path.clone(), sequence, problem };
            entries.push(Entry { sequence, mutation: decode(&record).map_err(bad)? });
        }
        Ok(entries)
    }

    fn takedowns(&self) -> Result<Vec<(VideoId, u64)>, LogError> {
        let database = self.database.read();
        takedowns(&database).map_err(LogError::redb(&self.path))
    }

    fn trim_except(&self, to: u64, kept: &[u64]) -> Result<(), LogError> {
        loop {
            let mut writer = self.writer.lock();
            self.check(&writer)?;
            let trimmed = self.trimmed_to();
            let to = to.min(self.last_sequence()).min(trimmed + REMOVED_AT_ONCE).max(trimmed);
            let mut unneeded = sequences(&self.database.read(), to).map_err(LogError::redb(&self.path))?;
            let found = unneeded.len();
            unneeded.retain(|sequence| kept.binary_search(sequence).is_err());
            if to == trimmed && unneeded.is_empty() {
                return self.compact(&mut writer);
            }
            self.commit(&mut writer, |transaction, totals| {
                remove(transaction, &unneeded, totals)?;
                if unneeded.len() < found {
                    totals.version = WITH_GAPS;
                }
                transaction.open_table(META)?.insert(TRIMMED_KEY, to)?;
                Ok(())
            })?;
            self.trimmed.store(to, Ordering::Release);
        }
    }

    fn remove(&self, sequences: &[u64]) -> Result<(), LogError> {
        for some in sequences.chunks(REMOVED_AT_ONCE as usize) {
            let mut writer = self.writer.lock();
            let last = self.last_sequence();
            let some: Vec<u64> = some.iter().copied().filter(|sequence| *sequence < last).collect();
            self.commit(&mut writer, |transaction, totals| {
                totals.version = WITH_GAPS;
                remove(transaction, &some, totals)
            })?;
        }
        let mut writer = self.writer.lock();
        self.check(&writer)?;
        self.compact(&mut writer)
    }

    fn size(&self) -> LogSize {
        *self.size.lock()
    }

    fn bytes(&self) -> Result<u64, LogError> {
        self.disk.len().map_err(LogError::io(&self.path))
    }

    fn check_in_place(&self) -> Result<(), Displaced> {
        match self.source {
            Source::Backend => Ok(()),
            Source::Copy(stamp) => stamp.check(&self.path),
            Source::File(id) => {
                id.check(&self.path)?;
                // A transaction that runs has checked it.
                self.writer.try_lock().map_or(Ok(()), |_writer| self.check_head())
            }
        }
    }
}

/// Creates an empty log under a temporary name, and renames it once it is complete.
fn create(path: &Path, after: u64) -> Result<(), LogError> {
    let mut staged = StagedFile::create_for(path).map_err(LogError::io(path))?;
    let file = staged.file_mut().try_clone().map_err(LogError::io(path))?;
    let backend = FileBackend::new(file).map_err(LogError::redb(path))?;
    drop(RedbLog::on(path, Source::Backend, Disk::of(backend), after)?);
    // If the name exists, another process created a log in the meantime, and that one is opened.
    staged.publish(path).map_err(LogError::io(path)).map(drop)
}

fn check_not_empty(path: &Path, bytes: u64) -> Result<(), LogError> {
    if bytes > 0 {
        return Ok(());
    }
    let problem = "expected a log, found an empty file".to_owned();
    Err(LogError::ForeignFile { path: path.to_owned(), problem })
}

fn check_magic(path: &Path, disk: &Disk) -> Result<(), LogError> {
    let length = disk.len().map_err(LogError::io(path))?;
    if length == 0 {
        return Ok(());
    }
    let mut found = [0; MAGIC.len()];
    if length >= MAGIC.len() as u64 {
        disk.read(0, &mut found).map_err(LogError::io(path))?;
    }
    if found == MAGIC {
        return Ok(());
    }
    let (expected, found) = (MAGIC.escape_ascii(), found.escape_ascii());
    let problem = format!("expected magic \"{expected}\", found \"{found}\"");
    Err(LogError::ForeignFile { path: path.to_owned(), problem })
}

/// The content of the `meta` table.
struct State {
    last: u64,
    trimmed: u64,
    totals: Totals,
}

/// Reads the `meta` table. Returns `None` if the database has no tables yet.
fn read_state(path: &Path, database: &Database) -> Result<Option<State>, LogError> {
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
    if ![WITHOUT_GAPS, WITH_GAPS].contains(&version) {
        return Err(LogError::WrongVersion { path: path.to_owned(), expected: WITH_GAPS, found: version });
    }
    let (last, trimmed) = (number(LAST_KEY)?, number(TRIMMED_KEY)?);
    let expected = match version {
        WITH_GAPS => number(ENTRIES_KEY)?,
        _ => last.saturating_sub(trimmed),
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
        WITH_GAPS => last_end <= Some(last),
        _ => first_end.is_none_or(|first| first == trimmed + 1),
    };
    // The last entry is only ever trimmed.
    let has_last = trimmed == last || last_end == Some(last);
    if trimmed > last || found != expected || !has_ends || !has_last {
        let problem = format!(
            "expected {expected} entries, the last at {last}, trimmed to {trimmed}; found {found} entries, the first and \
             last at {ends:?}"
        );
        return Err(LogError::Damaged { path: path.to_owned(), problem });
    }
    transaction.open_table(TAKEDOWNS).map_err(LogError::redb(path))?;
    let totals = Totals { version, entries: found, entry_bytes: number(ENTRY_BYTES_KEY)? };
    Ok(Some(State { last, trimmed, totals }))
}

fn initialize(database: &Database, after: u64) -> Result<State, redb::Error> {
    transact(database, |transaction| {
        transaction.open_table(ENTRIES)?;
        transaction.open_table(TAKEDOWNS)?;
        let mut meta = transaction.open_table(META)?;
        let totals = Totals { version: WITHOUT_GAPS, entries: 0, entry_bytes: 0 };
        for (key, value) in [(LAST_KEY, after), (TRIMMED_KEY, after)].into_iter().chain(totals.values()) {
            meta.insert(key, value)?;
        }
        Ok(State { last: after, trimmed: after, totals })
    })
}

/// Runs one transaction; it is on disk when this returns. It is rolled back if `change` fails.
fn transact<T>(
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

fn records(database: &Database, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let mut records = Vec::new();
    for entry in entries.range(from..)?.take(limit) {
        let (sequence, record) = entry?;
        records.push((sequence.value(), record.value().to_vec()));
    }
    Ok(records)
}

/// Returns the numbers of the entries up to `to`, ascending.
fn sequences(database: &Database, to: u64) -> Result<Vec<u64>, redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let mut sequences = Vec::new();
    for entry in entries.range(..=to)? {
        sequences.push(entry?.0.value());
    }
    Ok(sequences)
}

/// Removes entries one by one, which reuses the pages of the transaction: `retain_in` copies pages for each entry, and a log
/// of 50 MB grew to 470 MB before it was compacted.
fn remove(transaction: &WriteTransaction, sequences: &[u64], totals: &mut Totals) -> Result<(), redb::Error> {
    let mut entries = transaction.open_table(ENTRIES)?;
    for sequence in sequences {
        if let Some(record) = entries.remove(sequence)? {
            totals.subtract(record.value());
        }
    }
    Ok(())
}

fn takedowns(database: &Database) -> Result<Vec<(VideoId, u64)>, redb::Error> {
    let table = database.begin_read()?.open_table(TAKEDOWNS)?;
    let mut takedowns = Vec::new();
    for entry in table.iter()? {
        let (video, sequence) = entry?;
        takedowns.push((VideoId(video.value()), sequence.value()));
    }
    Ok(takedowns)
}

/// The storage backend of redb, shared with the log, which reads its length.
#[derive(Clone, Debug)]
struct Disk {
    backend: Arc<dyn StorageBackend>,
    /// The first bytes as they were read at the start or written last.
    head: Arc<Mutex<Vec<u8>>>,
    /// Whether the file belongs to another process: nothing is written to it any more, nor read, since redb panics on
    /// pages that it does not expect.
    is_detached: Arc<AtomicBool>,
}

impl Disk {
    fn of(backend: impl StorageBackend) -> Self {
        Self { backend: Arc::new(backend), head: Arc::default(), is_detached: Arc::default() }
    }

    /// Returns whether the first bytes are those that were written last.
    fn has_own_head(&self) -> bool {
        if self.check_attached().is_err() {
            return false;
        }
        let written = self.head.lock();
        let mut found = vec![0; written.len()];
        self.backend.read(0, &mut found).is_ok() && found == *written
    }

    fn read_head(&self) -> io::Result<()> {
        let mut head = vec![0; HEAD_BYTES.min(usize::try_from(self.len()?).unwrap_or(HEAD_BYTES))];
        self.read(0, &mut head)?;
        *self.head.lock() = head;
        Ok(())
    }

    /// Remembers what is written to the start of the file.
    fn remember(&self, offset: usize, data: &[u8]) {
        let mut head = self.head.lock();
        let end = HEAD_BYTES.min(offset + data.len());
        if head.len() < end {
            head.resize(end, 0);
        }
        head[offset..end].copy_from_slice(&data[..end - offset]);
    }

    fn check_attached(&self) -> io::Result<()> {
        if self.is_detached.load(Ordering::Acquire) {
            return Err(io::Error::other("another process has written to the file"));
        }
        Ok(())
    }

    /// Rewrites a file that was not closed with the bytes that are read from it, and syncs it.
    ///
    /// After a failed sync, Linux marks the pages that it could not write as clean: they are read as if they were on
    /// disk, but no later sync writes them. A log that is opened again would rely on them.
    fn rewrite_unclosed(&self) -> io::Result<()> {
        let length = self.len()?;
        let mut head = [0; FLAGS_OFFSET + 1];
        if length < head.len() as u64 {
            return Ok(());
        }
        self.read(0, &mut head)?;
        if head[FLAGS_OFFSET] & NOT_CLOSED == 0 {
            return Ok(());
        }
        let mut block = vec![0; REWRITE_BYTES];
        for offset in (0..length).step_by(REWRITE_BYTES) {
            let block = &mut block[..REWRITE_BYTES.min((length - offset) as usize)];
            self.read(offset, block)?;
            self.write(offset, block)?;
        }
        self.set_len(length)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check_attached()?;
        self.backend.read(offset, out)
    }

    /// Syncs the new length before it returns: redb writes the length into its header before it syncs, and does not open
    /// a shorter file.
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.check_attached()?;
        self.backend.set_len(length)?;
        self.backend.sync_data()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_attached()?;
        if offset < HEAD_BYTES as u64 {
            self.remember(offset as usize, data);
        }
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}
