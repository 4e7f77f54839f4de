//! Files that appear complete or not at all: written under a temporary name, synced, renamed, and the folder synced.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::base::file_identity::OpenFolder;
use crate::base::regular_file;

/// Prefix and suffix of temporary names.
const PREFIX: &str = ".staged-";
const SUFFIX: &str = ".tmp";
/// A younger temporary file is never removed: it may not be locked yet, or be on a file system without locks.
const LEAST_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A file under a temporary name; dropping it removes the file. It is locked while it is written, which distinguishes
/// it from a file that a killed process left behind.
#[derive(Debug)]
pub struct StagedFile(NamedTempFile);

impl StagedFile {
    /// Creates a file in `dir`, with the permissions that the umask leaves of 0666.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create_in(dir: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX).permissions(Permissions::from_mode(0o666));
        let file = builder.tempfile_in(dir)?;
        // Without file locks, no process can lock this file either, so it is not removed as abandoned.
        let _ = file.as_file().try_lock();
        Ok(Self(file))
    }

    /// Removes the temporary files that killed processes left behind in `folder`. Returns their number.
    ///
    /// # Errors
    /// If the folder cannot be read or a file cannot be removed, or another folder is at its path.
    pub fn remove_abandoned(folder: &OpenFolder) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(folder.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let is_staged =
                name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
            if !is_staged {
                continue;
            }
            // It may have been removed or renamed since the folder was read.
            let Ok(file) = regular_file::open(&entry.path()) else { continue };
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age >= LEAST_AGE && file.try_lock().is_ok() {
                match folder.remove_file(&name) {
                    Ok(()) => removed += 1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(removed)
    }

    /// Creates a file in the folder of `path`, to be renamed to `path`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create_for(path: &Path) -> io::Result<Self> {
        Self::create_in(folder(path))
    }

    /// The open file.
    pub fn file_mut(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    /// The temporary path.
    pub fn temporary_path(&self) -> &Path {
        self.0.path()
    }

    /// Renames the file to `path`, replacing an existing file.
    ///
    /// # Errors
    /// If syncing or renaming fails; then an existing file at `path` is unchanged.
    pub fn replace(self, path: &Path) -> io::Result<()> {
        self.0.as_file().sync_all()?;
        self.0.persist(path).map_err(|error| error.error)?;
        sync_folder(folder(path))
    }

    /// Renames the file to `path` unless that exists; then it returns the file in the inner `Err`.
    ///
    /// # Errors
    /// If syncing or renaming fails.
    pub fn publish(self, path: &Path) -> io::Result<Result<(), Self>> {
        self.0.as_file().sync_all()?;
        match self.0.persist_noclobber(path) {
            Ok(_) => sync_folder(folder(path)).map(Ok),
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => Ok(Err(Self(taken.file))),
            Err(other) => Err(other.error),
        }
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Makes files that were created or renamed in `dir` durable.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_what_nobody_writes_any_more_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::now() - 2 * LEAST_AGE;
        let mut written = StagedFile::create_in(dir.path()).unwrap();
        written.file_mut().set_modified(long_ago).unwrap();
        let fresh = dir.path().join(".staged-fresh.tmp");
        std::fs::write(&fresh, "x").unwrap();
        let named = dir.path().join("generation-00000001.index");
        let abandoned = dir.path().join(".staged-abandoned.tmp");
        for path in [&named, &abandoned] {
            std::fs::write(path, "x").unwrap();
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        let folder = OpenFolder::open(dir.path()).unwrap();
        assert_eq!(StagedFile::remove_abandoned(&folder).unwrap(), 1);
        assert!(!abandoned.exists() && named.exists() && fresh.exists());
        assert!(written.temporary_path().exists());
        // The lock is released with the rename.
        written.replace(&named).unwrap();
        File::open(&named).unwrap().try_lock().unwrap();
    }
}
