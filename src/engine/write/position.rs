//! Whether the log of an index continues where a generation ends.

use crate::index::Index;
use crate::live::MutationLog;

/// The log position of a generation compared with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// The log has every entry that the generation lacks.
    Fits,
    /// Entries between the two are neither in the generation nor, any more, in the log.
    BeforeLog { position: u64, trimmed_to: u64 },
    /// The generation contains entries that the log never had: later entries would be taken for them.
    BeyondLog { position: u64, last: u64 },
}

impl Position {
    pub(crate) fn of(index: &Index, log: Option<&dyn MutationLog>) -> Self {
        let position = index.metadata().log_sequence;
        match log {
            Some(log) if position > log.last_sequence() => {
                Position::BeyondLog { position, last: log.last_sequence() }
            }
            Some(log) if position < log.trimmed_to() => {
                Position::BeforeLog { position, trimmed_to: log.trimmed_to() }
            }
            _ => Position::Fits,
        }
    }

    /// Returns what is wrong. `is_forced` accepts lost entries, but not mistaken ones.
    pub(crate) fn problem(self, is_forced: bool) -> Option<String> {
        match self {
            Position::BeforeLog { position, trimmed_to } if !is_forced => Some(format!(
                "expected a log position of at least {trimmed_to}, found {position}: the writes between the two would \
                 be lost, because the log starts after {trimmed_to}; build from files that contain them, with the log \
                 sequence of those files"
            )),
            Position::BeyondLog { position, last } => Some(format!(
                "expected a log position of at most {last}, the last write to the index, found {position}"
            )),
            Position::Fits | Position::BeforeLog { .. } => None,
        }
    }
}
