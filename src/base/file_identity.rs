//! Whether a path still leads to the file that was opened.
//!
//! A process that holds a file open goes on writing to it after the file is removed, moved or replaced: nobody finds
//! these bytes again. Device and inode of the path tell. The file must stay open (or mapped) meanwhile, or its inode
//! could be given to another file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How the file at a path differs from the one that was opened there.
#[derive(Debug, thiserror::Error)]
pub enum Displaced {
    /// Nothing is at the path.
    #[error("{}: it was removed or moved away", path.display())]
    Removed {
        /// The path.
        path: PathBuf,
    },
    /// Another file is at the path.
    #[error("{}: it was replaced by another file", path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// The same file has other contents.
    #[error("{}: it was changed by another process", path.display())]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// The operating system does not say what is at the path.
    #[error("{}: {source}", path.display())]
    Unknown {
        /// The path.
        path: PathBuf,
        /// Its error.
        r#source: io::Error,
    },
}

/// The identity of a file: the same under every name, and after every change of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the identity of an open file.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Checks that `path` leads to this file.
    ///
    /// # Errors
    /// [`Displaced`], but never as changed.
    pub fn check(self, path: &Path) -> Result<(), Displaced> {
        if Self::of(&look_up(path)?) == self {
            return Ok(());
        }
        Err(Displaced::Replaced { path: path.to_owned() })
    }
}

/// The identity of a file that is never changed after it was written, with what a change would leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    id: FileId,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
}

impl FileStamp {
    /// Returns the stamp of an open file.
    pub fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { id: FileId::of(metadata), bytes: metadata.len(), modified }
    }

    /// Returns the stamp of the file at `path`.
    ///
    /// # Errors
    /// If there is none.
    pub fn at(path: &Path) -> Result<Self, Displaced> {
        Ok(Self::of(&look_up(path)?))
    }

    /// Checks that `path` leads to this file, unchanged.
    ///
    /// # Errors
    /// [`Displaced`].
    pub fn check(self, path: &Path) -> Result<(), Displaced> {
        let found = Self::at(path)?;
        if found == self {
            Ok(())
        } else if found.id == self.id {
            Err(Displaced::Changed { path: path.to_owned() })
        } else {
            Err(Displaced::Replaced { path: path.to_owned() })
        }
    }
}

/// A folder that is held open, so that its identity stays its own.
#[derive(Debug)]
pub struct OpenFolder {
    path: PathBuf,
    id: FileId,
    _open: File,
}

impl OpenFolder {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let open = File::open(path)?;
        let id = FileId::of(&open.metadata()?);
        Ok(Self { path: path.to_owned(), id, _open: open })
    }

    /// Checks that the path still leads to this folder.
    ///
    /// # Errors
    /// [`Displaced`].
    pub fn check(&self) -> Result<(), Displaced> {
        self.id.check(&self.path)
    }
}

/// The files of a folder by name, each with its stamp. Temporary files, whose names start with a dot, do not count.
#[derive(Debug, PartialEq, Eq)]
pub struct FolderStamp(BTreeMap<OsString, FileStamp>);

impl FolderStamp {
    /// Returns the stamp of the folder `dir`.
    ///
    /// # Errors
    /// If it or one of its files cannot be read.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let mut stamps = BTreeMap::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.as_encoded_bytes().starts_with(b".") {
                stamps.insert(name, FileStamp::of(&std::fs::metadata(entry.path())?));
            }
        }
        Ok(Self(stamps))
    }
}

fn look_up(path: &Path) -> Result<Metadata, Displaced> {
    std::fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Displaced::Removed { path: path.to_owned() }
        }
        _ => Displaced::Unknown { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_keeps_its_identity_under_its_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&path, "one").unwrap();
        let open = File::open(&path).unwrap();
        let (id, stamp) = (FileId::of(&open.metadata().unwrap()), FileStamp::at(&path).unwrap());
        let found = || (id.check(&path), stamp.check(&path));
        assert!(matches!(found(), (Ok(()), Ok(()))));
        fs::write(&path, "other").unwrap();
        assert!(matches!(found(), (Ok(()), Err(Displaced::Changed { .. }))));
        fs::rename(&path, &other).unwrap();
        assert!(matches!(found(), (Err(Displaced::Removed { .. }), Err(Displaced::Removed { .. }))));
        fs::write(&path, "one").unwrap();
        assert!(matches!(found(), (Err(Displaced::Replaced { .. }), Err(Displaced::Replaced { .. }))));
        fs::rename(&other, &path).unwrap();
        assert!(id.check(&path).is_ok());
    }

    #[test]
    fn a_folder_is_followed_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, link) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("link"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let folder = OpenFolder::open(&link).unwrap();
        assert!(folder.check().is_ok());
        fs::remove_file(&link).unwrap();
        assert!(matches!(folder.check(), Err(Displaced::Removed { .. })));
        std::os::unix::fs::symlink(&two, &link).unwrap();
        assert!(matches!(folder.check(), Err(Displaced::Replaced { .. })));
    }
}
