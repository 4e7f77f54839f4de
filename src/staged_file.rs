//! Files that appear whole or not at all: written under a temporary name, synced, renamed, folder synced.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// A file without a name yet; dropping it removes it.
#[derive(Debug)]
pub struct StagedFile(NamedTempFile);

impl StagedFile {
    /// Starts a file in `dir`, readable by whom the umask lets.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create_in(dir: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".staged-").suffix(".tmp").permissions(Permissions::from_mode(0o666));
        builder.tempfile_in(dir).map(Self)
    }

    /// Starts a file that is to lie at `path`.
    ///
    /// # Errors
    /// If its folder cannot be written.
    pub fn beside(path: &Path) -> io::Result<Self> {
        Self::create_in(folder(path))
    }

    /// The file.
    pub fn file_mut(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    /// Where the file is for now.
    pub fn temporary_path(&self) -> &Path {
        self.0.path()
    }

    /// Gives the file its name, in place of what had it before.
    ///
    /// # Errors
    /// If syncing or renaming fails; what had the name before still has it.
    pub fn replace(self, path: &Path) -> io::Result<()> {
        self.0.as_file().sync_all()?;
        self.0.persist(path).map_err(|error| error.error)?;
        sync_folder(folder(path))
    }

    /// Gives the file its name unless something has it; then the file is given back.
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

/// Makes what was renamed or created in `dir` durable.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
