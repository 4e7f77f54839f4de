//! Why a bucket cannot be read or written, or what is wrong with an object.

use std::io;
use std::path::{Path, PathBuf};

use super::location::LocationError;
use crate::index::{IndexError, StoreError};
use crate::live::LogError;

/// Why a bucket cannot be read or written, or what is wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The location is not one of a bucket.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The store did not answer, or answered with an error.
    #[error("{url}: {problem}")]
    Unreachable {
        /// The bucket or the object.
        url: String,
        /// The error of the client.
        problem: String,
    },
    /// The credentials do not suffice, or there are none.
    #[error("{url}: not permitted: {problem}")]
    Forbidden {
        /// The bucket or the object.
        url: String,
        /// The error of the client.
        problem: String,
    },
    /// The store ignores `If-None-Match: *`, so one publisher would overwrite what another published.
    #[error(
        "{url}: the store lets two creators win: expected that the second of two writes with If-None-Match: * is refused, found \
         that both succeed; no index can be kept there"
    )]
    TwoCreators {
        /// The bucket.
        url: String,
    },
    /// There is no such object.
    #[error("{url}: there is no such object")]
    Missing {
        /// The object.
        url: String,
    },
    /// The bucket contains no manifest.
    #[error("{url}: no index here: the bucket contains no manifest")]
    Empty {
        /// The bucket.
        url: String,
    },
    /// The bucket contains no backup of this number, or none at all.
    #[error("{url}: no backup {expected} here; available: {available:?}")]
    NoBackup {
        /// The bucket.
        url: String,
        /// The number, or a word for any.
        expected: String,
        /// The numbers of the backups.
        available: Vec<u64>,
    },
    /// An object has more bytes than are read of its kind.
    #[error("{url}: expected at most {expected} bytes, found {found}")]
    TooLong {
        /// The object.
        url: String,
        /// The limit.
        expected: u64,
        /// Its length.
        found: u64,
    },
    /// An object has another length than its manifest says.
    #[error("{url}: expected {expected} bytes, found {found}")]
    WrongLength {
        /// The object.
        url: String,
        /// The length by the manifest.
        expected: u64,
        /// Its length.
        found: u64,
    },
    /// The contents of an object are not what they should be.
    #[error("{url}: {problem}")]
    Damaged {
        /// The object.
        url: String,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// A bucket has more objects than are read.
    #[error("{url}: expected at most {most} objects, found more")]
    TooMany {
        /// The bucket.
        url: String,
        /// The limit.
        most: usize,
    },
    /// The newest generation contains writes that one to publish lacks.
    #[error(
        "{url}: not published: expected no generation with writes after {log_sequence}, found generation {generation} up to write {found}"
    )]
    Overtaken {
        /// The bucket.
        url: String,
        /// The last write that the one to publish contains.
        log_sequence: u64,
        /// The newest generation.
        generation: u64,
        /// The last write that it contains.
        found: u64,
    },
    /// Other publishers took every number that was tried.
    #[error("{url}: no free number after {attempts} attempts")]
    Contended {
        /// The bucket.
        url: String,
        /// How many were tried.
        attempts: usize,
    },
    /// The cache has a generation of the same number that is not the one in the bucket.
    #[error(
        "{}: not the generation in the bucket: expected the file of {url}, found another; the cache folder must belong to \
         one bucket, and be removed if the bucket was", path.display()
    )]
    Foreign {
        /// The file in the cache.
        path: PathBuf,
        /// The object.
        url: String,
    },
    /// A folder that is to be filled has files already.
    #[error("{}: expected a folder without an index, found {found}", dir.display())]
    InTheWay {
        /// The folder.
        dir: PathBuf,
        /// The file that is there.
        found: String,
    },
    /// The disk has no room for the rest of a file.
    #[error("{}: the disk is full: expected {needed} free bytes, found {free}", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The bytes that are missing of it, and a margin.
        needed: u64,
        /// The bytes that are free.
        free: u64,
    },
    /// Another process downloads to the same file.
    #[error("{}: another process downloads to this folder", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The operating system reported an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        r#source: io::Error,
    },
    /// The log and the generation do not fit.
    #[error("{}: {problem}", path.display())]
    Inconsistent {
        /// The folder of the index.
        path: PathBuf,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// A folder cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A generation in a folder cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The work was stopped.
    #[error("stopped")]
    Stopped,
}

impl BucketError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// The error of the client for an object or a bucket at `url`.
    pub(super) fn of_client(url: String, error: &object_store::Error) -> Self {
        use object_store::Error;
        match error {
            Error::NotFound { .. } => Self::Missing { url },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Self::Forbidden { url, problem: error.to_string() }
            }
            _ if is_forbidden(error) => Self::Forbidden { url, problem: error.to_string() },
            _ => Self::Unreachable { url, problem: error.to_string() },
        }
    }

    /// Returns whether an object is at fault, and not the way to it: another object may be sound.
    pub fn is_defect(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::TooLong { .. }
                | Self::WrongLength { .. }
                | Self::Damaged { .. }
                | Self::Foreign { .. }
        )
    }
}

/// Returns whether the operating system does not permit it: for a folder that is used like a bucket.
fn is_forbidden(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)) {
            return true;
        }
        cause = error.source();
    }
    false
}
