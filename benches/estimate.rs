//! The expected cost of requests of every kind, compared with the time that they take on one thread.
//!
//! Admission relies on the proportions: a request that is expected to cost ten times as much as another one should take
//! about ten times as long. The last column is the measured time per expected time, relative to a plain search, which has
//! a ratio of 1. `SHORTLIST_BENCH_VIDEOS` sets the number of videos, 20,000 by default.

#[path = "common/synthetic.rs"]
mod synthetic;

use std::hint::black_box;
use std::ops::Bound;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use shortlist::VideoId;
use shortlist::base::metric::Metric;
use shortlist::dataset::{Dataset, DatasetFiles};
use shortlist::engine::{
    Budget, Effort, Engine, EngineOptions, Interest, Query, ReturnAttributes, SearchRequest,
};
use shortlist::rules::{Bloom, Cap, Condition, Exclude, Filter, Fresh, Number, Rules};

use self::synthetic::synthetic_index;

/// Times that each request is timed; the shortest counts.
const ROUNDS: usize = 5;

fn main() {
    let videos =
        std::env::var("SHORTLIST_BENCH_VIDEOS").map_or(20_000, |videos| videos.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder for the catalog");
    let (_, queries) = synthetic_index(folder.path(), videos, |files| {
        let of_files = DatasetFiles {
            embeddings: vec![files.videos.clone()],
            ids: Some(files.video_ids.clone()),
            attributes: vec![files.attributes.clone()],
        };
        Dataset::open(&of_files, Metric::InnerProduct).expect("the catalog is sound")
    });
    let indexes = vec![("videos".to_owned(), folder.path().join("index"))];
    let engine = Engine::open(EngineOptions { indexes, threads: 1, ..EngineOptions::default() });
    let engine = engine.expect("the index is served");
    engine.refresh();
    println!("{videos} videos");
    println!("{:<60} {:>12} {:>12} {:>7}", "request", "expected ms", "measured ms", "ratio");
    let mut unit = None;
    for (name, request) in kinds(&queries) {
        let expected = Duration::from_nanos(engine.expected_cost(&request)).as_secs_f64() * 1e3;
        let timed = || {
            let started = Instant::now();
            let answer = engine.search(black_box(&request), &Budget::until(None));
            let took = started.elapsed();
            answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            took
        };
        let measured = (0..ROUNDS).map(|_| timed()).min().expect("a round").as_secs_f64() * 1e3;
        let ratio = measured / expected;
        let unit = *unit.get_or_insert(ratio);
        println!("{name:<60} {expected:>12.3} {measured:>12.3} {:>7.2}", ratio / unit);
    }
}

/// Requests by name, a plain search first.
fn kinds(queries: &[Vec<f32>]) -> Vec<(String, SearchRequest)> {
    let plain = |k, effort| SearchRequest {
        query: Query::Vector(queries[0].clone()),
        k,
        effort,
        ..Default::default()
    };
    let interests = |count: usize, min_share| {
        let one = |vector: &Vec<f32>| Interest { vector: vector.clone(), weight: 1.0, min_share };
        Query::Interests(queries[..count].iter().map(one).collect())
    };
    let ruled = |rules| SearchRequest { rules, ..plain(10, Effort::Default) };
    let fresh = |at_least| {
        let within = SignedDuration::from_hours(24 * 3650);
        Some(Fresh { attribute: "published_at".to_owned(), within, at_least })
    };
    let caps = |count: usize, max_per_value| -> Vec<Cap> {
        let attributes = ["creator", "region", "language", "topic", "title", "safety_rating"];
        let of = |attribute: &&str| Cap { attribute: (*attribute).to_owned(), max_per_value };
        attributes.iter().cycle().take(count).map(of).collect()
    };
    let must = |condition| Rules {
        filter: Some(Filter { must: vec![condition], ..Filter::default() }),
        ..Rules::default()
    };
    let words = |any_of| Condition::Keyword { attribute: "region".to_owned(), any_of };
    let ids = |count: u64| (0..count).map(VideoId).collect::<Vec<_>>();
    let shorter = |seconds| Condition::Number {
        attribute: "duration_s".to_owned(),
        lower: Bound::Unbounded,
        upper: Bound::Excluded(Number::Int64(seconds)),
    };
    let should = |should, min_should| Rules {
        filter: Some(Filter { should, min_should: Some(min_should), ..Filter::default() }),
        ..Rules::default()
    };
    let bloom = |byte, bytes, hashes| Rules {
        exclude: Exclude {
            bloom: Some(Bloom { bits: vec![byte; bytes], hashes, seed: 1 }),
            ..Exclude::default()
        },
        ..Rules::default()
    };
    let excluded = |count| Rules {
        exclude: Exclude { video_ids: ids(count), ..Exclude::default() },
        ..Rules::default()
    };
    let mut kinds = vec![("k=10".to_owned(), plain(10, Effort::Default))];
    for k in [100, 500, 10_000] {
        kinds.push((format!("k={k}"), plain(k, Effort::Default)));
    }
    kinds.push(("k=10, ef_search=1,000".into(), plain(10, Effort::EfSearch(1000))));
    kinds.push(("k=10,000, ef_search=20,000".into(), plain(10_000, Effort::EfSearch(20_000))));
    kinds.push(("exact".into(), plain(10, Effort::Exact)));
    kinds.push(("exact, k=10,000".into(), plain(10_000, Effort::Exact)));
    kinds.push(("k=10, offset=990".into(), SearchRequest { offset: 990, ..plain(10, Effort::Default) }));
    kinds.push(("k=10, offset=9,990".into(), SearchRequest { offset: 9_990, ..plain(10, Effort::Default) }));
    kinds.push(("k=1, offset=9,999".into(), SearchRequest { offset: 9_999, ..plain(1, Effort::Default) }));
    for count in [4, 16] {
        for share in [0.0, 1.0 / 16.0] {
            let with = if share > 0.0 { " with min_share" } else { "" };
            for k in [16, 500] {
                let request = SearchRequest { query: interests(count, share), ..plain(k, Effort::Default) };
                kinds.push((format!("{count} interests{with}, k={k}"), request));
            }
        }
    }
    kinds.push((
        "exact, 16 interests".into(),
        SearchRequest { query: interests(16, 0.0), ..plain(10, Effort::Exact) },
    ));
    kinds.push((
        "16 interests with min_share, k=16, offset=9,984".into(),
        SearchRequest { query: interests(16, 1.0 / 16.0), offset: 9_984, ..plain(16, Effort::Default) },
    ));
    kinds.push((
        "16 interests with min_share, k=16, offset=9,984, 16 caps".into(),
        SearchRequest {
            query: interests(16, 1.0 / 16.0),
            offset: 9_984,
            rules: Rules { caps: caps(16, 10_000), ..Rules::default() },
            ..plain(16, Effort::Default)
        },
    ));
    for (k, offset, count, at_least) in [
        (10, 0, 1, 0),
        (100, 0, 16, 0),
        (500, 0, 1, 0),
        (5000, 5000, 16, 0),
        (10, 0, 0, 1),
        (100, 0, 0, 20),
        (1, 999, 0, 1),
        (1, 9_999, 0, 1),
        (1, 9_999, 16, 1),
        (10, 9_990, 16, 1),
    ] {
        let rules = Rules { caps: caps(count, 10_000), fresh: fresh(at_least), ..Rules::default() };
        let name = format!("k={k}, offset={offset}, {count} caps, {at_least} fresh");
        kinds.push((name, SearchRequest { offset, rules, ..plain(k, Effort::Default) }));
    }
    for max_per_value in [1, 2] {
        let rules = Rules { caps: caps(2, max_per_value), ..Rules::default() };
        kinds.push((
            format!("k=500, 2 caps of {max_per_value}"),
            SearchRequest { rules, ..plain(500, Effort::Default) },
        ));
    }
    kinds.push(("filter: region".into(), ruled(must(words(vec!["US".into()])))));
    kinds.push(("filter: shorter than 30 s".into(), ruled(must(shorter(30)))));
    kinds.push(("filter: shorter than 5 s".into(), ruled(must(shorter(5)))));
    kinds.push(("filter: 100,000 equal words".into(), ruled(must(words(vec!["US".into(); 100_000])))));
    let unknown = (0..100_000).map(|at| format!("w{at}")).collect();
    kinds.push(("filter: 100,000 unknown words".into(), ruled(must(words(unknown)))));
    let one = words(vec!["US".into()]);
    kinds.push(("filter: 1,000 conditions, min_should=500".into(), ruled(should(vec![one; 1000], 500))));
    kinds.push((
        "filter: 1,000 ranges, min_should=511".into(),
        ruled(should((0..1000).map(shorter).collect(), 511)),
    ));
    kinds
        .push(("filter: 100,000 video ids".into(), ruled(must(Condition::VideoId { any_of: ids(100_000) }))));
    kinds.push(("1,000 ids excluded".into(), ruled(excluded(1000))));
    kinds.push(("100,000 ids excluded".into(), ruled(excluded(100_000))));
    kinds.push(("Bloom filter of 4 MB, no id".into(), ruled(bloom(0, 4_000_000, 7))));
    kinds.push(("Bloom filter of 4 MB, half of the bits, 1 hash".into(), ruled(bloom(0x55, 4_000_000, 1))));
    kinds.push(("Bloom filter of 4 MB, every id, 32 hashes".into(), ruled(bloom(0xff, 4_000_000, 32))));
    let with_contents = |k| SearchRequest {
        return_attributes: ReturnAttributes::All,
        return_vectors: true,
        ..plain(k, Effort::Default)
    };
    for k in [100, 10_000] {
        kinds.push((format!("k={k}, attributes and vectors"), with_contents(k)));
    }
    kinds
}
