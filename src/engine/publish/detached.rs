//! Why the files of an index are no longer those that this process opened.

use crate::base::file_identity::Displaced;
use crate::engine::write::problem::LogProblem;

/// Why the files of an index are no longer those that this process opened: what it writes could not be found again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Detached {
    #[error(transparent)]
    File(#[from] Displaced),
    #[error(transparent)]
    Log(#[from] LogProblem),
}

impl Detached {
    /// Returns whether nothing is there instead: the files may come back as they were.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::File(Displaced::Removed { .. } | Displaced::Unknown { .. })
                | Self::Log(
                    LogProblem::Unknown { .. }
                        | LogProblem::Displaced(Displaced::Removed { .. } | Displaced::Unknown { .. })
                )
        )
    }
}
