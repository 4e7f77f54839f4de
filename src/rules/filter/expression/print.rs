//! Prints an expression as text.

use std::fmt::{Formatter, Result};
use std::ops::Bound;

use super::literal::{write_number, write_quoted, write_time};
use super::token::{is_bare, is_reserved};
use super::tree::Expression;
use crate::rules::filter::conditions::Condition;

/// Prints text that parses to `expression`.
pub(super) fn print(f: &mut Formatter<'_>, expression: &Expression<&Condition>) -> Result {
    print_within(f, expression, Binding::Or)
}

/// Precedence of the operator around an expression, ascending. An operand of lower precedence needs parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Not,
}

fn print_within(f: &mut Formatter<'_>, expression: &Expression<&Condition>, around: Binding) -> Result {
    match expression {
        Expression::Condition(condition) => print_condition(f, condition, true),
        Expression::Not(operand) => match operand.as_ref() {
            Expression::Condition(condition) => print_condition(f, condition, false),
            operand => {
                f.write_str("not ")?;
                print_within(f, operand, Binding::Not)
            }
        },
        Expression::All(operands) if operands.is_empty() => f.write_str("true"),
        Expression::All(operands) => in_parentheses_if(f, around > Binding::And, |f| {
            separated(f, operands, " and ", |f, operand| print_within(f, operand, Binding::And))
        }),
        Expression::Any(operands) => in_parentheses_if(f, around > Binding::Or, |f| {
            separated(f, operands, " or ", |f, operand| print_within(f, operand, Binding::Or))
        }),
        Expression::AtLeast(least, operands) => {
            write!(f, "at least {least} of ")?;
            in_parentheses_if(f, true, |f| separated(f, operands, ", ", print))
        }
    }
}

/// Prints the condition, or its complement unless `holds`.
fn print_condition(f: &mut Formatter<'_>, condition: &Condition, holds: bool) -> Result {
    let (equals, among, is_null) =
        if holds { (" = ", " in ", " is null") } else { (" != ", " not in ", " is not null") };
    let not = if holds { "" } else { "not " };
    match condition {
        // Does not occur: expressions have no nested filters.
        Condition::Filter(filter) => write!(f, "{not}({filter})"),
        Condition::Keyword { attribute, any_of } => {
            print_attribute(f, attribute)?;
            if let [word] = any_of.as_slice() {
                f.write_str(equals)?;
                return write_quoted(f, word, '"');
            }
            f.write_str(among)?;
            print_strings(f, any_of)
        }
        Condition::List { attribute, any_of, all_of } => {
            print_attribute(f, attribute)?;
            write!(f, " {not}contains ")?;
            match (any_of.as_slice(), all_of.as_slice()) {
                ([word], []) => write_quoted(f, word, '"'),
                (_, []) => {
                    f.write_str("any ")?;
                    print_strings(f, any_of)
                }
                ([], _) => {
                    f.write_str("all ")?;
                    print_strings(f, all_of)
                }
                _ => {
                    f.write_str("any ")?;
                    print_strings(f, any_of)?;
                    f.write_str(" and all ")?;
                    print_strings(f, all_of)
                }
            }
        }
        Condition::Number { attribute, lower, upper } => {
            f.write_str(not)?;
            print_range(f, attribute, *lower, *upper, |f, number| write_number(f, &number))
        }
        Condition::Time { attribute, lower, upper } => {
            f.write_str(not)?;
            print_range(f, attribute, *lower, *upper, |f, time| write_time(f, &time))
        }
        Condition::Bool { attribute, value } => {
            print_attribute(f, attribute)?;
            write!(f, "{equals}{value}")
        }
        Condition::IsNull { attribute } => {
            print_attribute(f, attribute)?;
            f.write_str(is_null)
        }
        Condition::VideoId { any_of } => {
            f.write_str("video_id")?;
            if let [id] = any_of.as_slice() {
                return write!(f, "{equals}{id}");
            }
            f.write_str(among)?;
            in_parentheses_if(f, true, |f| separated(f, any_of, ", ", |f, id| write!(f, "{id}")))
        }
    }
}

fn print_range<T: Copy + PartialEq>(
    f: &mut Formatter<'_>,
    attribute: &str,
    lower: Bound<T>,
    upper: Bound<T>,
    mut value: impl FnMut(&mut Formatter<'_>, T) -> Result,
) -> Result {
    use Bound::{Excluded, Included, Unbounded};
    match (lower, upper) {
        (Included(lower), Included(upper)) if lower == upper => {
            print_attribute(f, attribute)?;
            f.write_str(" = ")?;
            value(f, lower)
        }
        (Included(lower), Included(upper)) => {
            print_attribute(f, attribute)?;
            f.write_str(" between ")?;
            value(f, lower)?;
            f.write_str(" and ")?;
            value(f, upper)
        }
        (Included(bound), Unbounded) | (Excluded(bound), Unbounded) => {
            print_attribute(f, attribute)?;
            f.write_str(if matches!(lower, Included(_)) { " >= " } else { " > " })?;
            value(f, bound)
        }
        (Unbounded, Included(bound)) | (Unbounded, Excluded(bound)) => {
            print_attribute(f, attribute)?;
            f.write_str(if matches!(upper, Included(_)) { " <= " } else { " < " })?;
            value(f, bound)
        }
        // Invalid as a filter; the closest equivalent expression.
        (Unbounded, Unbounded) => {
            print_attribute(f, attribute)?;
            f.write_str(" is not null")
        }
        (Included(least) | Excluded(least), Included(most) | Excluded(most)) => {
            value(f, least)?;
            f.write_str(if matches!(lower, Included(_)) { " <= " } else { " < " })?;
            print_attribute(f, attribute)?;
            f.write_str(if matches!(upper, Included(_)) { " <= " } else { " < " })?;
            value(f, most)
        }
    }
}

fn print_attribute(f: &mut Formatter<'_>, name: &str) -> Result {
    if is_bare(name) && !is_reserved(name) { f.write_str(name) } else { write_quoted(f, name, '`') }
}

fn print_strings(f: &mut Formatter<'_>, strings: &[String]) -> Result {
    in_parentheses_if(f, true, |f| separated(f, strings, ", ", |f, string| write_quoted(f, string, '"')))
}

fn in_parentheses_if(
    f: &mut Formatter<'_>,
    wanted: bool,
    inside: impl FnOnce(&mut Formatter<'_>) -> Result,
) -> Result {
    if !wanted {
        return inside(f);
    }
    f.write_str("(")?;
    inside(f)?;
    f.write_str(")")
}

fn separated<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    separator: &str,
    mut print: impl FnMut(&mut Formatter<'_>, &T) -> Result,
) -> Result {
    for (position, item) in items.iter().enumerate() {
        f.write_str(if position > 0 { separator } else { "" })?;
        print(f, item)?;
    }
    Ok(())
}
