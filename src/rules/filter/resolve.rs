//! Validates a filter and binds its attribute names to the columns of an open index.

use std::cmp::Ordering;
use std::ops::{Bound, Range};

use jiff::Timestamp;

use super::conditions::{Condition, Filter, Number, Time};
use super::error::{FilterProblem, MatchError};
use super::number::compare;
use crate::attributes::{Columns, Postings, Scalar, Sorted, Words};
use crate::base::id::VideoId;
use crate::index::{AttributeKind, FILTER_VERSION};

const NUMBERS: [AttributeKind; 3] = [AttributeKind::Int64, AttributeKind::Uint64, AttributeKind::Double];

/// A valid [`Filter`], bound to an index.
pub(super) struct Tree<'a> {
    pub(super) must: Vec<Resolved<'a>>,
    pub(super) should: Vec<Resolved<'a>>,
    pub(super) must_not: Vec<Resolved<'a>>,
    /// At most the number of `should`.
    pub(super) min_should: usize,
}

/// A [`Condition`] bound to the sections that contain its values.
pub(super) enum Resolved<'a> {
    Tree(Tree<'a>),
    /// At least one of `any_of`, unless that is empty, and every one of `all_of`.
    Words {
        words: Words<'a>,
        any_of: &'a [String],
        all_of: &'a [String],
    },
    Range {
        sorted: Sorted<'a>,
        positions: Range<usize>,
    },
    Bool {
        bools: Postings<'a>,
        value: bool,
    },
    IsNull {
        column: usize,
    },
    Videos(&'a [VideoId]),
}

/// Binds a filter to the columns of an index.
///
/// # Errors
/// [`MatchError::Invalid`] for the first problem, or [`MatchError::BuiltBeforeFilters`].
pub(super) fn resolve<'a>(
    filter: &'a Filter,
    columns: &Columns<'a>,
    now: Timestamp,
) -> Result<Tree<'a>, MatchError> {
    let found = columns.index().format_version();
    if found < FILTER_VERSION {
        return Err(MatchError::BuiltBeforeFilters { expected: FILTER_VERSION, found });
    }
    let tree = check_size(filter).and_then(|()| Resolver { columns, now }.tree(filter, 1));
    tree.map_err(|Refusal { path, problem }| MatchError::Invalid { path, problem })
}

/// A problem and its path, relative to the place under validation.
struct Refusal {
    path: String,
    problem: FilterProblem,
}

impl Refusal {
    /// The same, seen from the place that contains `place`.
    fn within(self, place: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{place}{dot}{}", self.path), problem: self.problem }
    }
}

impl FilterProblem {
    /// A refusal of the place under validation.
    fn here(self) -> Refusal {
        Refusal { path: String::new(), problem: self }
    }

    /// A refusal of `place` below it.
    fn at(self, place: &str) -> Refusal {
        self.here().within(place)
    }
}

/// Checks the limits on conditions and values.
fn check_size(filter: &Filter) -> Result<(), Refusal> {
    let (mut conditions, mut values) = (0, 0);
    let mut filters = vec![filter];
    while let Some(Filter { must, should, must_not, .. }) = filters.pop() {
        for condition in must.iter().chain(should).chain(must_not) {
            conditions += 1;
            match condition {
                Condition::Filter(filter) => filters.push(filter),
                Condition::Keyword { any_of, .. } => values += any_of.len(),
                Condition::List { any_of, all_of, .. } => values += any_of.len() + all_of.len(),
                Condition::VideoId { any_of } => values += any_of.len(),
                Condition::Number { .. }
                | Condition::Time { .. }
                | Condition::Bool { .. }
                | Condition::IsNull { .. } => {}
            }
        }
    }
    for (what, found, expected) in
        [("conditions", conditions, Filter::MAX_CONDITIONS), ("values", values, Filter::MAX_VALUES)]
    {
        if found > expected {
            return Err(FilterProblem::TooMany { what, expected, found }.here());
        }
    }
    Ok(())
}

struct Resolver<'a, 'c> {
    columns: &'c Columns<'a>,
    now: Timestamp,
}

impl<'a> Resolver<'a, '_> {
    fn tree(&self, filter: &'a Filter, depth: usize) -> Result<Tree<'a>, Refusal> {
        if depth > Filter::MAX_DEPTH {
            return Err(FilterProblem::TooDeep { expected: Filter::MAX_DEPTH }.here());
        }
        let clause = |name: &str, conditions: &'a [Condition]| {
            let resolved = conditions.iter().enumerate().map(|(at, condition)| {
                self.condition(condition, depth).map_err(|refusal| refusal.within(&format!("{name}[{at}]")))
            });
            resolved.collect::<Result<Vec<_>, _>>()
        };
        let must = merged(clause("must", &filter.must)?);
        let should = clause("should", &filter.should)?;
        let must_not = clause("must_not", &filter.must_not)?;
        let expected = should.len();
        let min_should = filter.min_should.unwrap_or(expected.min(1));
        if min_should > expected {
            return Err(FilterProblem::MinShould { expected, found: min_should }.at("min_should"));
        }
        Ok(Tree { must, should, must_not, min_should })
    }

    fn condition(&self, condition: &'a Condition, depth: usize) -> Result<Resolved<'a>, Refusal> {
        let resolved = match condition {
            Condition::Filter(filter) => self.tree(filter, depth + 1).map(Resolved::Tree),
            Condition::Keyword { attribute, any_of } => self.keyword(attribute, any_of),
            Condition::List { attribute, any_of, all_of } => self.list(attribute, any_of, all_of),
            Condition::Number { attribute, lower, upper } => self.number(attribute, *lower, *upper),
            Condition::Time { attribute, lower, upper } => self.time(attribute, *lower, *upper),
            Condition::Bool { attribute, value } => {
                let bools = self.attribute(attribute, &[AttributeKind::Bool], Columns::bools);
                bools.map(|bools| Resolved::Bool { bools, value: *value })
            }
            Condition::IsNull { attribute } => self.find(attribute).map(|column| Resolved::IsNull { column }),
            Condition::VideoId { any_of } => nonempty(any_of, "any_of").map(Resolved::Videos),
        };
        resolved.map_err(|refusal| refusal.within(condition.kind()))
    }

    fn keyword(&self, attribute: &str, any_of: &'a [String]) -> Result<Resolved<'a>, Refusal> {
        let words = self.attribute(attribute, &[AttributeKind::Keyword], Columns::words)?;
        Ok(Resolved::Words { words, any_of: nonempty(any_of, "any_of")?, all_of: &[] })
    }

    fn list(
        &self,
        attribute: &str,
        any_of: &'a [String],
        all_of: &'a [String],
    ) -> Result<Resolved<'a>, Refusal> {
        let words = self.attribute(attribute, &[AttributeKind::KeywordList], Columns::words)?;
        if any_of.is_empty() && all_of.is_empty() {
            return Err(FilterProblem::NoValues.here());
        }
        Ok(Resolved::Words { words, any_of, all_of })
    }

    fn number(
        &self,
        attribute: &str,
        lower: Bound<Number>,
        upper: Bound<Number>,
    ) -> Result<Resolved<'a>, Refusal> {
        let sorted = self.attribute(attribute, &NUMBERS, Columns::sorted)?;
        for (bound, names) in [(lower, ["gte", "gt"]), (upper, ["lte", "lt"])] {
            let (number, name) = match bound {
                Bound::Included(number) => (number, names[0]),
                Bound::Excluded(number) => (number, names[1]),
                Bound::Unbounded => continue,
            };
            if let Number::Double(found) = number
                && !found.is_finite()
            {
                return Err(FilterProblem::NotFinite { found }.at(name));
            }
        }
        let stored = |scalar| match scalar {
            Scalar::Int64(value) | Scalar::Micros(value) => Number::Int64(value),
            Scalar::Uint64(value) => Number::Uint64(value),
            Scalar::Double(value) => Number::Double(value),
        };
        range(sorted, lower, upper, |scalar, bound| compare(stored(scalar), bound))
    }

    fn time(&self, attribute: &str, lower: Bound<Time>, upper: Bound<Time>) -> Result<Resolved<'a>, Refusal> {
        let sorted = self.attribute(attribute, &[AttributeKind::Timestamp], Columns::sorted)?;
        let nanos = |time| nanos(time, self.now);
        range(sorted, lower.map(nanos), upper.map(nanos), |scalar, bound| match scalar {
            Scalar::Micros(value) => (i128::from(value) * 1000).cmp(&bound),
            Scalar::Int64(_) | Scalar::Uint64(_) | Scalar::Double(_) => Ordering::Greater,
        })
    }

    fn find(&self, attribute: &str) -> Result<usize, Refusal> {
        self.columns.find(attribute).ok_or_else(|| {
            let known = self.columns.schema().iter().map(|schema| schema.name.as_str());
            FilterProblem::unknown_attribute(attribute, known).at("attribute")
        })
    }

    /// Binds an attribute with `bind`, after checking that its type is one of `expected`.
    fn attribute<T>(
        &self,
        name: &str,
        expected: &[AttributeKind],
        bind: impl Fn(&Columns<'a>, usize) -> Option<T>,
    ) -> Result<T, Refusal> {
        let column = self.find(name)?;
        let found = self.columns.schema()[column].kind;
        let bound = if expected.contains(&found) { bind(self.columns, column) } else { None };
        bound.ok_or_else(|| FilterProblem::wrong_type(name, expected, found).at("attribute"))
    }
}

/// Intersects the ranges on the same column in a conjunction, as in `a <= x and x < b`.
fn merged(conditions: Vec<Resolved<'_>>) -> Vec<Resolved<'_>> {
    let mut merged: Vec<Resolved<'_>> = Vec::with_capacity(conditions.len());
    for condition in conditions {
        let Resolved::Range { sorted, positions } = &condition else {
            merged.push(condition);
            continue;
        };
        let same = merged.iter_mut().find_map(|other| match other {
            Resolved::Range { sorted: known, positions } if known.is_same(sorted) => Some(positions),
            _ => None,
        });
        match same {
            Some(known) => {
                known.start = known.start.max(positions.start);
                known.end = known.end.min(positions.end).max(known.start);
            }
            None => merged.push(condition),
        }
    }
    merged
}

/// Returns the values of the field `name`, or refuses an empty list.
fn nonempty<'a, T>(values: &'a [T], name: &str) -> Result<&'a [T], Refusal> {
    if values.is_empty() { Err(FilterProblem::NoValues.at(name)) } else { Ok(values) }
}

/// Binds bounds to positions in the sorted values of a column.
fn range<'a, B: Copy>(
    sorted: Sorted<'a>,
    lower: Bound<B>,
    upper: Bound<B>,
    compare: impl Fn(Scalar, B) -> Ordering,
) -> Result<Resolved<'a>, Refusal> {
    let below = |bound| sorted.position(|scalar| compare(scalar, bound).is_lt());
    let up_to = |bound| sorted.position(|scalar| compare(scalar, bound).is_le());
    let positions = match (lower, upper) {
        (Bound::Unbounded, Bound::Unbounded) => return Err(FilterProblem::NoBounds.here()),
        (lower, upper) => {
            let start = match lower {
                Bound::Included(bound) => below(bound),
                Bound::Excluded(bound) => up_to(bound),
                Bound::Unbounded => 0,
            };
            let end = match upper {
                Bound::Included(bound) => up_to(bound),
                Bound::Excluded(bound) => below(bound),
                Bound::Unbounded => sorted.len(),
            };
            start..end.max(start)
        }
    };
    Ok(Resolved::Range { sorted, positions })
}

/// Nanoseconds since 1970-01-01 00:00 UTC, of any year.
fn nanos(time: Time, now: Timestamp) -> i128 {
    match time {
        Time::At(time) => time.as_nanosecond(),
        Time::Ago(ago) => now.as_nanosecond() - ago.as_nanos(),
    }
}
