//! The storage backend of a log: the bytes of its file, with what `redb` does not check.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redb::StorageBackend;

use super::error::LogError;

/// Block size for rewriting a file that was not closed.
const REWRITE_BYTES: usize = 1 << 20;
/// The page size of redb.
const PAGE: usize = 4096;

/// The first bytes of every redb file.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// Offset of the byte with the flag [`NOT_CLOSED`].
pub(super) const FLAGS_OFFSET: usize = MAGIC.len();
pub(super) const NOT_CLOSED: u8 = 2;
/// Length of the header of redb, at the start of the file, which every transaction changes.
pub(super) const HEAD_BYTES: usize = 320;

/// The storage backend of redb, shared with the log, which reads its length.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    backend: Arc<dyn StorageBackend>,
    /// The first bytes as they were read at the start or written last.
    head: Arc<Mutex<Vec<u8>>>,
    /// Whether the file belongs to another process: nothing is written to it any more, nor read, since redb panics on
    /// pages that it does not expect.
    is_detached: Arc<AtomicBool>,
}

impl Disk {
    pub(super) fn of(backend: impl StorageBackend) -> Self {
        Self { backend: Arc::new(backend), head: Arc::default(), is_detached: Arc::default() }
    }

    /// Checks that the file is empty or one of redb.
    pub(super) fn check_magic(&self, path: &Path) -> Result<(), LogError> {
        let length = self.len().map_err(LogError::io(path))?;
        if length == 0 {
            return Ok(());
        }
        let mut found = [0; MAGIC.len()];
        if length >= MAGIC.len() as u64 {
            self.read(0, &mut found).map_err(LogError::io(path))?;
        }
        if found == MAGIC {
            return Ok(());
        }
        let (expected, found) = (MAGIC.escape_ascii(), found.escape_ascii());
        let problem = format!("expected magic \"{expected}\", found \"{found}\"");
        Err(LogError::ForeignFile { path: path.to_owned(), problem })
    }

    /// Stops writing to the file and reading from it, which belongs to another process.
    pub(super) fn detach(&self) {
        self.is_detached.store(true, Ordering::Release);
    }

    /// Returns whether the first bytes are those that were written last.
    pub(super) fn has_own_head(&self) -> bool {
        if self.check_attached().is_err() {
            return false;
        }
        let written = self.head.lock();
        let mut found = vec![0; written.len()];
        self.backend.read(0, &mut found).is_ok() && found == *written
    }

    pub(super) fn read_head(&self) -> io::Result<()> {
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

    /// Sets the flags in the header, and syncs them.
    pub(super) fn set_flags(&self, flags: u8) -> io::Result<()> {
        let mut found = [0];
        self.read(FLAGS_OFFSET as u64, &mut found)?;
        if found == [flags] {
            return Ok(());
        }
        self.write(FLAGS_OFFSET as u64, &[flags])?;
        self.sync_data()
    }

    /// Rewrites a file that was not closed with the bytes that are read from it, and syncs it.
    ///
    /// After a failed sync, Linux marks the pages that it could not write as clean: they are read as if they were on
    /// disk, but no later sync writes them. A log that is opened again would rely on them.
    pub(super) fn rewrite_unclosed(&self) -> io::Result<()> {
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
            // Pages that were never written have no place on the disk, which may be full. No page in use is all zeros.
            let pages = block.chunks(PAGE).enumerate();
            for (page, bytes) in pages.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)) {
                self.write(offset + (page * PAGE) as u64, bytes)?;
            }
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
        self.backend.write(offset, data)?;
        // A failed write is not a write of another process.
        if offset < HEAD_BYTES as u64 {
            self.remember(offset as usize, data);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// A disk that is full.
    #[derive(Debug, Default)]
    struct Full(InMemoryBackend, Arc<AtomicBool>);

    impl StorageBackend for Full {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            self.0.set_len(length)
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            if self.1.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write(offset, data)
        }
    }

    #[test]
    fn a_failed_write_of_the_header_is_not_taken_for_one_of_another_process() {
        let is_full = Arc::<AtomicBool>::default();
        let disk = Disk::of(Full(InMemoryBackend::new(), Arc::clone(&is_full)));
        disk.set_len(HEAD_BYTES as u64).unwrap();
        disk.write(0, &[1; 16]).unwrap();
        is_full.store(true, Ordering::Relaxed);
        assert!(disk.write(8, &[2; 16]).is_err());
        assert!(disk.has_own_head());
        is_full.store(false, Ordering::Relaxed);
        disk.write(8, &[2; 16]).unwrap();
        assert!(disk.has_own_head());
        disk.backend.write(0, &[3]).unwrap();
        assert!(!disk.has_own_head(), "another process");
    }
}
