//! Why a build fails.

use std::path::PathBuf;

use super::params::ParamsError;
use crate::attributes::AttributeError;
use crate::dataset::DatasetError;
use crate::index::IndexError;
use crate::index::StoreError;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A parameter is out of its range.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The training queries have another dimension than the catalog.
    #[error("{}: expected {expected} dimensions as in the catalog, found {found}", path.display())]
    TrainingDimension {
        /// The file.
        path: PathBuf,
        /// The dimension of the catalog.
        expected: usize,
        /// The dimension of the training queries.
        found: usize,
    },
    /// The training queries cannot be read, or are not finite.
    #[error(transparent)]
    Training(#[from] DatasetError),
    /// An attribute column is invalid.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The generation could not be written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The generation could not be published.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The compute threads could not be started.
    #[error("cannot start the build threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The build was cancelled; nothing was published.
    #[error("the build was cancelled; nothing was published")]
    Cancelled,
}
