//! Bounds of every format: the capacity of one index, and the exact length of a file.
//!
//! What flows in: untrusted numbers of a header. What flows out: the same numbers as `usize`, small enough that
//! `rows × dim × bytes` cannot overflow. Nothing here knows a format.

use std::path::Path;

use super::error::DatasetError;
use crate::base::id::NodeId;
use crate::base::local_path::check_local;
use crate::base::mapped_file::MappedFile;

/// The largest supported dimension, far above that of any embedding model.
pub(super) const MAX_DIM: u64 = 65_536;

/// The most columns that are read of a file: an index has room for the sections of that many lists of words.
pub(super) const MAX_COLUMNS: usize = 8_000;

/// Returns the number of rows, if it is at least 1 and within the capacity of one index.
pub(super) fn check_rows(path: &Path, rows: u64) -> Result<usize, DatasetError> {
    let most = NodeId::MAX_NODES as u64;
    match rows {
        0 => Err(DatasetError::NoRows { path: path.to_owned() }),
        _ if rows > most => Err(DatasetError::TooManyRows { path: path.to_owned(), most, found: rows }),
        _ => Ok(rows as usize),
    }
}

/// Returns the number of components per row, if it is from 1 to [`MAX_DIM`].
pub(super) fn check_dim(path: &Path, dim: u64) -> Result<usize, DatasetError> {
    match dim {
        0 => Err(DatasetError::ZeroDimension { path: path.to_owned() }),
        _ if dim > MAX_DIM => {
            Err(DatasetError::DimensionTooLarge { path: path.to_owned(), most: MAX_DIM, found: dim })
        }
        _ => Ok(dim as usize),
    }
}

/// Checks that a file of `found` bytes has exactly `expected` bytes.
pub(super) fn check_size(path: &Path, expected: u64, found: usize) -> Result<(), DatasetError> {
    let found = found as u64;
    match found.cmp(&expected) {
        std::cmp::Ordering::Less => Err(DatasetError::Truncated { path: path.to_owned(), expected, found }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => {
            Err(DatasetError::TrailingBytes { path: path.to_owned(), expected, found })
        }
    }
}

/// Maps a file that is not empty. Only a regular file is opened: to open a named pipe waits for its other end.
pub(super) fn map_file(path: &Path) -> Result<MappedFile, DatasetError> {
    check_local(path).map_err(DatasetError::io(path))?;
    let file = MappedFile::open(path).map_err(DatasetError::io(path))?;
    if file.bytes().is_empty() {
        return Err(DatasetError::EmptyFile { path: path.to_owned() });
    }
    Ok(file)
}

/// Returns the extension of `path` in lower case, or an empty string.
///
/// # Errors
/// If `path` is an address: its extension means nothing.
pub(super) fn extension(path: &Path) -> Result<String, DatasetError> {
    check_local(path).map_err(DatasetError::io(path))?;
    Ok(path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default())
}
