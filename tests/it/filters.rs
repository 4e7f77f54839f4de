//! Filters over random catalogues, compared with a look at every value of every video.

use std::collections::BTreeSet;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder,
    TimestampMicrosecondArray, UInt64Array,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::{Columns, Value};
use shortlist::build::BuildParams;
use shortlist::dataset::{AttributeColumn, Catalogue, Embeddings, write_npy};
use shortlist::id::{NodeId, VideoId};
use shortlist::index::Index;
use shortlist::metric::Metric;
use shortlist::rules::{Condition, Filter, Number, Time, matching};
use tempfile::TempDir;

use crate::indexes::{build_index, random_rows};

const WORDS: [&str; 7] = ["", "a", "ab", "b", "ü", "zzz", "no video has this"];
const INTEGERS: [i64; 9] = [i64::MIN, i64::MIN + 1, -1, 0, 1, 7, 1 << 53, (1 << 53) + 1, i64::MAX];
const DOUBLES: [f64; 12] = [
    f64::NAN,
    f64::NEG_INFINITY,
    -1e300,
    -0.5,
    -0.0,
    0.0,
    f64::MIN_POSITIVE,
    0.5,
    7.0,
    9_007_199_254_740_992.0,
    9_223_372_036_854_775_808.0,
    f64::INFINITY,
];
/// 2026-01-01 00:00 UTC.
const NOW: i64 = 1_767_225_600_000_000;

/// A column of every type, a tenth of the values null, over few values so that conditions meet them.
pub fn catalogue(rows: usize, seed: u64) -> (TempDir, Index) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.npy");
    write_npy(&path, &[rows, 2], &random_rows(rows, 2, seed)).unwrap();
    let nullable = random.random_bool(0.8);
    let some = |random: &mut ChaCha8Rng| !(nullable && random.random_bool(0.1));
    let mut lists = ListBuilder::new(StringBuilder::new());
    for _ in 0..rows {
        for _ in 0..random.random_range(0..4) {
            let item = WORDS[random.random_range(0..6)];
            lists.values().append_option(some(&mut random).then_some(item));
        }
        lists.append(some(&mut random));
    }
    let times =
        [Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_second() * 1_000_000, NOW - 1, NOW, NOW + 1];
    let random = &mut random;
    let columns: [(&str, ArrayRef); 7] = [
        (
            "keyword",
            Arc::new(StringArray::from_iter(
                (0..rows).map(|_| some(random).then(|| WORDS[random.random_range(0..6)])),
            )),
        ),
        ("list", Arc::new(lists.finish())),
        (
            "int64",
            Arc::new(Int64Array::from_iter(
                (0..rows).map(|_| some(random).then(|| *INTEGERS.choose(random).unwrap())),
            )),
        ),
        (
            "uint64",
            Arc::new(UInt64Array::from_iter(
                (0..rows).map(|_| some(random).then(|| *INTEGERS.choose(random).unwrap() as u64)),
            )),
        ),
        (
            "double",
            Arc::new(Float64Array::from_iter(
                (0..rows).map(|_| some(random).then(|| *DOUBLES.choose(random).unwrap())),
            )),
        ),
        (
            "bool",
            Arc::new(BooleanArray::from_iter(
                (0..rows).map(|_| some(random).then(|| random.random_bool(0.3))),
            )),
        ),
        (
            "time",
            Arc::new(
                TimestampMicrosecondArray::from_iter(
                    (0..rows).map(|_| some(random).then(|| *times.choose(random).unwrap())),
                )
                .with_timezone("UTC"),
            ),
        ),
    ];
    let column = |(name, values): (&str, ArrayRef)| AttributeColumn { name: name.to_owned(), values };
    let catalogue = Catalogue {
        embeddings: Embeddings::open(&path).unwrap(),
        ids: (0..rows).map(|row| VideoId(1000 - row as u64)).collect(),
        attributes: columns.into_iter().map(column).collect(),
    };
    let params = BuildParams::new(Metric::InnerProduct, 4, 8).unwrap().with_threads(1);
    let index = build_index(&catalogue, &params, &folder.path().join("index"));
    (folder, index)
}

fn words(random: &mut ChaCha8Rng, least: usize) -> Vec<String> {
    (0..random.random_range(least..least + 3)).map(|_| (*WORDS.choose(random).unwrap()).to_owned()).collect()
}

fn number(random: &mut ChaCha8Rng) -> Number {
    match random.random_range(0..4) {
        0 => Number::Int64(*INTEGERS.choose(random).unwrap()),
        1 => Number::Uint64(*INTEGERS.choose(random).unwrap() as u64),
        2 => Number::Double(*DOUBLES[2..11].choose(random).unwrap()),
        _ => Number::Double(*INTEGERS.choose(random).unwrap() as f64 + random.random_range(-1.0..1.0)),
    }
}

fn time(random: &mut ChaCha8Rng) -> Time {
    let step = SignedDuration::from_nanos(*[-1000, -1, 0, 1, 1000].choose(random).unwrap());
    match random.random_range(0..4) {
        0 => Time::At([Timestamp::MIN, Timestamp::MAX][random.random_range(0..2)]),
        1 => Time::Ago([SignedDuration::MIN, SignedDuration::MAX][random.random_range(0..2)]),
        2 => Time::Ago(step),
        _ => Time::At(now() + step),
    }
}

fn now() -> Timestamp {
    Timestamp::from_microsecond(NOW).unwrap()
}

/// At least one bound.
fn bounds<B>(random: &mut ChaCha8Rng, value: impl Fn(&mut ChaCha8Rng) -> B) -> (Bound<B>, Bound<B>) {
    loop {
        let mut bound = || match random.random_range(0..3) {
            0 => Bound::Included(value(random)),
            1 => Bound::Excluded(value(random)),
            _ => Bound::Unbounded,
        };
        let bounds = (bound(), bound());
        if !matches!(bounds, (Bound::Unbounded, Bound::Unbounded)) {
            return bounds;
        }
    }
}

fn filter(random: &mut ChaCha8Rng, depth: usize) -> Filter {
    let mut clause = |most: usize| -> Vec<Condition> {
        (0..random.random_range(0..=most)).map(|_| condition(random, depth)).collect()
    };
    let (must, should, must_not) = (clause(2), clause(5), clause(2));
    let min_should = random.random_bool(0.6).then(|| random.random_range(0..=should.len()));
    Filter { must, should, must_not, min_should }
}

fn condition(random: &mut ChaCha8Rng, depth: usize) -> Condition {
    let all = ["keyword", "list", "int64", "uint64", "double", "bool", "time"];
    match random.random_range(if depth == 0 { 1 } else { 0 }..8) {
        0 => Condition::Filter(filter(random, depth - 1)),
        1 => Condition::Keyword { attribute: "keyword".to_owned(), any_of: words(random, 1) },
        2 => {
            let least = random.random_range(0..2);
            let (any_of, all_of) = (words(random, least), words(random, 1 - least));
            Condition::List { attribute: "list".to_owned(), any_of, all_of }
        }
        3 => {
            let (lower, upper) = bounds(random, number);
            let attribute = ["int64", "uint64", "double"].choose(random).unwrap().to_string();
            Condition::Number { attribute, lower, upper }
        }
        4 => {
            let (lower, upper) = bounds(random, time);
            Condition::Time { attribute: "time".to_owned(), lower, upper }
        }
        5 => Condition::Bool { attribute: "bool".to_owned(), value: random.random() },
        6 => Condition::IsNull { attribute: all.choose(random).unwrap().to_string() },
        _ => {
            let ids = (0..random.random_range(1..20)).map(|_| VideoId(random.random_range(900..1010)));
            Condition::VideoId { any_of: ids.collect() }
        }
    }
}

fn filter_holds(filter: &Filter, columns: &Columns<'_>, node: NodeId) -> bool {
    let holds = |condition: &&Condition| condition_holds(condition, columns, node);
    let least = filter.min_should.unwrap_or(filter.should.len().min(1));
    filter.must.iter().all(|condition| holds(&condition))
        && filter.should.iter().filter(holds).count() >= least
        && !filter.must_not.iter().any(|condition| holds(&condition))
}

fn condition_holds(condition: &Condition, columns: &Columns<'_>, node: NodeId) -> bool {
    let value = |attribute: &str| columns.value(columns.find(attribute).unwrap(), node);
    match condition {
        Condition::Filter(filter) => filter_holds(filter, columns, node),
        Condition::Keyword { attribute, any_of } => {
            matches!(value(attribute), Some(Value::Keyword(word)) if any_of.contains(&word))
        }
        Condition::List { attribute, any_of, all_of } => match value(attribute) {
            Some(Value::KeywordList(list)) => {
                (any_of.is_empty() || any_of.iter().any(|word| list.contains(word)))
                    && all_of.iter().all(|word| list.contains(word))
            }
            _ => false,
        },
        Condition::Number { attribute, lower, upper } => match value(attribute) {
            None => false,
            Some(value) => {
                let above = match lower {
                    Bound::Included(bound) => !less(&value, bound) && !is_nan(&value),
                    Bound::Excluded(bound) => greater(&value, bound),
                    Bound::Unbounded => !is_nan(&value),
                };
                above
                    && match upper {
                        Bound::Included(bound) => !greater(&value, bound),
                        Bound::Excluded(bound) => less(&value, bound),
                        Bound::Unbounded => true,
                    }
            }
        },
        Condition::Time { attribute, lower, upper } => match value(attribute) {
            Some(Value::Timestamp(time)) => (lower.map(at), upper.map(at)).contains(&time),
            _ => false,
        },
        Condition::Bool { attribute, value: expected } => value(attribute) == Some(Value::Bool(*expected)),
        Condition::IsNull { attribute } => value(attribute).is_none(),
        Condition::VideoId { any_of } => any_of.contains(&columns.index().video_ids()[node.index()]),
    }
}

fn at(time: Time) -> Timestamp {
    match time {
        Time::At(time) => time,
        Time::Ago(ago) => now().saturating_sub(ago).unwrap(),
    }
}

fn is_nan(value: &Value) -> bool {
    matches!(value, Value::Double(value) if value.is_nan())
}

fn less(value: &Value, bound: &Number) -> bool {
    match (integer(value), bound) {
        (Ok(value), Number::Int64(bound)) => value < i128::from(*bound),
        (Ok(value), Number::Uint64(bound)) => value < i128::from(*bound),
        (Ok(value), Number::Double(bound)) => value < bound.ceil() as i128,
        (Err(value), Number::Int64(bound)) => (value.floor() as i128) < i128::from(*bound),
        (Err(value), Number::Uint64(bound)) => (value.floor() as i128) < i128::from(*bound),
        (Err(value), Number::Double(bound)) => value < *bound,
    }
}

fn greater(value: &Value, bound: &Number) -> bool {
    match (integer(value), bound) {
        (Ok(value), Number::Int64(bound)) => value > i128::from(*bound),
        (Ok(value), Number::Uint64(bound)) => value > i128::from(*bound),
        (Ok(value), Number::Double(bound)) => value > bound.floor() as i128,
        (Err(value), Number::Int64(bound)) => value.ceil() as i128 > i128::from(*bound),
        (Err(value), Number::Uint64(bound)) => value.ceil() as i128 > i128::from(*bound),
        (Err(value), Number::Double(bound)) => value > *bound,
    }
}

fn integer(value: &Value) -> Result<i128, f64> {
    match value {
        Value::Int64(value) => Ok((*value).into()),
        Value::Uint64(value) => Ok((*value).into()),
        Value::Double(value) => Err(*value),
        other => panic!("{other} is no number"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_filter_lets_through_what_a_look_at_every_value_does(rows in 1usize..200, seed in any::<u64>()) {
        let (_folder, index) = catalogue(rows, seed);
        let columns = Columns::open(&index).unwrap();
        columns.verify().unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 1);
        for _ in 0..100 {
            let filter = filter(&mut random, 3);
            let found = matching(&filter, &columns, now(), || true).unwrap();
            let nodes = (0..rows as u32).filter(|node| filter_holds(&filter, &columns, NodeId(*node)));
            let expected: BTreeSet<u32> = nodes.collect();
            prop_assert_eq!(found.iter().collect::<BTreeSet<u32>>(), expected, "{:?}", filter);
            prop_assert_eq!((found.nodes(), found.count()), (rows, found.iter().count()));
        }
    }
}
