//! Random filters, for property tests.

use std::ops::Bound::{self, Excluded, Included, Unbounded};

use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;

use super::conditions::{Condition, Filter, Number, Time};
use crate::base::id::VideoId;
use crate::base::instant::Instant;

/// The longest duration of a protobuf message, in seconds.
const MAX_AGO_S: i64 = 315_576_000_000;

/// Each number in one form: integers that fit an `i64` are `Int64`, and −0.0 is 0.0.
fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::Int64),
        (-9i64..9).prop_map(Number::Int64),
        (1u64 << 63..=u64::MAX).prop_map(Number::Uint64),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| Number::Double(value + 0.0)),
    ]
}

fn any_time() -> impl Strategy<Value = Time> {
    let nanos = Instant::MIN.as_nanosecond()..=Instant::MAX.as_nanosecond();
    prop_oneof![
        nanos.prop_map(|nanos| Time::At(Instant::from_nanosecond(nanos).unwrap())),
        (-MAX_AGO_S..=MAX_AGO_S, -999_999_999..=999_999_999i32).prop_map(|(seconds, nanos)| {
            let nanos = if (seconds < 0) == (nanos < 0) { nanos } else { 0 };
            Time::Ago(SignedDuration::new(seconds, nanos))
        }),
        (-100i64..100, prop_oneof![Just(1), Just(60), Just(3600), Just(86_400), Just(604_800)])
            .prop_map(|(count, unit)| Time::Ago(SignedDuration::from_secs(count * unit))),
    ]
}

/// A lower and an upper bound, at least one of which is not `Unbounded`.
fn bounds<T: Copy + std::fmt::Debug>(
    value: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = (Bound<T>, Bound<T>)> {
    let bound = |value, kind| match kind {
        0 => Included(value),
        1 => Excluded(value),
        _ => Unbounded,
    };
    (value.clone(), value, 0..8u8)
        .prop_map(move |(lower, upper, kind)| (bound(lower, kind / 3), bound(upper, kind % 3)))
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]",
        "[A-Za-z_][A-Za-z0-9_.]{0,5}",
        ".{0,5}",
        Just("not".to_owned()),
        Just("NULL".to_owned()),
        Just("video_id".to_owned()),
        Just("all".to_owned()),
    ]
}

/// Any condition other than a nested filter.
pub(crate) fn any_leaf() -> impl Strategy<Value = Condition> {
    let words = |least: usize| vec(prop_oneof![".{0,4}", "[\\\\\"'`\\n\u{7}]{0,4}"], least..4);
    prop_oneof![
        (any_name(), words(1)).prop_map(|(attribute, any_of)| Condition::Keyword { attribute, any_of }),
        (any_name(), words(0), words(1)).prop_map(|(attribute, any_of, all_of)| Condition::List {
            attribute,
            any_of,
            all_of
        }),
        (any_name(), words(1)).prop_map(|(attribute, any_of)| Condition::List {
            attribute,
            any_of,
            all_of: Vec::new()
        }),
        (any_name(), bounds(any_number().boxed()))
            .prop_map(|(attribute, (lower, upper))| { Condition::Number { attribute, lower, upper } }),
        (any_name(), bounds(any_time().boxed())).prop_map(|(attribute, (lower, upper))| Condition::Time {
            attribute,
            lower,
            upper
        }),
        (any_name(), any::<bool>()).prop_map(|(attribute, value)| Condition::Bool { attribute, value }),
        any_name().prop_map(|attribute| Condition::IsNull { attribute }),
        vec(any::<u64>().prop_map(VideoId), 1..4).prop_map(|any_of| Condition::VideoId { any_of }),
    ]
}

/// Valid filters of any form: no empty value lists, no missing bounds.
pub(crate) fn any_filter() -> impl Strategy<Value = Filter> {
    let leaf = any_leaf().boxed();
    let condition = leaf.prop_recursive(4, 24, 4, |inner| filter_of(inner).prop_map(Condition::Filter));
    filter_of(condition)
}

fn filter_of(condition: impl Strategy<Value = Condition> + Clone + 'static) -> impl Strategy<Value = Filter> {
    let conditions = || vec(condition.clone(), 0..4);
    (conditions(), conditions(), conditions(), proptest::option::of(0..4usize)).prop_map(
        |(must, should, must_not, least)| {
            let min_should = least.map(|least| least.min(should.len()));
            Filter { must, should, must_not, min_should }
        },
    )
}
