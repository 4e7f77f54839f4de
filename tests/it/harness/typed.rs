//! Small indexes with an attribute of every type, and random filters that match some of their values.

use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::instant::Instant;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::{AttributeColumn, ColumnValues, Dataset, Embeddings, NEVER, write_npy};
use shortlist::index::Index;
use shortlist::rules::{Condition, Filter, Number, Time};
use tempfile::TempDir;

use crate::harness::indexes::{build_index, random_rows};

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

/// An index over a [`typed_dataset`].
pub fn typed_index(rows: usize, seed: u64) -> (TempDir, Index) {
    let (folder, dataset) = typed_dataset(rows, seed);
    let params = BuildParams::new(Metric::InnerProduct, 4, 8).unwrap().with_threads(1);
    let index = build_index(&dataset, &params, &folder.path().join("index"));
    (folder, index)
}

/// A column of every type, with a tenth of the values null and few distinct values, so that conditions match some. In
/// every second catalog half of the videos expire.
pub fn typed_dataset(rows: usize, seed: u64) -> (TempDir, Dataset) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.npy");
    write_npy(&path, &[rows, 2], &random_rows(rows, 2, seed)).unwrap();
    let nullable = random.random_bool(0.8);
    let some = |random: &mut ChaCha8Rng| !(nullable && random.random_bool(0.1));
    let random = &mut random;
    let lists: Vec<Option<Vec<&str>>> = (0..rows)
        .map(|_| {
            let mut list = Vec::new();
            for _ in 0..random.random_range(0..4) {
                let item = WORDS[random.random_range(0..6)];
                list.extend(some(random).then_some(item));
            }
            some(random).then_some(list)
        })
        .collect();
    let times = [Instant::MIN.as_microsecond(), Instant::MAX.as_microsecond(), NOW - 1, NOW, NOW + 1];
    let mut keyword = || some(random).then(|| WORDS[random.random_range(0..6)]);
    let keywords = (0..rows).map(|_| keyword()).collect();
    let mut int64 = || some(random).then(|| *INTEGERS.choose(random).unwrap());
    let int64s = (0..rows).map(|_| int64()).collect();
    let mut uint64 = || some(random).then(|| *INTEGERS.choose(random).unwrap() as u64);
    let uint64s = (0..rows).map(|_| uint64()).collect();
    let mut double = || some(random).then(|| *DOUBLES.choose(random).unwrap());
    let doubles = (0..rows).map(|_| double()).collect();
    let mut boolean = || some(random).then(|| random.random_bool(0.3));
    let booleans = (0..rows).map(|_| boolean()).collect();
    let mut time = || some(random).then(|| *times.choose(random).unwrap());
    let times = (0..rows).map(|_| time()).collect();
    let columns = [
        ("keyword", ColumnValues::Keyword(keywords)),
        ("list", ColumnValues::KeywordList(lists.into_iter().collect())),
        ("int64", ColumnValues::Int64(int64s)),
        ("uint64", ColumnValues::Uint64(uint64s)),
        ("double", ColumnValues::Double(doubles)),
        ("bool", ColumnValues::Bool(booleans)),
        ("time", ColumnValues::Timestamp(times)),
    ];
    let column = |(name, values): (&str, ColumnValues)| AttributeColumn { name: name.to_owned(), values };
    let dataset = Dataset {
        embeddings: Embeddings::open(&path).unwrap(),
        ids: (0..rows).map(|row| VideoId(1000 - row as u64)).collect(),
        attributes: columns.into_iter().map(column).collect(),
        expires_at: random.random_bool(0.5).then(|| {
            let times =
                (0..rows).map(|row| (row == 0 || random.random_bool(0.5)).then_some(NOW + row as i64));
            times.map(|time| time.unwrap_or(NEVER)).collect()
        }),
    };
    (folder, dataset)
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
        0 => Time::At([Instant::MIN, Instant::MAX][random.random_range(0..2)]),
        1 => Time::Ago([SignedDuration::MIN, SignedDuration::MAX][random.random_range(0..2)]),
        2 => Time::Ago(step),
        _ => Time::At((now() + step).into()),
    }
}

/// The time of the requests.
pub fn now() -> Timestamp {
    Timestamp::from_microsecond(NOW).unwrap()
}

/// A range with at least one bound.
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

/// A random filter with at most `depth` levels nested in it.
pub fn random_filter(random: &mut ChaCha8Rng, depth: usize) -> Filter {
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
        0 => Condition::Filter(random_filter(random, depth - 1)),
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
