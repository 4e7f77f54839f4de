//! Cost of rules: requests with each kind of rule through the engine, over 200,000 videos, compared with requests without
//! rules.
//!
//! Checks that answers keep their rules and reach their expected recall before timing them. `shortlist bench --requests`
//! measures any rules on any data; this is for comparing two commits.

#[path = "common/synthetic.rs"]
mod synthetic;

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roaring::RoaringTreemap;
use shortlist::attributes::Value;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::dataset::{AttributeColumn, ColumnValues, Dataset, DatasetFiles};
use shortlist::engine::{
    Budget, Candidate, Effort, Engine, EngineOptions, Interest, Query, ReturnAttributes, SearchRequest,
};
use shortlist::index::Index;
use shortlist::rules::{Cap, Condition, Exclude, Filter, Number, Rules};
use shortlist::search::{self, SearchParams, Searcher};

use self::synthetic::synthetic_index;

const VIDEOS: usize = 200_000;
/// Queries whose answers are checked.
const CHECKED: usize = 30;
const K: usize = 100;
const EF_SEARCH: usize = 200;
/// Distinct values of the filtered attribute, all equally frequent.
const SLOTS: i64 = 1_000;
const EXCLUDED: usize = 10_000;
/// Candidates of a long answer.
const LONG: usize = 500;
/// Number of times that each query is timed in each of two compared ways.
const ROUNDS: usize = 16;

/// Whether an answer keeps the rules of its request.
type Keeps = Box<dyn Fn(&[Candidate]) -> bool>;

/// A case: its name, its requests, their minimum recall, and the check of their answers.
struct Case {
    name: &'static str,
    requests: Vec<SearchRequest>,
    recall: f64,
    keeps: Keeps,
}

fn rules(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the catalog");
    let (index, queries) = prepare(folder.path());
    let indexes = vec![("videos".to_owned(), folder.path().join("index"))];
    let engine = Engine::open(EngineOptions { indexes, threads: 1, ..EngineOptions::default() });
    let engine = engine.expect("the index is served");
    engine.refresh();
    without(criterion, &engine, &index, &queries);
    let seen = seen(&index);
    for (k, ef_search) in [(K, EF_SEARCH), (LONG, EF_SEARCH), (LONG, LONG)] {
        // The difference between the two is the cost of the ids; the cost of having rules is in both.
        for excluded in [1, EXCLUDED] {
            let excluding =
                Rules { exclude: exclude(&seen.iter().take(excluded).collect()), ..Rules::default() };
            let share = typical_share(&queries, |query| {
                let plain = SearchRequest { k, effort: Effort::EfSearch(ef_search), ..request(query) };
                let ruled = SearchRequest { rules: excluding.clone(), ..plain.clone() };
                paired(|| ask(&engine, black_box(&ruled)), || ask(&engine, black_box(&plain)))
            });
            println!(
                "{excluded} excluded, k = {k}, ef_search = {ef_search}: {share:.3} of the time without rules, query by \
                 query"
            );
        }
    }
    let mut group = criterion.benchmark_group(format!("rules/{VIDEOS}"));
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(3));
    for case in cases(&index, &queries) {
        check(&engine, &case);
        let mut next = case.requests.iter().cycle();
        group.bench_function(case.name, |bencher| {
            bencher.iter(|| ask(&engine, black_box(next.next().expect("a cycle"))));
        });
    }
    group.finish();
}

/// A request without rules through the engine, compared with the bare search.
fn without(criterion: &mut Criterion, engine: &Engine, index: &Index, queries: &[Vec<f32>]) {
    let searcher = Searcher::default();
    let params = SearchParams::new(K, search::Effort::EfSearch(EF_SEARCH)).expect("valid parameters");
    let bare = |query: &[f32]| searcher.search(index, query, &params, &mut Interrupt::never()).hits;
    let share = typical_share(queries, |query| {
        let request = request(query);
        let ids = index.video_ids();
        let expected: Vec<_> = bare(query).iter().map(|hit| (ids[hit.node.index()], hit.score)).collect();
        let found = ask(engine, &request);
        let found: Vec<_> = found.iter().map(|candidate| (candidate.video_id, candidate.score)).collect();
        assert_eq!(found, expected, "the engine answers what the searcher finds");
        paired(|| ask(engine, black_box(&request)), || bare(black_box(query)))
    });
    println!("no rules: the engine takes {share:.3} of the time of the searcher, query by query");
    let mut group = criterion.benchmark_group(format!("no_rules/{VIDEOS}"));
    group.throughput(Throughput::Elements(1)).sample_size(30);
    let mut next = queries.iter().cycle();
    group.bench_function("searcher", |bencher| {
        bencher.iter(|| bare(black_box(next.next().expect("a cycle"))));
    });
    let requests: Vec<SearchRequest> = queries.iter().map(|query| request(query)).collect();
    let mut next = requests.iter().cycle();
    group.bench_function("engine", |bencher| {
        bencher.iter(|| ask(engine, black_box(next.next().expect("a cycle"))));
    });
    group.finish();
}

/// The median of `share` over all queries.
fn typical_share(queries: &[Vec<f32>], share: impl FnMut(&Vec<f32>) -> f64) -> f64 {
    let mut shares: Vec<f64> = queries.iter().map(share).collect();
    shares.sort_unstable_by(f64::total_cmp);
    shares[shares.len() / 2]
}

/// The time of one way as a share of the time of another; the fastest round of each counts. The two alternate, and each
/// goes first equally often, so that other load of the machine affects both alike.
fn paired<T, U>(one: impl Fn() -> T, other: impl Fn() -> U) -> f64 {
    let (mut of_one, mut of_other) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS / 2 {
        of_other = of_other.min(timed(&other));
        of_one = of_one.min(timed(&one));
        of_one = of_one.min(timed(&one));
        of_other = of_other.min(timed(&other));
    }
    of_one.as_secs_f64() / of_other.as_secs_f64()
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    black_box(work());
    started.elapsed()
}

fn ask(engine: &Engine, request: &SearchRequest) -> Vec<Candidate> {
    engine.search(request, &Budget::default()).expect("the request makes sense").candidates
}

/// A request without rules.
fn request(query: &[f32]) -> SearchRequest {
    SearchRequest {
        query: Query::Vector(query.to_vec()),
        k: K,
        effort: Effort::EfSearch(EF_SEARCH),
        ..SearchRequest::default()
    }
}

fn cases(index: &Index, queries: &[Vec<f32>]) -> Vec<Case> {
    let ruled = |rules: Rules| -> Vec<SearchRequest> {
        queries.iter().map(|query| SearchRequest { rules: rules.clone(), ..request(query) }).collect()
    };
    let mut cases = vec![Case {
        name: "none",
        requests: ruled(Rules::default()),
        recall: 0.9,
        keeps: Box::new(|_| true),
    }];
    for (name, slots) in [("filter 50 %", 500), ("filter 10 %", 100), ("filter 1 %", 10), ("filter 0.1 %", 1)]
    {
        let upper = Bound::Excluded(Number::Int64(slots));
        let slot = Condition::Number { attribute: "slot".to_owned(), lower: Bound::Unbounded, upper };
        let filter = Some(Filter { must: vec![slot], ..Filter::default() });
        let is_match = move |candidate: &Candidate| matches!(value(candidate, "slot"), Some(Value::Int64(slot)) if *slot < slots);
        cases.push(Case {
            name,
            requests: ruled(Rules { filter, ..Rules::default() }),
            recall: 0.85,
            keeps: Box::new(move |answer| answer.iter().all(is_match)),
        });
    }
    let seen = seen(index);
    let excluding = Rules { exclude: exclude(&seen), ..Rules::default() };
    cases.push(Case {
        name: "10,000 excluded",
        requests: ruled(excluding),
        recall: 0.9,
        keeps: Box::new(move |answer| answer.iter().all(|candidate| !seen.contains(candidate.video_id.0))),
    });
    let caps = vec![Cap { attribute: "creator".to_owned(), max_per_value: 2 }];
    cases.push(Case {
        name: "creator at most 2",
        requests: ruled(Rules { caps, ..Rules::default() }),
        recall: 0.9,
        keeps: Box::new(|answer| {
            let mut counts: HashMap<String, usize> = HashMap::new();
            for creator in answer.iter().filter_map(|candidate| value(candidate, "creator")) {
                *counts.entry(creator.to_string()).or_default() += 1;
            }
            counts.values().all(|count| *count <= 2)
        }),
    });
    // Four unrelated users are harder to serve than one.
    for (name, count, recall) in [("interests 1", 1, 0.9), ("interests 4", 4, 0.8)] {
        let of = |at: usize| {
            let vector = queries[at % queries.len()].clone();
            Interest { vector, weight: 1.0, min_share: 0.0 }
        };
        let interests = |at: usize| Query::Interests((at..at + count).map(of).collect());
        let requests =
            (0..queries.len()).map(|at| SearchRequest { query: interests(at), ..request(&queries[at]) });
        cases.push(Case {
            name,
            requests: requests.collect(),
            recall,
            keeps: Box::new(move |answer| {
                answer.iter().all(|candidate| candidate.interest.is_some_and(|at| at < count))
            }),
        });
    }
    cases
}

/// Every 20th video of the index.
fn seen(index: &Index) -> RoaringTreemap {
    let seen: RoaringTreemap =
        index.video_ids().iter().step_by(VIDEOS / EXCLUDED).map(|video| video.0).collect();
    assert_eq!(seen.len(), EXCLUDED as u64);
    seen
}

fn exclude(seen: &RoaringTreemap) -> Exclude {
    let mut exclude = Exclude::default();
    seen.serialize_into(&mut exclude.roaring).expect("memory can be written");
    exclude
}

fn value<'a>(candidate: &'a Candidate, name: &str) -> Option<&'a Value> {
    candidate.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value)
}

/// Checks that answers keep their rules and reach the recall of the case.
fn check(engine: &Engine, Case { name, requests, recall: at_least, keeps }: &Case) {
    let (mut hits, mut wanted) = (0, 0);
    for request in &requests[..CHECKED] {
        let request = SearchRequest { return_attributes: ReturnAttributes::All, ..request.clone() };
        let exact = ask(engine, &SearchRequest { effort: Effort::Exact, ..request.clone() });
        let exact: HashSet<_> = exact.iter().map(|candidate| candidate.video_id).collect();
        let answer = ask(engine, &request);
        assert_eq!(answer.len(), K, "{name}: the answer is short");
        assert!(keeps(&answer), "{name}: an answer breaks its rules");
        hits += answer.iter().filter(|candidate| exact.contains(&candidate.video_id)).count();
        wanted += exact.len();
    }
    let recall = hits as f64 / wanted as f64;
    assert!(recall >= *at_least, "{name}: expected a recall of {at_least}, found {recall}");
}

/// Synthetic videos with one more attribute, whose values are uniform and independent of the embeddings.
fn prepare(dir: &Path) -> (Index, Vec<Vec<f32>>) {
    synthetic_index(dir, VIDEOS, |files| {
        let of_files = DatasetFiles {
            embeddings: vec![files.videos.clone()],
            ids: Some(files.video_ids.clone()),
            attributes: vec![files.attributes.clone()],
        };
        let mut dataset = Dataset::open(&of_files, Metric::InnerProduct).expect("the catalog is sound");
        let slot = |row: u64| ((row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % SLOTS as u64) as i64;
        let slots = ColumnValues::Int64((0..VIDEOS as u64).map(|row| Some(slot(row))).collect());
        dataset.attributes.push(AttributeColumn { name: "slot".to_owned(), values: slots });
        dataset
    })
}

criterion_group!(benches, rules);
criterion_main!(benches);
