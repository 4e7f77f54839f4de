//! The normal form of an expression, converted from and to [`Filter`].
//!
//! Parser and printer share it, so that the text printed for a filter parses to the same filter.

use super::error::ExpressionError;
use crate::rules::filter::conditions::{Condition, Filter};

/// The result of a parser function.
pub(super) type Parsed = Result<Expression<Condition>, ExpressionError>;

/// An expression over conditions other than nested filters, in the normal form that the constructors return.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression<C> {
    Condition(C),
    /// Never contains [`Expression::Not`] or [`Expression::Any`] directly.
    Not(Box<Self>),
    /// Zero, two or more operands, none of which is itself [`Expression::All`]. Without operands it matches every video.
    All(Vec<Self>),
    /// Two or more operands, none of which is itself [`Expression::Any`].
    Any(Vec<Self>),
    /// At least this many operands match.
    AtLeast(usize, Vec<Self>),
}

impl<C> Expression<C> {
    /// Matches every video.
    pub(super) fn everything() -> Self {
        Self::All(Vec::new())
    }

    pub(super) fn all(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for operand in operands {
            match operand {
                Self::All(operands) => flat.extend(operands),
                operand => flat.push(operand),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { Self::All(flat) }
    }

    /// Takes at least one operand.
    pub(super) fn any(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for operand in operands {
            match operand {
                Self::Any(operands) => flat.extend(operands),
                operand => flat.push(operand),
            }
        }
        if flat.len() == 1 { flat.swap_remove(0) } else { Self::Any(flat) }
    }

    pub(super) fn not(operand: Self) -> Self {
        match operand {
            Self::Not(inner) => *inner,
            // De Morgan: `must_not` expresses this without a nested filter.
            Self::Any(operands) => Self::all(operands.into_iter().map(Self::not)),
            operand => Self::Not(Box::new(operand)),
        }
    }

    pub(super) fn negated_if(self, is_negated: bool) -> Self {
        if is_negated { Self::not(self) } else { self }
    }
}

impl Expression<Condition> {
    /// Converts to a filter; `None` if it were nested deeper than [`Filter::MAX_DEPTH`].
    pub(super) fn into_filter(self) -> Option<Filter> {
        filter(self, 1)
    }
}

/// The last group of alternatives in a conjunction becomes `should`; all others become nested filters.
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
    /// The expression of a filter.
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
        // `should` comes last, after groups that double negation exposes: converting back makes the last group `should`.
        Self::all(must.chain(must_not).chain([should]))
    }
}
