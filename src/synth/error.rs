//! The errors of writing a sample catalog.

use std::path::PathBuf;

use crate::dataset::DatasetError;

/// The reason why a sample catalog was not written, or only some of its files.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// A size outside the supported range.
    #[error("{parameter}: expected {expected}, found {found}")]
    Params {
        /// The name of the parameter.
        parameter: &'static str,
        /// The supported range.
        expected: &'static str,
        /// The value.
        found: usize,
    },
    /// The caller cancelled it.
    #[error("cancelled; only some of the files were written")]
    Cancelled,
    /// The operating system returned an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        r#source: std::io::Error,
    },
    /// An `.npy` file could not be written.
    #[error(transparent)]
    Npy(#[from] DatasetError),
    /// The Parquet file could not be written.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The error of the parquet crate.
        r#source: parquet::errors::ParquetError,
    },
}
