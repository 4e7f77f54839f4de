//! Parses one condition on an attribute or on the video id.

use std::mem::discriminant;
use std::ops::Bound;

use super::cursor::Cursor;
use super::error::ExpressionError;
use super::literal;
use super::token::{Token, is_reserved};
use super::tree::{Expression, Parsed};
use crate::base::id::VideoId;
use crate::rules::filter::conditions::{Condition, Number, Time};

const A_CONDITION: &str = "a condition, such as region = \"US\"";
const A_COMPARISON: &str = "a comparison: = != < <= > >=, or `in`, `between`, `contains` or `is`";
const A_VALUE: &str = "a value: \"text\", a number, `true`, `false`, or a time such as 2026-11-01 or -7d";
const A_BOUND: &str = "a number, or a time such as 2026-11-01, 2026-11-01T12:00:00Z or -7d";
/// The id of a video, and the attribute that has it if it is text.
const VIDEO_ID: &str = "video_id";
const AN_ID: &str = "a video id, 0 to 18446744073709551615";

/// Maximum length of the name of an attribute, in bytes. A list of numbers repeats the name for each of them.
const MAX_NAME_BYTES: usize = 1000;

/// A value that an attribute is compared with.
enum Value {
    Word(String),
    Bool(bool),
    Limit(Limit),
}

/// An ordered value.
#[derive(Clone, Copy)]
enum Limit {
    Number(Number),
    Time(Time),
}

/// A comparison operator: `>` or `>=` if `is_above`, else `<` or `<=`.
#[derive(Clone, Copy)]
struct Ordering {
    is_above: bool,
    or_equal: bool,
}

impl Ordering {
    fn bound(self, limit: Limit) -> Bound<Limit> {
        if self.or_equal { Bound::Included(limit) } else { Bound::Excluded(limit) }
    }
}

/// Parses one condition.
pub(super) fn condition(cursor: &mut Cursor<'_>) -> Parsed {
    let first = cursor.placed(0).clone();
    cursor.count_condition(&first)?;
    if cursor.take_word(VIDEO_ID) {
        return video_ids(cursor);
    }
    if matches!(cursor.token(), Token::Text(_) | Token::Literal(_)) || cursor.is_word(0, "now") {
        return chain(cursor);
    }
    let attribute = attribute(cursor, A_CONDITION)?;
    if let Some(ordering) = take_ordering(cursor) {
        let bound = ordering.bound(limit(cursor, None)?);
        return Ok(on_one_side(attribute, ordering.is_above, bound, Bound::Unbounded));
    }
    if let Some(is_negated) = take_equals(cursor) {
        return Ok(equals(attribute, value(cursor)?).negated_if(is_negated));
    }
    if cursor.take_word("is") {
        let is_negated = cursor.take_word("not");
        cursor.word("null")?;
        return Ok(Expression::Condition(Condition::IsNull { attribute }).negated_if(is_negated));
    }
    let is_negated = cursor.take_word("not");
    let condition = if cursor.take_word("in") {
        one_of(cursor, attribute)?
    } else if cursor.take_word("between") {
        between(cursor, attribute)?
    } else if cursor.take_word("contains") {
        contains(cursor, attribute)?
    } else {
        return Err(cursor.unexpected(if is_negated {
            "`in`, `between` or `contains`"
        } else {
            A_COMPARISON
        }));
    };
    Ok(condition.negated_if(is_negated))
}

fn video_ids(cursor: &mut Cursor<'_>) -> Parsed {
    let (ids, is_negated) = if let Some(is_negated) = take_equals(cursor) {
        let first = cursor.placed(0).clone();
        (vec![(first, video_id(cursor)?)], is_negated)
    } else {
        let is_negated = cursor.take_word("not");
        if !cursor.take_word("in") {
            return Err(cursor.unexpected(if is_negated { "`in`" } else { "`=`, `!=`, `in` or `not in`" }));
        }
        (cursor.list(|cursor| Ok((cursor.placed(0).clone(), video_id(cursor)?)))?, is_negated)
    };
    let (mut numbers, mut texts) = (Vec::new(), Vec::new());
    for (placed, id) in ids {
        match id {
            Id::Number(id) if texts.is_empty() => numbers.push(id),
            Id::Text(text) if numbers.is_empty() => texts.push(text),
            _ => return Err(cursor.unexpected_at(&placed, "a value of the same kind as the first")),
        }
    }
    let condition = if texts.is_empty() {
        Condition::VideoId { any_of: numbers }
    } else {
        // An index of ids that are text keeps them as an attribute.
        Condition::Keyword { attribute: VIDEO_ID.to_owned(), any_of: texts }
    };
    Ok(Expression::Condition(condition).negated_if(is_negated))
}

/// The id of a video in a condition.
enum Id {
    Number(VideoId),
    Text(String),
}

fn video_id(cursor: &mut Cursor<'_>) -> Result<Id, ExpressionError> {
    let id = match cursor.token() {
        Token::Literal(digits) => digits.parse().ok().map(|id| Id::Number(VideoId(id))),
        Token::Text(text) => Some(Id::Text(text.clone())),
        _ => None,
    };
    let id = id.ok_or_else(|| cursor.unexpected(AN_ID))?;
    cursor.advance();
    Ok(id)
}

/// `5 < views`, `5 < views <= 10`, `10 >= views`.
fn chain(cursor: &mut Cursor<'_>) -> Parsed {
    let first = limit(cursor, None)?;
    let Some(ordering) = take_ordering(cursor) else {
        return Err(cursor.unexpected("`<`, `<=`, `>` or `>=` and an attribute"));
    };
    let attribute = attribute(cursor, "an attribute")?;
    // In `10 >= views > 5` both operators point the same way: the attribute is above the second bound.
    let is_above = ordering.is_above;
    let second = match self::ordering(cursor) {
        None => Bound::Unbounded,
        Some(second) if second.is_above == is_above => {
            cursor.advance();
            second.bound(limit(cursor, Some(first))?)
        }
        Some(_) => return Err(cursor.unexpected(if is_above { "`>` or `>=`" } else { "`<` or `<=`" })),
    };
    Ok(on_one_side(attribute, is_above, second, ordering.bound(first)))
}

fn between(cursor: &mut Cursor<'_>, attribute: String) -> Parsed {
    let lower = limit(cursor, None)?;
    cursor.word("and")?;
    let upper = limit(cursor, Some(lower))?;
    Ok(Expression::Condition(range(attribute, Bound::Included(lower), Bound::Included(upper))))
}

/// Parses the list after `in`. Words become one condition; other values become one condition each, joined by `or`.
fn one_of(cursor: &mut Cursor<'_>, attribute: String) -> Parsed {
    let mut first = None;
    let values = cursor.list(|cursor| {
        let (placed, value) = (cursor.placed(0).clone(), value(cursor)?);
        let kind = (discriminant(&value), value.limit().map(|limit| discriminant(&limit)));
        let is_first = first.is_none();
        if *first.get_or_insert(kind) != kind {
            return Err(cursor.unexpected_at(&placed, "a value of the same kind as the first"));
        }
        if !is_first && !matches!(value, Value::Word(_)) {
            cursor.count_condition(&placed)?;
        }
        Ok(value)
    })?;
    let word = |value: &Value| if let Value::Word(word) = value { Some(word.clone()) } else { None };
    if let Some(any_of) = values.iter().map(word).collect() {
        return Ok(Expression::Condition(Condition::Keyword { attribute, any_of }));
    }
    Ok(Expression::any(values.into_iter().map(|value| equals(attribute.clone(), value))))
}

fn contains(cursor: &mut Cursor<'_>, attribute: String) -> Parsed {
    let strings = |cursor: &mut Cursor<'_>| cursor.list(|cursor| string(cursor, "a string in quotes"));
    let (mut any_of, mut all_of) = (Vec::new(), Vec::new());
    if cursor.take_word("any") {
        any_of = strings(cursor)?;
        // No condition starts with `all (`, so `and all (` always belongs to this one.
        let goes_on = cursor.is_word(0, "and")
            && cursor.is_word(1, "all")
            && cursor.placed(2).token == Token::Symbol("(");
        if goes_on {
            cursor.word("and")?;
            cursor.word("all")?;
            all_of = strings(cursor)?;
        }
    } else if cursor.take_word("all") {
        all_of = strings(cursor)?;
    } else {
        any_of.push(string(cursor, "a string in quotes, or `any` or `all` and several")?);
    }
    Ok(Expression::Condition(Condition::List { attribute, any_of, all_of }))
}

fn string(cursor: &mut Cursor<'_>, expected: &str) -> Result<String, ExpressionError> {
    let Token::Text(text) = cursor.token() else { return Err(cursor.unexpected(expected)) };
    let text = text.clone();
    cursor.advance();
    Ok(text)
}

fn attribute(cursor: &mut Cursor<'_>, expected: &str) -> Result<String, ExpressionError> {
    let name = match cursor.token() {
        Token::Name(name) => name.clone(),
        Token::Word(word) if !is_reserved(word) => (*word).to_owned(),
        _ => return Err(cursor.unexpected(expected)),
    };
    if name.len() > MAX_NAME_BYTES {
        return Err(cursor.unexpected(format!("a name of at most {MAX_NAME_BYTES} bytes")));
    }
    cursor.advance();
    Ok(name)
}

fn value(cursor: &mut Cursor<'_>) -> Result<Value, ExpressionError> {
    let value = match cursor.token() {
        Token::Text(text) => Some(Value::Word(text.clone())),
        Token::Literal(text) => unquoted_limit(text).map(Value::Limit),
        Token::Word(word) if word.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        Token::Word(word) if word.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        Token::Word(word) => literal::time(word).map(|time| Value::Limit(Limit::Time(time))),
        _ => None,
    };
    let value = value.ok_or_else(|| cursor.unexpected(A_VALUE))?;
    cursor.advance();
    Ok(value)
}

/// Parses a bound, of the same kind as `other` if that is given.
fn limit(cursor: &mut Cursor<'_>, other: Option<Limit>) -> Result<Limit, ExpressionError> {
    let limit = match cursor.token() {
        Token::Literal(text) => unquoted_limit(text),
        Token::Text(text) => literal::time(text).map(Limit::Time),
        Token::Word(word) => literal::time(word).map(Limit::Time),
        _ => None,
    };
    match (limit, other) {
        (Some(Limit::Time(_)), Some(Limit::Number(_))) => {
            Err(cursor.unexpected("a number, like the other bound"))
        }
        (Some(Limit::Number(_)), Some(Limit::Time(_))) => {
            Err(cursor.unexpected("a time, like the other bound"))
        }
        (Some(limit), _) => {
            cursor.advance();
            Ok(limit)
        }
        (None, _) => Err(cursor.unexpected(A_BOUND)),
    }
}

fn unquoted_limit(text: &str) -> Option<Limit> {
    literal::number(text).map(Limit::Number).or_else(|| literal::time(text).map(Limit::Time))
}

/// Takes `=` (false) or `!=` (true) if it is next.
fn take_equals(cursor: &mut Cursor<'_>) -> Option<bool> {
    if cursor.take_symbol("=") {
        return Some(false);
    }
    cursor.take_symbol("!=").then_some(true)
}

fn take_ordering(cursor: &mut Cursor<'_>) -> Option<Ordering> {
    let ordering = ordering(cursor)?;
    cursor.advance();
    Some(ordering)
}

fn ordering(cursor: &Cursor<'_>) -> Option<Ordering> {
    let (is_above, or_equal) = match cursor.token() {
        Token::Symbol("<") => (false, false),
        Token::Symbol("<=") => (false, true),
        Token::Symbol(">") => (true, false),
        Token::Symbol(">=") => (true, true),
        _ => return None,
    };
    Some(Ordering { is_above, or_equal })
}

impl Value {
    fn limit(&self) -> Option<Limit> {
        if let Value::Limit(limit) = self { Some(*limit) } else { None }
    }
}

fn equals(attribute: String, value: Value) -> Expression<Condition> {
    Expression::Condition(match value {
        Value::Word(word) => Condition::Keyword { attribute, any_of: vec![word] },
        Value::Bool(value) => Condition::Bool { attribute, value },
        Value::Limit(limit) => range(attribute, Bound::Included(limit), Bound::Included(limit)),
    })
}

/// The condition that an attribute is above `bound` and below `other` if `is_above`, else the other way around.
fn on_one_side(
    attribute: String,
    is_above: bool,
    bound: Bound<Limit>,
    other: Bound<Limit>,
) -> Expression<Condition> {
    let (lower, upper) = if is_above { (bound, other) } else { (other, bound) };
    Expression::Condition(range(attribute, lower, upper))
}

/// A condition on a range. At least one bound is given, and both have one kind.
fn range(attribute: String, lower: Bound<Limit>, upper: Bound<Limit>) -> Condition {
    let number = |limit| if let Limit::Number(number) = limit { Some(number) } else { None };
    let time = |limit| if let Limit::Time(time) = limit { Some(time) } else { None };
    if let Some((lower, upper)) = of_kind(lower, number).zip(of_kind(upper, number)) {
        return Condition::Number { attribute, lower, upper };
    }
    let bound = |bound| of_kind(bound, time).unwrap_or(Bound::Unbounded);
    Condition::Time { attribute, lower: bound(lower), upper: bound(upper) }
}

/// The bound converted to one kind; `None` if it is of another kind.
fn of_kind<T>(bound: Bound<Limit>, kind: impl FnOnce(Limit) -> Option<T>) -> Option<Bound<T>> {
    Some(match bound {
        Bound::Included(limit) => Bound::Included(kind(limit)?),
        Bound::Excluded(limit) => Bound::Excluded(kind(limit)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}
