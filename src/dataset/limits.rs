//! Bounds that every format keeps: what one index can hold, and files exactly as long as they say.
//!
//! What flows in: numbers read from a header, not to be trusted. What flows out: the same as `usize`,
//! small enough that `rows × dim × bytes` cannot overflow. Nothing here knows a format.

use std::path::Path;

use super::error::DatasetError;
use crate::base::id::NodeId;

/// The largest dimension read, far above what any embedding model makes.
pub(super) const MAX_DIM: u64 = 65_536;

/// The number of rows, if one index can hold as many.
pub(super) fn check_rows(path: &Path, rows: u64) -> Result<usize, DatasetError> {
    let most = NodeId::MAX_NODES as u64;
    match rows {
        0 => Err(DatasetError::NoRows { path: path.to_owned() }),
        _ if rows > most => Err(DatasetError::TooManyRows { path: path.to_owned(), most, found: rows }),
        _ => Ok(rows as usize),
    }
}

/// The number of components per row, if rows of that size are read.
pub(super) fn check_dim(path: &Path, dim: u64) -> Result<usize, DatasetError> {
    match dim {
        0 => Err(DatasetError::ZeroDimension { path: path.to_owned() }),
        _ if dim > MAX_DIM => {
            Err(DatasetError::DimensionTooLarge { path: path.to_owned(), most: MAX_DIM, found: dim })
        }
        _ => Ok(dim as usize),
    }
}

/// Whether a file of `found` bytes has exactly the `expected` ones.
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

/// The extension of `path` in lower case, empty where there is none.
pub(super) fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}
