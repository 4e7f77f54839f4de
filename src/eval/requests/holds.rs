//! Evaluates a filter on the values of one video, straight from the definition, without posting lists or node sets.

use std::cmp::Ordering;
use std::ops::Bound;

use crate::attributes::{Columns, Value};
use crate::base::id::NodeId;
use crate::rules::{Condition, Filter, Number, Time};

/// Whether a video of the index matches `filter`, whose times are points in time.
pub(super) fn holds(filter: &Filter, columns: &Columns<'_>, node: NodeId) -> bool {
    let held = |condition: &&Condition| condition_holds(condition, columns, node);
    let min_should = filter.min_should.unwrap_or(usize::from(!filter.should.is_empty()));
    filter.must.iter().all(|condition| held(&condition))
        && filter.should.iter().filter(held).count() >= min_should
        && !filter.must_not.iter().any(|condition| held(&condition))
}

fn condition_holds(condition: &Condition, columns: &Columns<'_>, node: NodeId) -> bool {
    let value = |name: &str| columns.find(name).and_then(|column| columns.value(column, node));
    match condition {
        Condition::Filter(filter) => holds(filter, columns, node),
        Condition::Keyword { attribute, any_of } => {
            matches!(value(attribute), Some(Value::Keyword(word)) if any_of.contains(&word))
        }
        Condition::List { attribute, any_of, all_of } => match value(attribute) {
            Some(Value::KeywordList(words)) => {
                (any_of.is_empty() || any_of.iter().any(|word| words.contains(word)))
                    && all_of.iter().all(|word| words.contains(word))
            }
            _ => false,
        },
        Condition::Number { attribute, lower, upper } => {
            value(attribute).is_some_and(|value| lies_within(lower, upper, |bound| compare(&value, bound)))
        }
        Condition::Time { attribute, lower, upper } => match value(attribute) {
            Some(Value::Timestamp(time)) => lies_within(lower, upper, |bound| match bound {
                Time::At(bound) => Some(time.cmp(bound)),
                Time::Ago(_) => None,
            }),
            _ => false,
        },
        Condition::Bool { attribute, value: wanted } => value(attribute) == Some(Value::Bool(*wanted)),
        Condition::IsNull { attribute } => value(attribute).is_none(),
        Condition::VideoId { any_of } => any_of.contains(&columns.index().video_ids()[node.index()]),
    }
}

/// Whether a value is within bounds; `compare` orders the value relative to a bound.
fn lies_within<T>(lower: &Bound<T>, upper: &Bound<T>, compare: impl Fn(&T) -> Option<Ordering>) -> bool {
    let above = match lower {
        Bound::Unbounded => true,
        Bound::Included(bound) => compare(bound).is_some_and(Ordering::is_ge),
        Bound::Excluded(bound) => compare(bound).is_some_and(Ordering::is_gt),
    };
    above
        && match upper {
            Bound::Unbounded => true,
            Bound::Included(bound) => compare(bound).is_some_and(Ordering::is_le),
            Bound::Excluded(bound) => compare(bound).is_some_and(Ordering::is_lt),
        }
}

/// Compares exactly across types; `None` for a NaN or a value that is no number.
fn compare(value: &Value, bound: &Number) -> Option<Ordering> {
    let integer = match value {
        Value::Int64(value) => i128::from(*value),
        Value::Uint64(value) => i128::from(*value),
        Value::Double(value) => {
            return match bound {
                Number::Int64(bound) => with_double(i128::from(*bound), *value).map(Ordering::reverse),
                Number::Uint64(bound) => with_double(i128::from(*bound), *value).map(Ordering::reverse),
                Number::Double(bound) => value.partial_cmp(bound),
            };
        }
        _ => return None,
    };
    match bound {
        Number::Int64(bound) => Some(integer.cmp(&i128::from(*bound))),
        Number::Uint64(bound) => Some(integer.cmp(&i128::from(*bound))),
        Number::Double(bound) => with_double(integer, *bound),
    }
}

fn with_double(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // The cast saturates at the range of i128, far beyond every 64-bit integer.
    let whole = integer.cmp(&(double.floor() as i128));
    Some(if double > double.floor() { whole.then(Ordering::Less) } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_doubles_compare_exactly() {
        // 2^53 + 1 is not representable as a double.
        let large = (1i64 << 53) + 1;
        for (value, bound, expected) in [
            (Value::Int64(large), Number::Double(large as f64), Ordering::Greater),
            (Value::Int64(large), Number::Int64(large), Ordering::Equal),
            (Value::Uint64(u64::MAX), Number::Double(u64::MAX as f64), Ordering::Less),
            (Value::Int64(-1), Number::Uint64(0), Ordering::Less),
            (Value::Int64(-2), Number::Double(-1.5), Ordering::Less),
            (Value::Int64(-1), Number::Double(-1.5), Ordering::Greater),
            (Value::Double(1.5), Number::Int64(1), Ordering::Greater),
            (Value::Double(1e300), Number::Uint64(u64::MAX), Ordering::Greater),
            (Value::Double(-1e300), Number::Int64(i64::MIN), Ordering::Less),
            (Value::Double(0.0), Number::Double(-0.0), Ordering::Equal),
        ] {
            assert_eq!(compare(&value, &bound), Some(expected), "{value} and {bound:?}");
        }
        assert_eq!(compare(&Value::Double(f64::NAN), &Number::Int64(0)), None);
        assert_eq!(compare(&Value::Bool(true), &Number::Int64(1)), None);
    }

    #[test]
    fn bounds_are_included_or_not() {
        let within = |lower, upper, value: i32| lies_within(&lower, &upper, |bound| Some(value.cmp(bound)));
        assert!(within(Bound::Included(1), Bound::Excluded(3), 1));
        assert!(!within(Bound::Excluded(1), Bound::Unbounded, 1));
        assert!(!within(Bound::Included(1), Bound::Excluded(3), 3));
        assert!(within(Bound::Unbounded, Bound::Included(3), 3));
    }
}
