//! The bytes of a log, copied while another process may write to it.
//!
//! A transaction of redb writes to pages that the last one does not use, and then changes the header. As long as the header is
//! the same before and after a copy, the copy has all pages of the last transaction as it wrote them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::disk::HEAD_BYTES;
use super::error::LogError;
use crate::base::file_identity::FileStamp;

/// How often a copy is begun. A writer commits a few hundred times per second at most, and a log is copied at about a
/// gigabyte per second.
const ATTEMPTS: usize = 1000;

/// A copy of the file of a log.
pub(super) struct Copied {
    pub(super) bytes: Vec<u8>,
    /// Of the file when it was copied.
    pub(super) stamp: FileStamp,
}

impl Copied {
    /// Copies a file that nobody writes to.
    pub(super) fn of(path: &Path, file: &File) -> Result<Self, LogError> {
        let metadata = file.metadata().map_err(LogError::io(path))?;
        check_not_empty(path, metadata.len())?;
        let mut bytes = Vec::new();
        let mut rest = file;
        io::Read::read_to_end(&mut rest, &mut bytes).map_err(LogError::io(path))?;
        Ok(Self { bytes, stamp: FileStamp::of(&metadata) })
    }

    /// Copies a file that another process may write to.
    ///
    /// # Errors
    /// [`LogError::InUse`] if it was changed during every attempt.
    pub(super) fn beside_writer(path: &Path, file: &File) -> Result<Self, LogError> {
        for _ in 0..ATTEMPTS {
            let before = head(file).map_err(LogError::io(path))?;
            let metadata = file.metadata().map_err(LogError::io(path))?;
            check_not_empty(path, metadata.len())?;
            let length =
                usize::try_from(metadata.len()).map_err(io::Error::other).map_err(LogError::io(path))?;
            let mut bytes = vec![0; length];
            match file.read_exact_at(&mut bytes, 0) {
                Ok(()) => {}
                // It was made shorter meanwhile.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(LogError::io(path)(error)),
            }
            let is_copied = bytes.starts_with(&before);
            if is_copied && head(file).map_err(LogError::io(path))? == before {
                return Ok(Self { bytes, stamp: FileStamp::of(&metadata) });
            }
        }
        Err(LogError::InUse { path: path.to_owned() })
    }
}

/// The header of a log, which every transaction changes. It is shorter if the file is.
pub(super) fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let mut length = 0;
    while length < HEAD_BYTES {
        match file.read_at(&mut head[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    head.truncate(length);
    Ok(head)
}

/// Checks that a file has bytes.
pub(super) fn check_not_empty(path: &Path, bytes: u64) -> Result<(), LogError> {
    if bytes > 0 {
        return Ok(());
    }
    let problem = "expected a log, found an empty file".to_owned();
    Err(LogError::ForeignFile { path: path.to_owned(), problem })
}
