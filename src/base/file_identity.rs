//! Whether a path still leads to the file that was opened.
//!
//! A process that holds a file open goes on writing to it after the file is removed, moved or replaced: nobody finds
//! these bytes again. Device and inode of the path tell. The file must stay open (or mapped) meanwhile, or its inode
//! could be given to another file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, unlinkat};

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
    open: File,
}

impl OpenFolder {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let open = File::open(path)?;
        let id = FileId::of(&open.metadata()?);
        Ok(Self { path: path.to_owned(), id, open })
    }

    /// The path that it was opened at.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the path still leads to this folder.
    ///
    /// # Errors
    /// [`Displaced`].
    pub fn check(&self) -> Result<(), Displaced> {
        self.id.check(&self.path)
    }

    /// Removes the file `name` of this folder, if the path still leads to it. Never removes a file of another folder that
    /// takes the path meanwhile.
    ///
    /// # Errors
    /// If the path leads to another folder, or the file cannot be removed.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        self.check().map_err(io::Error::other)?;
        Ok(unlinkat(&self.open, name, AtFlags::empty())?)
    }
}

/// The files of a folder by name, each with what every change leaves behind, also one of its permissions. Temporary files,
/// whose names start with a dot, do not count.
#[derive(Debug, PartialEq, Eq)]
pub struct FolderStamp(BTreeMap<OsString, Option<ChangeStamp>>);

/// A file, and when its contents or its attributes changed last, in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChangeStamp {
    file: FileStamp,
    changed: (i64, i64),
}

impl FolderStamp {
    /// Returns the stamp of the folder `dir`.
    ///
    /// # Errors
    /// If it or one of its files cannot be read. A link may lead nowhere.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let mut stamps = BTreeMap::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let stamp = match std::fs::metadata(entry.path()) {
                Ok(found) => {
                    let changed = (found.ctime(), found.ctime_nsec());
                    Some(ChangeStamp { file: FileStamp::of(&found), changed })
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            stamps.insert(name, stamp);
        }
        Ok(Self(stamps))
    }

    /// Returns whether the folder is as it was at the time of `before`. The file `rewritten` may have other contents.
    pub fn is_as_before(&self, before: &Self, rewritten: &OsStr) -> bool {
        let id = |stamp: &Option<ChangeStamp>| stamp.map(|stamp| stamp.file.id);
        self.0.len() == before.0.len()
            && self.0.iter().zip(&before.0).all(|((name, stamp), (name_before, stamp_before))| {
                name == name_before
                    && (stamp == stamp_before || name == rewritten && id(stamp) == id(stamp_before))
            })
    }
}

/// Returns whether there is something at `path`. Only what the operating system calls not found is absent: a file on a disk
/// that is not mounted, or in a folder that cannot be read, may come back.
///
/// # Errors
/// If the operating system does not say, or a link is there that leads nowhere.
pub fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => std::fs::metadata(path).map(|_| true).map_err(|error| {
            io::Error::new(error.kind(), format!("a link that cannot be followed: {error}"))
        }),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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

    #[test]
    fn only_what_is_not_found_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("a"), dir.path().join("target"));
        assert!(!is_there(&path).unwrap());
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let error = is_there(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("a link that cannot be followed: "), "{error}");
        fs::write(&target, "one").unwrap();
        assert!(is_there(&path).unwrap());
        assert!(is_there(&target.join("b")).is_err(), "below a file");
        fs::remove_file(&target).unwrap();
        fs::rename(&path, &target).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        fs::remove_file(&target).unwrap();
        std::os::unix::fs::symlink(&path, &target).unwrap();
        assert!(is_there(&path).is_err(), "a link to itself");
    }

    #[test]
    fn a_folder_stamp_sees_every_change_but_that_of_a_file_that_is_rewritten() {
        use std::os::unix::fs::PermissionsExt;
        type Change = fn(&Path);
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = (dir.path().join("a"), dir.path().join("log"));
        let stamp = || FolderStamp::of(dir.path()).unwrap();
        let is_as_before = |before: &FolderStamp| stamp().is_as_before(before, OsStr::new("log"));
        fs::write(&path, "one").unwrap();
        fs::write(&log, "one").unwrap();
        let before = stamp();
        fs::write(dir.path().join(".staged"), "one").unwrap();
        assert_eq!(stamp(), before);
        fs::write(&log, "longer").unwrap();
        assert!(stamp() != before && is_as_before(&before));
        let copy = dir.path().join(".copy");
        fs::copy(&log, &copy).unwrap();
        fs::rename(copy, &log).unwrap();
        assert!(!is_as_before(&before), "another log");
        let changes: [(&str, Change); 4] = [
            ("permissions", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap()),
            ("contents", |path| fs::write(path, "longer").unwrap()),
            ("removal", |path| fs::remove_file(path).unwrap()),
            ("a link", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
        ];
        for (name, change) in changes {
            let before = stamp();
            // The clock of a file system has ticks.
            while stamp() == before {
                change(&path);
                if !path.exists() {
                    break;
                }
            }
            assert!(!is_as_before(&before), "{name}");
        }
    }

    #[test]
    fn a_file_is_removed_from_the_folder_that_was_opened_only() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, link) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("link"));
        for folder in [&one, &two] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("a"), "x").unwrap();
            fs::write(folder.join("b"), "x").unwrap();
        }
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let folder = OpenFolder::open(&link).unwrap();
        folder.remove_file(OsStr::new("a")).unwrap();
        assert!(!one.join("a").exists() && two.join("a").exists());
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&two, &link).unwrap();
        let error = folder.remove_file(OsStr::new("b")).unwrap_err();
        assert!(error.to_string().contains("replaced"), "{error}");
        assert!(one.join("b").exists() && two.join("b").exists());
    }
}
