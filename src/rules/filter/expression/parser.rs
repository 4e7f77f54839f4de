//! Recursive-descent parser for `and`, `or`, `not`, `at least` and parentheses.

use super::condition::condition;
use super::cursor::Cursor;
use super::error::ExpressionError;
use super::token::Token;
use super::tree::{Expression, Parsed};
use crate::rules::filter::conditions::Filter;

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Filter, ExpressionError> {
    let mut cursor = Cursor::new(text);
    let expression = filter(&mut cursor)?;
    if *cursor.token() != Token::End {
        return Err(cursor.unexpected("`and`, `or` or the end"));
    }
    let too_deep = || cursor.too_deep(format!("at most {} nested filters", Filter::MAX_DEPTH));
    expression.into_filter().ok_or_else(too_deep)
}

fn filter(cursor: &mut Cursor<'_>) -> Parsed {
    let mut operands = vec![both(cursor)?];
    while cursor.take_word("or") {
        operands.push(both(cursor)?);
    }
    Ok(Expression::any(operands))
}

fn both(cursor: &mut Cursor<'_>) -> Parsed {
    let mut operands = vec![one(cursor)?];
    while cursor.take_word("and") {
        operands.push(one(cursor)?);
    }
    Ok(Expression::all(operands))
}

fn one(cursor: &mut Cursor<'_>) -> Parsed {
    // A loop rather than recursion, so that thousands of `not` do not exhaust the stack.
    let mut is_negated = false;
    while cursor.take_word("not") {
        is_negated = !is_negated;
    }
    let operand = if *cursor.token() == Token::Symbol("(") {
        cursor.nested("`and`, `or` or `)`", filter)?
    } else if cursor.take_word("at") {
        at_least(cursor)?
    } else if cursor.take_word("true") {
        Expression::everything()
    } else {
        condition(cursor)?
    };
    Ok(operand.negated_if(is_negated))
}

fn at_least(cursor: &mut Cursor<'_>) -> Parsed {
    cursor.word("least")?;
    let placed = cursor.placed(0).clone();
    let least = if let Token::Literal(digits) = placed.token { digits.parse().ok() } else { None };
    let least: usize = least.ok_or_else(|| cursor.unexpected("a number"))?;
    cursor.advance();
    cursor.word("of")?;
    let operands = cursor.list(filter)?;
    if least > operands.len() {
        let expected = format!("at most {}, the number of alternatives", operands.len());
        return Err(cursor.unexpected_at(&placed, expected));
    }
    Ok(Expression::AtLeast(least, operands))
}
