//! Tokens to a tree, by recursive descent: what conditions are put together with.

use super::ExpressionError;
use super::condition::condition;
use super::cursor::Cursor;
use super::token::Token;
use super::tree::Expression;
use crate::rules::filter::{Condition, Filter};

pub(super) type Parsed = Result<Expression<Condition>, ExpressionError>;

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Filter, ExpressionError> {
    let mut cursor = Cursor::new(text);
    let expression = filter(&mut cursor)?;
    if *cursor.token() != Token::End {
        return Err(cursor.unexpected("`and`, `or` or the end"));
    }
    let too_deep = || cursor.too_deep(format!("at most {} filters in one another", Filter::MAX_DEPTH));
    expression.into_filter().ok_or_else(too_deep)
}

fn filter(cursor: &mut Cursor<'_>) -> Parsed {
    let mut parts = vec![both(cursor)?];
    while cursor.take_word("or") {
        parts.push(both(cursor)?);
    }
    Ok(Expression::any(parts))
}

fn both(cursor: &mut Cursor<'_>) -> Parsed {
    let mut parts = vec![one(cursor)?];
    while cursor.take_word("and") {
        parts.push(one(cursor)?);
    }
    Ok(Expression::all(parts))
}

fn one(cursor: &mut Cursor<'_>) -> Parsed {
    // Not recursive, however often it is said.
    let mut is_negated = false;
    while cursor.take_word("not") {
        is_negated = !is_negated;
    }
    let part = if *cursor.token() == Token::Symbol("(") {
        cursor.nested("`and`, `or` or `)`", filter)?
    } else if cursor.take_word("at") {
        at_least(cursor)?
    } else if cursor.take_word("true") {
        Expression::everything()
    } else {
        condition(cursor)?
    };
    Ok(part.negated_if(is_negated))
}

fn at_least(cursor: &mut Cursor<'_>) -> Parsed {
    cursor.word("least")?;
    let placed = cursor.placed(0).clone();
    let least = if let Token::Literal(digits) = placed.token { digits.parse().ok() } else { None };
    let least: usize = least.ok_or_else(|| cursor.unexpected("how many"))?;
    cursor.advance();
    cursor.word("of")?;
    let parts = cursor.list(filter)?;
    if least > parts.len() {
        let expected = format!("at most {}, as many as there are", parts.len());
        return Err(cursor.unexpected_at(&placed, expected));
    }
    Ok(Expression::AtLeast(least, parts))
}
