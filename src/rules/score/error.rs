//! Errors in terms.

use crate::rules::{FilterProblem, MatchError};

/// The part of a term that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermField {
    /// All terms together.
    All,
    /// The attribute.
    Attribute,
    /// The weight.
    Weight,
    /// The form as a whole.
    Form,
}

/// Why the score terms of a request cannot be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("score_terms[{position}]: {problem}")]
pub struct TermError {
    /// Which term; 0 for all of them together.
    pub position: usize,
    /// Which part of it.
    pub field: TermField,
    /// What is wrong.
    pub problem: TermProblem,
}

/// What is wrong with a term.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TermProblem {
    /// More terms than a request may have.
    #[error("expected at most {expected} score terms, found {found}")]
    TooMany {
        /// The maximum.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// The attribute is unknown, or of another type.
    #[error(transparent)]
    Attribute(FilterProblem),
    /// A weight that is not finite, or too large.
    #[error("expected a weight of at most {expected:e}, found {found}")]
    Weight {
        /// The maximum.
        expected: f64,
        /// As given.
        found: f64,
    },
    /// Bounds of a clamp that do not ascend, or are not finite.
    #[error("expected finite numbers, from below to, found {from} and {to}")]
    Clamp {
        /// As given.
        from: f64,
        /// As given.
        to: f64,
    },
    /// A half-life or a window of no length.
    #[error("expected more than 0 s, found {found:#}")]
    Duration {
        /// As given.
        found: jiff::SignedDuration,
    },
    /// No keyword, or too many of them.
    #[error("expected 1 to {most} keywords, found {found}")]
    Keywords {
        /// The maximum.
        most: usize,
        /// The number found.
        found: usize,
    },
}

/// Why terms cannot be bound to an index.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BindError {
    /// A term is invalid for this index.
    #[error(transparent)]
    Invalid(#[from] TermError),
    /// The nodes of keywords could not be found.
    #[error(transparent)]
    Keywords(MatchError),
}
