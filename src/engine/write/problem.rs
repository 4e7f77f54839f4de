//! Why the log of an index has to be opened again.

use std::io;
use std::path::PathBuf;

use crate::base::file_identity::Displaced;
use crate::live::LogError;

/// Why the log of an index has to be opened again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogProblem {
    #[error("the log is not the one that was opened: {0}")]
    Displaced(#[from] Displaced),
    #[error("{}: {source}", path.display())]
    Unknown { path: PathBuf, r#source: io::Error },
    #[error("the log accepts no writes until it is opened again, because a write failed: {0}")]
    Failed(String),
    #[error("another process has created the log {}", path.display())]
    Foreign { path: PathBuf },
    #[error("the writer of the log stopped")]
    Stopped,
    #[error("the log can be written to now")]
    Permitted,
    #[error("{0}")]
    Ended(LogError),
    #[error("{0}")]
    Closed(String),
}
