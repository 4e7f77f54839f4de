//! Filters over 1,000,000 videos in this process: every kind of condition, and some trees.
//!
//! Checks each filter against the values of about 2,000 videos before timing it. The graph is minimal, since filters do
//! not read it.

use std::hint::black_box;
use std::ops::Bound;
use std::path::Path;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::{Columns, Value};
use shortlist::base::id::{NodeId, VideoId};
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{AttributeColumn, ColumnValues, Dataset, Embeddings, KeywordLists, write_npy};
use shortlist::index::{Index, IndexStore};
use shortlist::node_set::NodeSet;
use shortlist::rules::{Condition, Filter, Number, Time, matching};

const VIDEOS: usize = 1_000_000;
/// The check visits 1 in this many videos.
const STEP: usize = 499;
const REGIONS: [&str; 8] = ["US", "IN", "BR", "ID", "GB", "DE", "JP", "FR"];
/// 2026-01-01 00:00 UTC.
const NOW_MICROS: i64 = 1_767_225_600_000_000;
const DAY_MICROS: i64 = 24 * 3_600_000_000;

/// Evaluates a condition on the values of a video, which are looked up by name.
type Holds = Box<dyn Fn(&dyn Fn(&str) -> Option<Value>) -> bool>;

fn filter(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the catalog");
    let index = prepare(folder.path());
    let columns = Columns::open(&index).expect("the columns are whole");
    let now = Timestamp::from_microsecond(NOW_MICROS).expect("a time");
    let mut group = criterion.benchmark_group(format!("filter/{VIDEOS}"));
    for (name, filter, holds) in cases(&index) {
        let find =
            || matching(&filter, &columns, now, &mut Interrupt::never()).expect("the filter makes sense");
        let found = find();
        check(&columns, &found, holds);
        let share = format!("{:.2}%", 100.0 * found.count() as f64 / VIDEOS as f64);
        group.bench_function(BenchmarkId::new(name, share), |bencher| bencher.iter(|| black_box(find())));
    }
    let time = columns.find("published_at").expect("there is one");
    let earliest = shortlist::Instant::from(now - SignedDuration::from_hours(24));
    group.bench_function("since", |bencher| bencher.iter(|| columns.since(time, black_box(earliest))));
    group.finish();
    let mut group = criterion.benchmark_group("value_keys");
    for name in ["region", "title", "tags", "duration_s", "safe"] {
        let keys = columns.find(name).and_then(|column| columns.value_keys(column)).expect("it has keys");
        let mut found = Vec::new();
        let mut next = 0u32;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                found.clear();
                keys.append(NodeId(next), &mut found);
                next = (next + 7_919) % VIDEOS as u32;
                black_box(found.len())
            });
        });
    }
    group.finish();
}

fn cases(index: &Index) -> Vec<(&'static str, Filter, Holds)> {
    let region = |any_of: &[&str]| Condition::Keyword {
        attribute: "region".to_owned(),
        any_of: any_of.iter().map(|word| (*word).to_owned()).collect(),
    };
    let tags = |any_of: &[usize], all_of: &[usize]| Condition::List {
        attribute: "tags".to_owned(),
        any_of: any_of.iter().map(|tag| format!("tag {tag}")).collect(),
        all_of: all_of.iter().map(|tag| format!("tag {tag}")).collect(),
    };
    let since = |days: i64| Condition::Time {
        attribute: "published_at".to_owned(),
        lower: Bound::Excluded(Time::Ago(SignedDuration::from_hours(24 * days))),
        upper: Bound::Unbounded,
    };
    let between = |newest: i64, oldest: i64| Condition::Time {
        attribute: "published_at".to_owned(),
        lower: Bound::Included(Time::Ago(SignedDuration::from_hours(24 * oldest))),
        upper: Bound::Excluded(Time::Ago(SignedDuration::from_hours(24 * newest))),
    };
    let safe = || Condition::Bool { attribute: "safe".to_owned(), value: true };
    let rated = |lower: f64, upper: f64| Condition::Number {
        attribute: "rating".to_owned(),
        lower: Bound::Included(Number::Double(lower)),
        upper: Bound::Included(Number::Double(upper)),
    };
    let unrated = || Condition::IsNull { attribute: "rating".to_owned() };
    let titled = |videos: std::ops::Range<usize>| Condition::Keyword {
        attribute: "title".to_owned(),
        any_of: videos.map(|video| format!("title {video}")).collect(),
    };
    let ids: Vec<VideoId> = index.video_ids().iter().step_by(VIDEOS / 1000).copied().collect();
    let must = |must: Vec<Condition>| Filter { must, ..Filter::default() };

    let is = |value: Option<Value>, words: &[&str]| matches!(value, Some(Value::Keyword(word)) if words.contains(&word.as_str()));
    let has = |value: Option<Value>, tag: usize| matches!(value, Some(Value::KeywordList(list)) if list.contains(&format!("tag {tag}")));
    let days_ago = |value: Option<Value>| match value {
        Some(Value::Timestamp(time)) => (NOW_MICROS - time.as_microsecond()) as f64 / DAY_MICROS as f64,
        _ => f64::NAN,
    };
    let rating = |value: Option<Value>| match value {
        Some(Value::Double(value)) => value,
        _ => f64::NAN,
    };
    vec![
        ("keyword one", must(vec![region(&["US"])]), Box::new(move |of| is(of("region"), &["US"]))),
        (
            "keyword any of 3",
            must(vec![region(&["IN", "BR", "JP"])]),
            Box::new(move |of| is(of("region"), &["IN", "BR", "JP"])),
        ),
        (
            "keyword any of 1,000 rare",
            must(vec![titled(0..1000)]),
            Box::new(move |of| {
                let titles = (0..1000).map(|video| format!("title {video}"));
                titles.into_iter().any(|title| of("title") == Some(Value::Keyword(title)))
            }),
        ),
        (
            "list any of 5",
            must(vec![tags(&[1, 2, 5, 9, 700], &[])]),
            Box::new(move |of| [1, 2, 5, 9, 700].into_iter().any(|tag| has(of("tags"), tag))),
        ),
        (
            "list all of 2",
            must(vec![tags(&[], &[0, 1])]),
            Box::new(move |of| has(of("tags"), 0) && has(of("tags"), 1)),
        ),
        (
            "time since 45 days",
            must(vec![since(45)]),
            Box::new(move |of| days_ago(of("published_at")) < 45.0),
        ),
        (
            "time between 11 and 160 days",
            must(vec![between(11, 160)]),
            Box::new(move |of| days_ago(of("published_at")) > 11.0 && days_ago(of("published_at")) <= 160.0),
        ),
        (
            "number double range",
            must(vec![rated(0.31, 0.47)]),
            Box::new(move |of| (0.31..=0.47).contains(&rating(of("rating")))),
        ),
        ("bool", must(vec![safe()]), Box::new(|of| of("safe") == Some(Value::Bool(true)))),
        ("is null", must(vec![unrated()]), Box::new(|of| of("rating").is_none())),
        (
            "video id 1,000",
            must(vec![Condition::VideoId { any_of: ids.clone() }]),
            Box::new(move |of| matches!(of(""), Some(Value::Uint64(id)) if ids.contains(&VideoId(id)))),
        ),
        (
            "region and since 7 days",
            must(vec![region(&["US"]), since(7)]),
            Box::new(move |of| is(of("region"), &["US"]) && days_ago(of("published_at")) < 7.0),
        ),
        (
            "must not bool",
            Filter { must_not: vec![safe()], ..Filter::default() },
            Box::new(|of| of("safe") != Some(Value::Bool(true))),
        ),
        (
            "2 of 4",
            Filter {
                should: vec![region(&["US"]), since(7), safe(), rated(0.5, 1.0)],
                min_should: Some(2),
                ..Filter::default()
            },
            Box::new(move |of| {
                let held = [
                    is(of("region"), &["US"]),
                    days_ago(of("published_at")) < 7.0,
                    of("safe") == Some(Value::Bool(true)),
                    rating(of("rating")) >= 0.5,
                ];
                held.into_iter().filter(|held| *held).count() >= 2
            }),
        ),
        (
            "tree of 7",
            Filter {
                must: vec![
                    region(&["US", "GB"]),
                    Condition::Filter(Filter {
                        should: vec![since(2), tags(&[3, 4], &[])],
                        ..Filter::default()
                    }),
                ],
                must_not: vec![unrated(), rated(0.0, 0.1)],
                ..Filter::default()
            },
            Box::new(move |of| {
                is(of("region"), &["US", "GB"])
                    && (days_ago(of("published_at")) < 2.0 || has(of("tags"), 3) || has(of("tags"), 4))
                    && rating(of("rating")) > 0.1
            }),
        ),
    ]
}

/// Compares the set found with the values of some videos. The attribute "" is the video id.
fn check(columns: &Columns<'_>, found: &NodeSet, holds: Holds) {
    for node in (0..VIDEOS as u32).step_by(STEP).map(NodeId) {
        let value = |name: &str| match columns.find(name) {
            Some(column) => columns.value(column, node),
            None => Some(Value::Uint64(columns.index().video_ids()[node.index()].0)),
        };
        assert_eq!(found.contains(node.0), holds(&value), "node {node:?}");
    }
}

/// Builds an index with distinct ids and titles, and regions, tags and times with realistic skew.
fn prepare(dir: &Path) -> Index {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut draw = |power: i32| random.random::<f64>().powi(power);
    let rows: Vec<f32> = (0..2 * VIDEOS).map(|_| draw(1) as f32 - 0.5).collect();
    let path = dir.join("videos.npy");
    write_npy(&path, &[VIDEOS, 2], &rows).expect("the videos are written");
    let videos = || 0..VIDEOS;
    let mut tags = KeywordLists::default();
    for video in videos() {
        tags.push(Some((0..video % 8).map(|_| format!("tag {}", (draw(4) * 10_000.0) as usize))));
    }
    let regions = videos().map(|_| Some(REGIONS[(draw(2) * 8.0) as usize])).collect();
    let ages = videos().map(|_| Some(NOW_MICROS - (draw(3) * 365.0 * DAY_MICROS as f64) as i64)).collect();
    let columns = [
        ("title", ColumnValues::Keyword(videos().map(|video| Some(format!("title {video}"))).collect())),
        ("region", ColumnValues::Keyword(regions)),
        ("tags", ColumnValues::KeywordList(tags)),
        ("published_at", ColumnValues::Timestamp(ages)),
        ("duration_s", ColumnValues::Int64(videos().map(|_| Some(5 + (draw(2) * 175.0) as i64)).collect())),
        ("views", ColumnValues::Uint64(videos().map(|_| Some((draw(9) * 1e9) as u64)).collect())),
        ("rating", ColumnValues::Double(videos().map(|video| (video % 10 > 0).then(|| draw(1))).collect())),
        ("safe", ColumnValues::Bool(videos().map(|_| Some(draw(1) < 0.9)).collect())),
    ];
    let column = |(name, values): (&str, ColumnValues)| AttributeColumn { name: name.to_owned(), values };
    let dataset = Dataset {
        embeddings: Embeddings::open(&path).expect("the videos open"),
        ids: (0..VIDEOS as u64).map(|video| VideoId(video.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect(),
        attributes: columns.into_iter().map(column).collect(),
        expires_at: None,
    };
    let params = BuildParams::new(Metric::L2, 2, 4).expect("valid parameters");
    let store = IndexStore::new(dir.join("index"));
    build(&dataset, None, &params, &store, &Silent, Instant::now()).expect("the index is built");
    let (_, index, _) = store.open_current().expect("the index opens");
    index
}

criterion_group!(benches, filter);
criterion_main!(benches);
