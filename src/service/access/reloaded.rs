//! Files that are read again when they change.
//!
//! A file that is not sound when it changes is an error in the log, and what was read before stays in force.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::error::AccessError;

/// What changes whenever a file does: device, inode, length, and the times of its content and of its inode.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// A value that is read from files.
pub(super) struct Reloaded<T> {
    /// What it is, for the log.
    what: &'static str,
    files: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, AccessError> + Send + Sync>,
    current: ArcSwap<T>,
    /// The stamps of the files before they were read last.
    seen: Mutex<Vec<Option<Stamp>>>,
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn open(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, AccessError> + Send + Sync + 'static,
    ) -> Result<Self, AccessError> {
        let seen = stamps(&files);
        let current = ArcSwap::from_pointee(read()?);
        Ok(Self { what, files, read: Box::new(read), current, seen: Mutex::new(seen) })
    }

    /// Returns the value.
    pub(super) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Reads the files again if any of them changed.
    pub(super) fn refresh(&self) {
        let mut seen = self.seen.lock();
        // Before they are read: a change meanwhile is seen the next time.
        let now = stamps(&self.files);
        if *seen == now {
            return;
        }
        *seen = now;
        match (self.read)() {
            Ok(value) => {
                self.current.store(Arc::new(value));
                tracing::info!(what = self.what, "read the changed files");
            }
            Err(error) => {
                tracing::error!(what = self.what, %error, "cannot use the changed files; those from before stay in force");
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        let (content, inode) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        Some((file.dev(), file.ino(), file.len(), content, inode))
    };
    files.iter().map(stamp).collect()
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
            let text = fs::read_to_string(&of_read).map_err(|error| AccessError::new(&of_read, error))?;
            text.parse::<u32>().map_err(|error| AccessError::new(&of_read, error))
        };
        let number = Reloaded::open("a number", vec![path.clone()], read).unwrap();
        assert_eq!(*number.current(), 1);
        write("2");
        assert_eq!(*number.current(), 1);
        number.refresh();
        assert_eq!(*number.current(), 2);
        for _ in 0..2 {
            write("two");
            number.refresh();
            assert_eq!(*number.current(), 2);
        }
        fs::remove_file(&path).unwrap();
        number.refresh();
        assert_eq!(*number.current(), 2);
        write("3");
        number.refresh();
        assert_eq!(*number.current(), 3);
    }
}
