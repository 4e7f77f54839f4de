//! The normal form of an expression, from and to [`Filter`].
//!
//! The same for text and for filters, so that text which was made of a filter reads as that filter.

use crate::rules::filter::{Condition, Filter};

/// An expression over conditions that are no filters themselves, in normal form: what the constructors make.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression<C> {
    Condition(C),
    /// Never of [`Expression::Not`] or [`Expression::Any`].
    Not(Box<Self>),
    /// Never one, and never one of these among them. None of them hold for every video.
    All(Vec<Self>),
    /// Two or more, and never one of these among them.
    Any(Vec<Self>),
    AtLeast(usize, Vec<Self>),
}

impl<C> Expression<C> {
    /// Holds for every video.
    pub(super) fn everything() -> Self {
        Self::All(Vec::new())
    }

    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All(parts) => flat.extend(parts),
                part => flat.push(part),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { Self::All(flat) }
    }

    /// Of at least one.
    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::Any(parts) => flat.extend(parts),
                part => flat.push(part),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { Self::Any(flat) }
    }

    pub(super) fn not(part: Self) -> Self {
        match part {
            Self::Not(part) => *part,
            // None of them, which a filter says without another one in it.
            Self::Any(parts) => Self::all(parts.into_iter().map(Self::not)),
            part => Self::Not(Box::new(part)),
        }
    }

    pub(super) fn negated_if(self, is_negated: bool) -> Self {
        if is_negated { Self::not(self) } else { self }
    }
}

impl Expression<Condition> {
    /// As a filter; `None` if that has more than [`Filter::MAX_DEPTH`] in one another.
    pub(super) fn into_filter(self) -> Option<Filter> {
        filter(self, 1)
    }
}

/// Of all that must hold, the last group of alternatives becomes `should`.
fn filter(expression: Expression<Condition>, depth: usize) -> Option<Filter> {
    if depth > Filter::MAX_DEPTH {
        return None;
    }
    let condition = |part| match part {
        Expression::Condition(condition) => Some(condition),
        part => filter(part, depth + 1).map(Condition::Filter),
    };
    let parts = match expression {
        Expression::All(parts) => parts,
        part => vec![part],
    };
    let is_group = |part: &_| matches!(part, Expression::Any(_) | Expression::AtLeast(..));
    let last_group = parts.iter().rposition(is_group);
    let mut filter = Filter::default();
    for (position, part) in parts.into_iter().enumerate() {
        match part {
            Expression::Not(part) => filter.must_not.push(condition(*part)?),
            Expression::Any(parts) if Some(position) == last_group => {
                filter.should = parts.into_iter().map(condition).collect::<Option<_>>()?;
            }
            Expression::AtLeast(least, parts) if Some(position) == last_group => {
                filter.should = parts.into_iter().map(condition).collect::<Option<_>>()?;
                filter.min_should = Some(least);
            }
            part => filter.must.push(condition(part)?),
        }
    }
    Some(filter)
}

impl<'f> Expression<&'f Condition> {
    /// What a filter says.
    pub(super) fn of(filter: &'f Filter) -> Self {
        let of_condition = |condition: &'f Condition| match condition {
            Condition::Filter(filter) => Self::of(filter),
            condition => Self::Condition(condition),
        };
        let must = filter.must.iter().map(of_condition);
        let alternatives = filter.should.iter().map(of_condition);
        let should = match filter.min_should {
            None | Some(0) if filter.should.is_empty() => Self::everything(),
            None => Self::any(alternatives),
            Some(least) => Self::AtLeast(least, alternatives.collect()),
        };
        let must_not = filter.must_not.iter().map(of_condition).map(Self::not);
        // Alternatives last: also of those that a double negation brings out, they are to be `should` again.
        Self::all(must.chain(must_not).chain([should]))
    }
}
