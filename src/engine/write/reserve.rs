//! Room on the disk that is kept for takedowns: a file next to the log, which is removed when a takedown finds the disk full.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::statvfs;

/// The file name in the folder of the index.
const RESERVE_FILE: &str = "mutations.reserve";
/// Enough to open the log again and to write some thousand takedowns.
const BYTES: u64 = 4 << 20;

/// Returns whether the disk of a file or folder has this many bytes free, or does not say how many it has.
pub(crate) fn has_room(path: &Path, bytes: u64) -> bool {
    let dir = path.parent().unwrap_or(path);
    statvfs(dir).map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes)
}

/// The reserve of one index.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    /// Whether the file is there, or cannot be made for another reason than a full disk.
    is_settled: AtomicBool,
}

impl Reserve {
    /// The reserve in a folder, which may not be there yet.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join(RESERVE_FILE), is_settled: AtomicBool::new(false) }
    }

    /// Makes the reserve unless it is there.
    ///
    /// # Errors
    /// If the disk has no room for it. Then only takedowns should be written.
    pub(crate) fn fill(&self) -> io::Result<()> {
        if self.is_settled.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !fs::metadata(&self.path).is_ok_and(|file| file.len() == BYTES) {
            // Takedowns need room until it is made.
            if !has_room(&self.path, 2 * BYTES) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // Another failure leaves the index without a reserve.
            let _ = self.make();
        }
        self.is_settled.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the room back. Returns false if there was none.
    pub(crate) fn release(&self) -> bool {
        self.is_settled.store(false, Ordering::Relaxed);
        fs::remove_file(&self.path).is_ok()
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Written, because not all file systems can allocate without writing.
    fn make(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        file.write_all(&vec![0xff; BYTES as usize])?;
        file.sync_data()
    }
}
