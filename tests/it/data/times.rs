//! Times in every encoding of Parquet, from the first to the last that is stored, through an index and its filters.

use std::path::{Path, PathBuf};

use parquet::basic::{LogicalType, TimeUnit, Type as Physical};
use proptest::prelude::*;
use shortlist::attributes::{AttributeError, Columns, Value, check};
use shortlist::base::id::NodeId;
use shortlist::base::instant::Instant;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build_in_memory};
use shortlist::dataset::{AttributeColumn, ColumnValues, Dataset, DatasetError, DatasetFiles, EXPIRES_AT};
use shortlist::index::Index;
use shortlist::rules::{Filter, matching};

use crate::harness::files::{Folder, assert_refused};
use crate::harness::parquet::{Cell, Leaf, embeddings, leaf, timestamp, values};

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// How a column stores times.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    Units { of: TimeUnit, is_utc: bool },
    Days,
    Int96,
}

const ENCODINGS: [Encoding; 8] = [
    Encoding::Units { of: TimeUnit::MILLIS, is_utc: true },
    Encoding::Units { of: TimeUnit::MILLIS, is_utc: false },
    Encoding::Units { of: TimeUnit::MICROS, is_utc: true },
    Encoding::Units { of: TimeUnit::MICROS, is_utc: false },
    Encoding::Units { of: TimeUnit::NANOS, is_utc: true },
    Encoding::Units { of: TimeUnit::NANOS, is_utc: false },
    Encoding::Days,
    Encoding::Int96,
];

impl Encoding {
    fn leaf(self) -> Leaf {
        match self {
            Encoding::Units { of, is_utc } => timestamp(of, is_utc),
            Encoding::Days => leaf(Physical::INT32, Some(LogicalType::Date)),
            Encoding::Int96 => leaf(Physical::INT96, None),
        }
    }

    /// Nanoseconds per unit.
    fn unit(self) -> i128 {
        match self {
            Encoding::Units { of: TimeUnit::MILLIS, .. } => 1_000_000,
            Encoding::Units { of: TimeUnit::MICROS, .. } => 1_000,
            Encoding::Units { of: TimeUnit::NANOS, .. } | Encoding::Int96 => 1,
            Encoding::Days => DAY,
        }
    }

    fn unit_name(self) -> &'static str {
        match self.unit() {
            1 => "nanoseconds",
            1_000 => "microseconds",
            1_000_000 => "milliseconds",
            _ => "days",
        }
    }

    /// The number of units, if the encoding can hold it.
    fn cell(self, units: i128) -> Option<Cell> {
        Some(match self {
            Encoding::Units { .. } => Cell::Int64(units.try_into().ok()?),
            Encoding::Days => Cell::Int32(units.try_into().ok()?),
            Encoding::Int96 => {
                let nanos = units.rem_euclid(DAY) as u64;
                let day = i32::try_from(units.div_euclid(DAY) + 2_440_588).ok()?;
                Cell::Int96([nanos as u32, (nanos >> 32) as u32, day as u32])
            }
        })
    }

    /// A file with the times, in nanoseconds since 1970, in a column `t` and as the expiry. Also the times, rounded
    /// down to units, without those that the encoding cannot hold.
    fn file(self, folder: &Folder, nanos: &[i128]) -> (PathBuf, Vec<i128>) {
        let units = nanos.iter().map(|nanos| nanos.div_euclid(self.unit()));
        let held: Vec<i128> = units.filter(|units| self.cell(*units).is_some()).collect();
        let column = |name| values(name, self.leaf(), held.iter().map(|units| self.cell(*units)));
        let rows: Vec<[f32; 2]> = held.iter().map(|_| [1.0, 0.5]).collect();
        let path = folder.parquet("times.parquet", &[embeddings(&rows), column("t"), column(EXPIRES_AT)]);
        (path, held.into_iter().map(|units| units * self.unit()).collect())
    }
}

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(&DatasetFiles::of(path.to_owned()), Metric::L2)
}

/// Near the borders of the range, of 32 and 64 bits of any unit, and of `jiff::Timestamp`; else anywhere.
fn instants() -> impl Strategy<Value = i128> {
    let (first, last) = (Instant::MIN.as_nanosecond(), Instant::MAX.as_nanosecond());
    let edges = vec![
        first,
        last,
        0,
        -62_135_596_800 * SECOND,
        253_402_214_400 * SECOND,
        jiff::Timestamp::MIN.as_nanosecond(),
        jiff::Timestamp::MAX.as_nanosecond(),
        i64::MIN.into(),
        i64::MAX.into(),
        i128::from(i32::MIN) * SECOND,
        i128::from(i32::MAX) * SECOND,
    ];
    let near = (
        prop::sample::select(edges),
        -3..=3i128,
        prop::sample::select(vec![1, 1_000, 1_000_000, SECOND, DAY]),
    );
    prop_oneof![
        near.prop_map(move |(edge, steps, step)| (edge + steps * step).clamp(first, last)),
        first..=last,
        -3 * SECOND..=3 * SECOND,
    ]
}

/// The nodes that a filter matches, in the order of the rows of the dataset.
fn matched(index: &Index, filter: &str) -> Vec<bool> {
    let columns = Columns::open(index).unwrap();
    let filter: Filter = filter.parse().unwrap();
    let nodes = matching(&filter, &columns, jiff::Timestamp::now(), &mut Interrupt::never()).unwrap();
    by_row(index, |node| nodes.contains(node.0))
}

/// A value of every node, in the order of the rows of the dataset, which are the ids.
fn by_row<T>(index: &Index, of: impl Fn(NodeId) -> T) -> Vec<T> {
    (0..index.len() as u64).map(|row| of(index.node_of(shortlist::VideoId(row)).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_instant_is_the_same_in_a_file_an_index_and_a_filter(
        encoding in prop::sample::select(ENCODINGS.to_vec()),
        nanos in prop::collection::vec(instants(), 1..20),
        bounds in prop::collection::vec(instants(), 1..6),
    ) {
        let folder = Folder::new();
        let (path, stored) = encoding.file(&folder, &[&nanos[..], &[0]].concat());
        let micros: Vec<i64> = stored.iter().map(|nanos| nanos.div_euclid(1_000) as i64).collect();
        let dataset = open(&path).unwrap();
        prop_assert_eq!(&dataset.expires_at, &Some(micros.clone()));
        let index = build_in_memory(&dataset, &BuildParams::new(Metric::L2, 4, 8).unwrap(), &Silent).unwrap();
        prop_assert_eq!(by_row(&index, |node| index.expiries().unwrap()[node.index()]), micros.clone());
        let columns = Columns::open(&index).unwrap();
        columns.verify().unwrap();
        let found = by_row(&index, |node| columns.value(columns.find("t").unwrap(), node));
        let expected = micros.iter().map(|micros| Some(Value::Timestamp(Instant::from_microsecond(*micros).unwrap())));
        prop_assert_eq!(found, expected.collect::<Vec<_>>());
        let of_index = |micros: &i64| i128::from(*micros) * 1_000;
        for bound in bounds.into_iter().chain(micros.iter().map(of_index)) {
            let text = Instant::from_nanosecond(bound).unwrap();
            let holds = |holds: fn(&i128, &i128) -> bool| -> Vec<bool> {
                micros.iter().map(|micros| holds(&of_index(micros), &bound)).collect()
            };
            for (operator, expected) in [
                ("<", holds(i128::lt)),
                ("<=", holds(i128::le)),
                (">", holds(i128::gt)),
                (">=", holds(i128::ge)),
                ("=", holds(i128::eq)),
            ] {
                prop_assert_eq!(matched(&index, &format!("t {operator} {text}")), expected, "{} {}", operator, text);
            }
        }
    }

    #[test]
    fn a_time_outside_of_the_range_is_refused_with_its_place(
        encoding in prop::sample::select(ENCODINGS.to_vec()),
        row in 0..5usize,
        beyond in prop_oneof![Just(0i128), 0..DAY, 0..i128::from(i64::MAX)],
        is_before in any::<bool>(),
    ) {
        let folder = Folder::new();
        let out = if is_before { Instant::MIN.as_nanosecond() - 1 - beyond } else { Instant::MAX.as_nanosecond() + 1 + beyond };
        let mut nanos = vec![0; 6];
        nanos[row] = out;
        let (path, stored) = encoding.file(&folder, &nanos);
        if stored.len() == nanos.len() {
            assert_refused!(open(&path), Time { path: path.clone(), name: "t", row: row });
            let error = open(&path).unwrap_err().to_string();
            let end = format!("found {} {} since 1970", stored[row] / encoding.unit(), encoding.unit_name());
            prop_assert!(error.contains("expected a time from") && error.ends_with(&end), "{}", error);
        }
    }
}

#[test]
fn the_last_day_of_the_calendar_is_stored_whole() {
    let folder = Folder::new();
    let of = |text: &str| text.parse::<Instant>().unwrap().as_nanosecond();
    let nanos = ["9999-12-31", "9999-12-31T23:59:59.999999Z", "1500-06-01", "0001-01-01"].map(of);
    let (path, _) = Encoding::Int96.file(&folder, &nanos);
    let dataset = open(&path).unwrap();
    let expected =
        [253_402_214_400_000_000, 253_402_300_799_999_999, -14_818_723_200_000_000, -62_135_596_800_000_000];
    assert_eq!(dataset.expires_at.as_deref(), Some(&expected[..]));
}

#[test]
fn a_time_of_memory_that_is_no_instant_is_refused_with_its_row() {
    for micros in [i64::MIN, Instant::MIN.as_microsecond() - 1, Instant::MAX.as_microsecond() + 1, i64::MAX] {
        let values = ColumnValues::Timestamp([Some(0), None, Some(micros)].into_iter().collect());
        let error = check(&AttributeColumn { name: "a".to_owned(), values }.clone()).unwrap_err();
        assert!(matches!(&error, AttributeError::BadValue { row: 2, .. }), "{error}");
        assert!(error.to_string().ends_with(&format!("found {micros} microseconds since 1970")), "{error}");
    }
}
