//! What was decided about the copy of a generation in memory, between two refreshes.

use std::time::Instant;

/// What was decided about a copy of the current generation.
#[derive(Debug, Default)]
pub(super) struct ResidenceProgress {
    /// Whether nothing is left to decide: a copy was made or tried because one is configured, or the generation is
    /// damaged.
    pub(super) is_settled: bool,
    /// Why the generation stays where it is, as last reported.
    pub(super) reported: Option<Stays>,
    /// Nothing is copied before this.
    pub(super) not_before: Option<Instant>,
}

/// Why a generation stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// There is not enough memory for a copy.
    NotCopied,
    /// The copy failed.
    Mapped,
    /// The file cannot be mapped again.
    Resident,
}

impl ResidenceProgress {
    /// Another generation was swapped in. A shortage of memory outlasts that.
    pub(super) fn begin_generation(&mut self) {
        *self = Self { not_before: self.not_before, ..Self::default() };
    }

    /// Returns whether this is to be reported: it is another reason than before.
    pub(super) fn is_new(&mut self, stays: Stays) -> bool {
        self.reported.replace(stays) != Some(stays)
    }
}
