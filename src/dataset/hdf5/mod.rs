//! HDF5 files of public benchmarks, as ann-benchmarks writes them.
//!
//! What flows in: a path. What flows out: the rows to index, the queries, and their exact neighbors. Nothing here knows
//! what is measured.
//!
//! ```text
//! /train      [rows × dim]       embeddings to index
//! /test       [queries × dim]    query embeddings
//! /neighbors  [queries × k]      row numbers of train, best first; optional
//! attribute distance             angular, euclidean, dot or ip; optional
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `parts.rs`  | what is read of a file |
//! | `decode.rs` | one file: what reading it may cost, the numbers of each dataset |
//!
//! Without the feature `hdf5`, only `parts.rs` is compiled, and every file is refused.

#[cfg(feature = "hdf5")]
mod decode;
mod parts;

use std::path::Path;

#[cfg(not(feature = "hdf5"))]
use self::parts::Part;
use super::error::DatasetError;
use super::limits::extension;
#[cfg(not(feature = "hdf5"))]
use super::table::Matrix;
use crate::base::metric::Metric;

/// Whether the extension is that of HDF5.
pub(super) fn is_hdf5(extension: &str) -> bool {
    matches!(extension, "hdf5" | "h5")
}

/// Returns the metric that a file of embeddings names, which only HDF5 files can do.
///
/// # Errors
/// [`DatasetError`] if an HDF5 file cannot be read, or names a distance that is not supported.
pub fn metric_of(path: &Path) -> Result<Option<Metric>, DatasetError> {
    if is_hdf5(&extension(path)?) { read_metric(path) } else { Ok(None) }
}

#[cfg(feature = "hdf5")]
use self::decode::read_metric;
#[cfg(feature = "hdf5")]
pub(super) use self::decode::{read, read_train};
pub(super) use self::parts::Parts;

#[cfg(not(feature = "hdf5"))]
fn without<T>(path: &Path) -> Result<T, DatasetError> {
    Err(DatasetError::WithoutHdf5 { path: path.to_owned() })
}

#[cfg(not(feature = "hdf5"))]
pub(super) fn read(path: &Path) -> Result<Parts, DatasetError> {
    without(path)
}

#[cfg(not(feature = "hdf5"))]
fn read_metric(path: &Path) -> Result<Option<Metric>, DatasetError> {
    without(path)
}

#[cfg(not(feature = "hdf5"))]
pub(super) fn read_train(path: &Path) -> Result<Part<Matrix>, DatasetError> {
    without(path)
}
