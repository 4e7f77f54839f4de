//! Why a filter says nothing about the videos of an index.

use crate::index::AttributeKind;

/// Names of attributes that an error lists.
const LISTED_NAMES: usize = 20;

/// Why a filter gives no set of nodes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MatchError {
    /// Something in the filter is wrong.
    #[error("{path}: {problem}")]
    Invalid {
        /// Where, as in the proto: `filter.must[1].keyword.attribute`.
        path: String,
        /// What.
        problem: FilterProblem,
    },
    /// The generation has nothing to look values up in.
    #[error(
        "this generation was built before filters: expected format version {expected} or later, found {found}; build it \
         again"
    )]
    BuiltBeforeFilters {
        /// The first that can be filtered.
        expected: u32,
        /// Of the generation.
        found: u32,
    },
    /// Whoever asked wants no answer any more.
    #[error("interrupted")]
    Interrupted,
}

/// What is wrong at one place of a filter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FilterProblem {
    /// The index has no such attribute.
    #[error("no attribute {found:?}: expected {expected}")]
    UnknownAttribute {
        /// Those that there are, or the first of them.
        expected: String,
        /// The name asked for.
        found: String,
    },
    /// The condition is for attributes of another type.
    #[error("attribute {attribute:?}: expected type {expected}, found {}", found.name())]
    WrongType {
        /// By name.
        attribute: String,
        /// The types that the condition is for.
        expected: String,
        /// The type of the attribute.
        found: AttributeKind,
    },
    /// A condition without a value would hold for nothing.
    #[error("expected at least one value, found none")]
    NoValues,
    /// A range without bounds would hold for everything.
    #[error("expected at least one bound, found none")]
    NoBounds,
    /// A bound is infinite or not a number.
    #[error("expected a finite number, found {found}")]
    NotFinite {
        /// The bound.
        found: f64,
    },
    /// More conditions are to hold than there are.
    #[error("expected at most {expected}, the number of `should`, found {found}")]
    MinShould {
        /// The conditions of `should`.
        expected: usize,
        /// As given.
        found: usize,
    },
    /// Filters within filters within filters.
    #[error("expected at most {expected} filters in one another")]
    TooDeep {
        /// The most there may be.
        expected: usize,
    },
    /// Too much of something.
    #[error("expected at most {expected} {what} in all, found {found}")]
    TooMany {
        /// `conditions` or `values`.
        what: &'static str,
        /// The most there may be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl FilterProblem {
    /// That an index has no attribute `found`, and the first of those that it has.
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

    pub(super) fn wrong_type(attribute: &str, expected: &[AttributeKind], found: AttributeKind) -> Self {
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
