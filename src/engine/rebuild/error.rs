//! Why a rebuild failed.

#[cfg(feature = "cluster")]
use std::path::PathBuf;

use crate::build::{BuildError, ParamsError};
use crate::dataset::DatasetError;
use crate::index::StoreError;
use crate::live::RowsError;

/// Why a rebuild failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebuildError {
    #[error(transparent)]
    Rows(#[from] RowsError),
    #[error("training queries: {0}")]
    Training(#[from] DatasetError),
    #[error("the embeddings of the current generation: {0}")]
    Embeddings(DatasetError),
    #[cfg(feature = "cluster")]
    #[error("{}: expected the {what} {expected}, as the first shard has it, found {found}", path.display())]
    Mixed { path: PathBuf, what: &'static str, expected: String, found: String },
    #[error(transparent)]
    Params(#[from] ParamsError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Why a finished build does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("not published: another generation has become current since the rebuild began")]
    Superseded,
    #[error("not published: {0}")]
    Detached(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("generation {generation} was published, but does not answer: {problem}")]
    Refused { generation: u64, problem: String },
}
