//! A log in one local file, stored by the `redb` engine.
//!
//! One append is one two-phase transaction: its pages are synced before the byte that commits it, so a partial append is
//! never visible. That byte is in the first sector, which disks write atomically.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, StorageBackend, WriteTransaction};

use super::database::{OpenDatabase, guarded};
use super::disk::Disk;
use super::error::LogError;
use super::examine::examine;
use super::mutation::{Entry, Mutation};
use super::mutation_log::{LogSize, MutationLog};
use super::record::decode;
use super::snapshot::{Copied, check_not_empty};
use super::tables::{self, Totals};
use super::takedowns;
use crate::base::file_identity::{Displaced, FileId, FileStamp, is_there};
use crate::base::id::{MAX_SEQUENCE, VideoId};
use crate::base::instant::Instant;
use crate::base::regular_file;
use crate::base::staged_file::StagedFile;

/// Size of the page cache of redb. Small, because the log is read only at the start.
const CACHE_BYTES: usize = 16 << 20;
/// Entries removed per transaction. Appends wait for at most one such transaction.
const REMOVED_AT_ONCE: usize = 50_000;
/// A file up to this size is never compacted.
const COMPACT_FROM_BYTES: u64 = 8 << 20;
/// The file is compacted once it is this many times larger than its records. Pages are at least half full, so at least
/// half of the file is free then.
const COMPACT_FACTOR: u64 = 4;

/// A mutation log in a file.
#[derive(Debug)]
pub struct RedbLog {
    pub(super) path: PathBuf,
    source: Source,
    disk: Disk,
    /// Locked exclusively only for compaction.
    database: RwLock<OpenDatabase>,
    pub(super) writer: Mutex<Writer>,
    pub(super) last: AtomicU64,
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
pub(super) struct Writer {
    /// The error after which the state of the file is unknown.
    poisoned: Option<String>,
    totals: Totals,
    /// The lengths after the last compaction.
    compacted: Option<Compacted>,
}

/// What was left by a compaction, which may be more than the entries: the table of takedowns, and pages that are not full.
#[derive(Debug)]
struct Compacted {
    bytes: u64,
    entry_bytes: u64,
}

impl Compacted {
    /// Returns whether another compaction cannot do much: the file has not doubled since, and the entries have not halved.
    fn suffices(&self, bytes: u64, entry_bytes: u64) -> bool {
        bytes < 2 * self.bytes && 2 * entry_bytes >= self.entry_bytes
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
        if !is_there(path).map_err(LogError::io(path))? {
            create(path, sequence)?;
        }
        let file = regular_file::open_with(OpenOptions::new().read(true).write(true), path)
            .map_err(LogError::io(path))?;
        Self::open_file(path, file)
    }

    /// Copies the log at `path` into memory, to be read. Every append fails.
    ///
    /// # Errors
    /// If the file cannot be read, is being written, is not a log, or is damaged.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        let file = regular_file::open(path).map_err(LogError::io(path))?;
        // Held during the copy. A file system without locks has none to respect.
        if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            return Err(LogError::InUse { path: path.to_owned() });
        }
        Self::on_copy(path, Copied::of(path, &file)?)
    }

    /// Copies the log at `path` into memory like [`RedbLog::open_read_only`], also while another process writes to it. The
    /// copy has every entry that was acknowledged before this call.
    ///
    /// # Errors
    /// As [`RedbLog::open_read_only`], and [`LogError::InUse`] if the writer is too fast for a copy.
    pub fn open_beside_writer(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        let file = regular_file::open(path).map_err(LogError::io(path))?;
        Self::on_copy(path, Copied::beside_writer(path, &file)?)
    }

    fn on_copy(path: &Path, Copied { bytes, stamp }: Copied) -> Result<Self, LogError> {
        let memory = InMemoryBackend::new();
        let copied = memory.set_len(bytes.len() as u64).and_then(|()| memory.write(0, &bytes));
        copied.map_err(LogError::io(path))?;
        Self::on(path, Source::Copy(stamp), Disk::of(memory), 0)
    }

    /// Opens the log on a storage backend, or creates an empty one if the backend has no bytes.
    ///
    /// # Errors
    /// As [`RedbLog::open`].
    pub fn with_backend(backend: impl StorageBackend) -> Result<Self, LogError> {
        Self::on(Path::new("(a log without a file)"), Source::Backend, Disk::of(backend), 0)
    }

    /// Creates a log with records of entries and takedowns that were saved from another one.
    ///
    /// # Errors
    /// If there is a file at `path`, or it cannot be written.
    pub(super) fn create_with(
        path: &Path,
        entries: &BTreeMap<u64, Vec<u8>>,
        takedowns: &[(VideoId, u64)],
        last: u64,
        trimmed: u64,
    ) -> Result<(), LogError> {
        let mut staged = StagedFile::create_for(path).map_err(LogError::io(path))?;
        let file = staged.file_mut().try_clone().map_err(LogError::io(path))?;
        let backend = FileBackend::new(file).map_err(LogError::redb(path))?;
        let log = Self::on(path, Source::Backend, Disk::of(backend), trimmed)?;
        log.commit(&mut log.writer.lock(), |transaction, totals| {
            tables::restore(transaction, entries, takedowns, last, totals)
        })?;
        drop(log);
        let published = staged.publish(path).map_err(LogError::io(path))?;
        let taken = |_| LogError::io(path)(io::ErrorKind::AlreadyExists.into());
        published.map_err(taken)
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
        disk.check_magic(path)?;
        if disk.len().map_err(LogError::io(path))? > 0 {
            let flags = examine(path, &disk)?;
            disk.set_flags(flags).map_err(LogError::io(path))?;
            disk.rewrite_unclosed().map_err(LogError::io(path))?;
        }
        guarded(path, || Self::recover(path, source, disk, after))
    }

    fn recover(path: &Path, source: Source, disk: Disk, after: u64) -> Result<Self, LogError> {
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(disk.clone())
            .map_err(LogError::redb(path))?;
        let database = OpenDatabase::new(database);
        let state = match database.with(path, |database| tables::read_state(path, database))? {
            Some(state) => state,
            None => database
                .with(path, |database| tables::initialize(database, after).map_err(LogError::redb(path)))?,
        };
        disk.read_head().map_err(LogError::io(path))?;
        let Totals { entries, entry_bytes, .. } = state.totals;
        Ok(Self {
            path: path.to_owned(),
            source,
            disk,
            database: RwLock::new(database),
            writer: Mutex::new(Writer { poisoned: None, totals: state.totals, compacted: None }),
            last: AtomicU64::new(state.last),
            trimmed: AtomicU64::new(state.trimmed),
            size: Mutex::new(LogSize { entries, entry_bytes, written_bytes: entry_bytes }),
            compact_from_bytes: COMPACT_FROM_BYTES,
        })
    }

    /// Runs one transaction, which updates the totals, unless an earlier one failed. If this one fails, no other will run.
    pub(super) fn commit(
        &self,
        writer: &mut Writer,
        change: impl FnOnce(&WriteTransaction, &mut Totals) -> Result<(), redb::Error>,
    ) -> Result<(), LogError> {
        self.check(writer)?;
        let mut totals = writer.totals;
        let changed = self.with_database(|database| {
            tables::transact(database, |transaction| {
                change(transaction, &mut totals)?;
                totals.store(transaction)
            })
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
        self.disk.detach();
        Err(Displaced::Changed { path: self.path.clone() })
    }

    fn poison(&self, writer: &mut Writer, error: LogError) -> LogError {
        // This error is detected before anything is written.
        if !matches!(error, LogError::TooLarge { .. }) {
            writer.poisoned = Some(error.to_string());
        }
        error
    }

    pub(super) fn with_database<T>(
        &self,
        work: impl FnOnce(&redb::Database) -> Result<T, redb::Error>,
    ) -> Result<T, LogError> {
        self.database.read().with(&self.path, |database| work(database).map_err(LogError::redb(&self.path)))
    }

    /// Releases free pages if there are many.
    fn compact(&self, writer: &mut Writer) -> Result<(), LogError> {
        let bytes = self.bytes()?;
        let entry_bytes = writer.totals.entry_bytes;
        let has_room =
            bytes >= self.compact_from_bytes && bytes >= entry_bytes.saturating_mul(COMPACT_FACTOR);
        let was_compacted = writer.compacted.as_ref().is_some_and(|last| last.suffices(bytes, entry_bytes));
        if !has_room || was_compacted {
            return Ok(());
        }
        let compacted = self.database.write().compact(&self.path);
        compacted.map_err(|error| self.poison(writer, error))?;
        writer.compacted = Some(Compacted { bytes: self.bytes()?, entry_bytes });
        Ok(())
    }
}

impl MutationLog for RedbLog {
    fn append(&self, mutations: &[Mutation]) -> Result<u64, LogError> {
        let mut writer = self.writer.lock();
        let before = self.last_sequence();
        if mutations.is_empty() {
            return Ok(before);
        }
        let (first, last) = (before + 1, before + mutations.len() as u64);
        // No file may have a larger number, so that no addition to one overflows.
        if last > MAX_SEQUENCE {
            let problem = format!("expected sequence numbers of at most {MAX_SEQUENCE}, found {last}");
            return Err(LogError::Storage { path: self.path.clone(), problem });
        }
        self.commit(&mut writer, |transaction, totals| {
            tables::insert(transaction, first, mutations, totals)
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
        let records = self.with_database(|database| tables::records(database, from, limit))?;
        let mut entries: Vec<Entry> = Vec::with_capacity(records.len());
        for (sequence, record) in records {
            let bad = |problem| LogError::BadRecord { path: self.path.clone(), sequence, problem };
            entries.push(Entry { sequence, mutation: decode(&record).map_err(bad)? });
        }
        Ok(entries)
    }

    fn takedowns(&self) -> Result<Vec<(VideoId, u64)>, LogError> {
        // Locked, so that both are of the same transaction.
        let writer = self.writer.lock();
        let totals = writer.totals.takedowns;
        self.database.read().with(&self.path, |database| takedowns::read(&self.path, database, totals))
    }

    fn trim_except(&self, to: u64, kept: &[u64]) -> Result<(), LogError> {
        // Entries before it are removed or kept.
        let mut from = 0;
        loop {
            let mut writer = self.writer.lock();
            self.check(&writer)?;
            let trimmed = self.trimmed_to();
            let to = to.min(self.last_sequence()).max(trimmed);
            let found =
                self.with_database(|database| tables::sequences(database, from..=to, REMOVED_AT_ONCE))?;
            let is_full = found.len() == REMOVED_AT_ONCE;
            let last_found = found.last().copied().filter(|last| is_full && *last < to);
            let reached = last_found.map_or(to, |last| last.max(trimmed));
            let is_unneeded = |sequence: &u64| kept.binary_search(sequence).is_err();
            let unneeded: Vec<u64> = found.iter().copied().filter(is_unneeded).collect();
            if reached > trimmed || !unneeded.is_empty() {
                self.commit(&mut writer, |transaction, totals| {
                    tables::remove(transaction, &unneeded, totals)?;
                    tables::store_trimmed(transaction, reached)
                })?;
                self.trimmed.store(reached, Ordering::Release);
            }
            match last_found {
                Some(last) => from = last + 1,
                None => return self.compact(&mut writer),
            }
        }
    }

    fn remove(&self, sequences: &[u64]) -> Result<(), LogError> {
        for some in sequences.chunks(REMOVED_AT_ONCE) {
            let mut writer = self.writer.lock();
            let last = self.last_sequence();
            let some: Vec<u64> = some.iter().copied().filter(|sequence| *sequence < last).collect();
            self.commit(&mut writer, |transaction, totals| tables::remove(transaction, &some, totals))?;
        }
        let mut writer = self.writer.lock();
        self.check(&writer)?;
        self.compact(&mut writer)
    }

    fn size(&self) -> LogSize {
        *self.size.lock()
    }

    fn oldest(&self) -> Result<Option<Instant>, LogError> {
        self.with_database(tables::oldest)
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
                match self.writer.try_lock() {
                    // A failed write may have changed the first bytes.
                    Some(writer) if writer.poisoned.is_none() => self.check_head(),
                    // A transaction that runs has checked it.
                    _ => Ok(()),
                }
            }
        }
    }

    fn failed(&self) -> Option<String> {
        self.writer.try_lock().and_then(|writer| writer.poisoned.clone())
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
