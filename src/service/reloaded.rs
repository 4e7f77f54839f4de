//! Files that are read again when they change.
//!
//! A file that is not sound when it changes is an error in the log, and what was read before stays in force.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::file_error::FileError;
use crate::base::regular_file;

/// What changes whenever a file does: device, inode, length, and the times of its content and of its inode.
pub(crate) type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// A value that is read from files.
pub(crate) struct Reloaded<T> {
    /// What it is, for the log and the metrics.
    what: &'static str,
    files: Vec<PathBuf>,
    /// Reads the files.
    read: Box<dyn Fn() -> Result<T, FileError> + Send + Sync>,
    current: ArcSwap<T>,
    /// The stamps of the files before they were read last.
    seen: Mutex<Vec<Option<Stamp>>>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    is_failing: AtomicBool,
}

/// How often files were read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reloads {
    /// What the files are.
    pub(crate) what: &'static str,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// Whether the files as they are cannot be used, and what was read before stays in force.
    pub(crate) is_failing: bool,
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn open(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let stamps = stamps(&files);
        let value = read()?;
        Ok(Self::new(what, value, files.into_iter().zip(stamps).collect(), read))
    }

    /// Creates a value that is not of files.
    pub(crate) fn constant(what: &'static str, value: T) -> Self {
        let read = || Err(FileError::new("", "there is no file"));
        Self::new(what, value, Vec::new(), read)
    }

    /// Creates a value that was read from files when they had these stamps.
    pub(crate) fn new(
        what: &'static str,
        value: T,
        files: Vec<(PathBuf, Option<Stamp>)>,
        read: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Self {
        let (files, seen) = files.into_iter().unzip();
        let current = ArcSwap::from_pointee(value);
        Self {
            what,
            files,
            read: Box::new(read),
            current,
            seen: Mutex::new(seen),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Returns the value.
    pub(crate) fn current(&self) -> Guard<Arc<T>> {
        self.current.load()
    }

    /// Returns whether the value never changes.
    pub(crate) fn is_constant(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns how often the files were read again.
    pub(crate) fn reloads(&self) -> Reloads {
        Reloads {
            what: self.what,
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            is_failing: self.is_failing.load(Ordering::Relaxed),
        }
    }

    /// Reads the files again if any of them changed, or in any case if `is_forced`. Returns whether there is a new value.
    pub(crate) fn refresh(&self, is_forced: bool) -> bool {
        if self.is_constant() {
            return false;
        }
        let mut seen = self.seen.lock();
        // Before they are read: a change meanwhile is seen the next time.
        let now = stamps(&self.files);
        if *seen == now && !is_forced {
            return false;
        }
        *seen = now;
        match self.check().and_then(|()| (self.read)()) {
            Ok(value) => {
                self.current.store(Arc::new(value));
                self.succeeded.fetch_add(1, Ordering::Relaxed);
                self.is_failing.store(false, Ordering::Relaxed);
                tracing::info!(what = self.what, "read the files again");
                true
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.is_failing.store(true, Ordering::Relaxed);
                tracing::error!(what = self.what, %error, "cannot use the files; those from before stay in force");
                false
            }
        }
    }

    /// Checks that the files are regular files: a pipe would not end.
    fn check(&self) -> Result<(), FileError> {
        for path in &self.files {
            regular_file::open(path).map_err(|error| FileError::new(path, error))?;
        }
        Ok(())
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|path| stamp(path)).collect()
}

/// Returns the stamp of a file, if it is there.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    let (content, inode) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    Some((file.dev(), file.ino(), file.len(), content, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let write = |text: &str| {
            let new = folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        write("1");
        let of_read = path.clone();
        let read = move || {
            let text = fs::read_to_string(&of_read).map_err(|error| FileError::new(&of_read, error))?;
            text.parse::<u32>().map_err(|error| FileError::new(&of_read, error))
        };
        let number = Reloaded::open("a number", vec![path.clone()], read).unwrap();
        assert_eq!(**number.current(), 1);
        write("2");
        assert_eq!(**number.current(), 1);
        number.refresh(false);
        assert_eq!(**number.current(), 2);
        for _ in 0..2 {
            write("two");
            number.refresh(false);
            assert_eq!(**number.current(), 2);
        }
        fs::remove_file(&path).unwrap();
        number.refresh(false);
        assert_eq!(**number.current(), 2);
        write("3");
        number.refresh(false);
        assert_eq!(**number.current(), 3);
    }
}
