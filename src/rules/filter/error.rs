//! Errors in a filter, relative to the index that it is evaluated on.

use crate::index::AttributeKind;

/// Maximum number of attribute names that an error lists.
const LISTED_NAMES: usize = 20;

/// Why a filter could not be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MatchError {
    /// The filter is invalid for this index.
    #[error("filter{}{path}: {problem}", if path.is_empty() { "" } else { "." })]
    Invalid {
        /// The place within the filter, such as `must[1].keyword.attribute`; empty for the whole filter.
        path: String,
        /// The error at that path.
        problem: FilterProblem,
    },
    /// The format of the generation predates filters.
    #[error(
        "this generation was built before filters: expected format version {expected} or later, found {found}; build it \
         again"
    )]
    BuiltBeforeFilters {
        /// The first format version with filters.
        expected: u32,
        /// Format version of the generation.
        found: u32,
    },
    /// The request was cancelled or is out of time.
    #[error("interrupted")]
    Interrupted,
}

/// The error at one place in a filter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FilterProblem {
    /// The index has no such attribute.
    #[error("no attribute {found:?}: expected {expected}")]
    UnknownAttribute {
        /// The attributes of the index, or the first of them.
        expected: String,
        /// The name in the filter.
        found: String,
    },
    /// The condition is for attributes of another type.
    #[error("attribute {attribute:?}: expected type {expected}, found {}", found.name())]
    WrongType {
        /// Name of the attribute.
        attribute: String,
        /// The types that the condition applies to.
        expected: String,
        /// The type of the attribute.
        found: AttributeKind,
    },
    /// A condition without values, which would match nothing.
    #[error("expected at least one value, found none")]
    NoValues,
    /// A range without bounds, which would match every value.
    #[error("expected at least one bound, found none")]
    NoBounds,
    /// A bound is infinite or not a number.
    #[error("expected a finite number, found {found}")]
    NotFinite {
        /// The bound.
        found: f64,
    },
    /// `min_should` exceeds the number of conditions in `should`.
    #[error("expected at most {expected}, the number of `should`, found {found}")]
    MinShould {
        /// Number of conditions in `should`.
        expected: usize,
        /// As given.
        found: usize,
    },
    /// Filters are nested too deeply.
    #[error("expected at most {expected} nested filters")]
    TooDeep {
        /// The maximum.
        expected: usize,
    },
    /// Too many conditions or values.
    #[error("expected at most {expected} {what} in all, found {found}")]
    TooMany {
        /// `conditions` or `values`.
        what: &'static str,
        /// The maximum.
        expected: usize,
        /// The number found.
        found: usize,
    },
}

impl FilterProblem {
    /// Returns the error that an index has no attribute `found`; it lists the first of the `known` attributes.
    pub(crate) fn unknown_attribute<'a>(found: &str, known: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let more = known.len().saturating_sub(LISTED_NAMES);
        let mut expected = known.take(LISTED_NAMES).collect::<Vec<_>>().join(", ");
        match (expected.is_empty(), more) {
            (true, _) => expected.push_str("none, since the index has no attributes"),
            (false, 0) => expected.insert_str(0, "one of "),
            (false, more) => expected = format!("one of {expected} and {more} more"),
        }
        FilterProblem::UnknownAttribute { expected, found: found.to_owned() }
    }

    /// Returns the error that `attribute` has a type that the condition does not apply to.
    pub(crate) fn wrong_type(attribute: &str, expected: &[AttributeKind], found: AttributeKind) -> Self {
        let expected = expected.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" or ");
        FilterProblem::WrongType { attribute: attribute.to_owned(), expected, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_lists_a_bounded_number_of_names() {
        let names: Vec<String> = (0..5_000).map(|column| format!("c{column}")).collect();
        let problem = |columns: usize| {
            FilterProblem::unknown_attribute("x", names[..columns].iter().map(String::as_str)).to_string()
        };
        assert_eq!(problem(0), "no attribute \"x\": expected none, since the index has no attributes");
        assert_eq!(problem(2), "no attribute \"x\": expected one of c0, c1");
        assert!(problem(20).ends_with(", c18, c19"), "{}", problem(20));
        assert!(problem(5_000).ends_with(", c18, c19 and 4980 more"), "{}", problem(5_000));
    }
}
