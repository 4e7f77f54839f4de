//! Score terms in the search, compared with what a ranking service does without them: retrieve more candidates, add the terms, keep
//! the best.
//!
//! Two terms, popularity and freshness, at weights where they decide about a tenth, a third and a half of the exact best 100 of a
//! synthetic catalog. Every way runs at the default effort, on one thread, in turns. `RERANK_INDEX` and `RERANK_USERS` name an index
//! of `synth` and its `users_test.npy`; without them, `SHORTLIST_BENCH_VIDEOS` videos are made, 20,000 by default.

#[path = "common/synthetic.rs"]
mod synthetic;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shortlist::attributes::Value;
use shortlist::base::metric::Metric;
use shortlist::dataset::{Dataset, DatasetFiles, Embeddings};
use shortlist::engine::{
    Budget, Candidate, Effort, Engine, EngineOptions, ReturnAttributes, SearchRequest, SearchResponse,
};
use shortlist::rules::{Rules, ScoreTerm};

use self::synthetic::synthetic_index;

/// Candidates that are wanted.
const K: usize = 100;
/// Queries of users that did not teach the index.
const QUERIES: usize = 150;
/// Times that each search is timed; the shortest counts.
const ROUNDS: usize = 3;
/// Weights of the logarithm of the views, and of the freshness.
const WEIGHTS: [(f64, f64); 3] = [(0.0043, 0.0225), (0.0152, 0.08), (0.0239, 0.125)];
/// The half-life of freshness.
const HALF_LIFE_DAYS: f64 = 7.0;
/// How many times as many candidates are retrieved to be ranked again.
const FACTORS: [usize; 3] = [2, 4, 10];

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the catalog");
    let (index, users) = match (std::env::var("RERANK_INDEX"), std::env::var("RERANK_USERS")) {
        (Ok(index), Ok(users)) => (PathBuf::from(index), read(Path::new(&users))),
        _ => made(folder.path()),
    };
    let options =
        EngineOptions { indexes: vec![("videos".to_owned(), index)], threads: 1, ..EngineOptions::default() };
    let engine = Engine::open(options).expect("the index is served");
    engine.refresh();
    // The copy in memory is made in the background.
    std::thread::sleep(Duration::from_secs(2));
    engine.refresh();
    let videos = engine.status("").expect("the index is served").vectors;
    println!("{videos} videos, k = {K}, {} users", users.len());
    println!("| decided by terms | way | recall@{K} | us per search | x plain |");
    println!("|---|---|---|---|---|");
    for weights in WEIGHTS {
        compare(&engine, &users, weights);
    }
}

fn made(folder: &Path) -> (PathBuf, Vec<Vec<f32>>) {
    let videos =
        std::env::var("SHORTLIST_BENCH_VIDEOS").map_or(20_000, |videos| videos.parse().expect("a number"));
    let (_, users) = synthetic_index(folder, videos, |files| {
        let of_files = DatasetFiles {
            embeddings: vec![files.videos.clone()],
            ids: Some(files.video_ids.clone()),
            attributes: vec![files.attributes.clone()],
        };
        Dataset::open(&of_files, Metric::InnerProduct).expect("the catalog is sound")
    });
    (folder.join("index"), users.into_iter().take(QUERIES).collect())
}

fn read(path: &Path) -> Vec<Vec<f32>> {
    let users = Embeddings::open(path).expect("the users open");
    let row = |row| {
        let mut query = Vec::new();
        users.view().copy_row(row, &mut query);
        query
    };
    (0..QUERIES.min(users.view().len())).map(row).collect()
}

/// One way to get candidates: its hits among the exact best, and the shortest time of each search.
#[derive(Default)]
struct Way {
    hits: usize,
    time: Duration,
}

fn compare(engine: &Engine, users: &[Vec<f32>], weights: (f64, f64)) {
    let terms: Vec<ScoreTerm> = [
        format!("{}*log1p(views)", weights.0),
        format!("{}*decay(published_at, {HALF_LIFE_DAYS}d)", weights.1),
    ]
    .iter()
    .map(|term| term.parse().expect("a term"))
    .collect();
    let with_terms = Rules { score_terms: terms, ..Rules::default() };
    let (mut plain, mut inside) = (Way::default(), Way::default());
    let mut again = FACTORS.map(|_| Way::default());
    let mut decided = 0;
    for user in users {
        let request = |k| SearchRequest { k, ..SearchRequest::vector(user.clone()) };
        let wanted = SearchRequest { rules: with_terms.clone(), ..request(K) };
        let exact =
            ids(&search(engine, &SearchRequest { effort: Effort::Exact, ..wanted.clone() }).candidates);
        let exact_plain =
            ids(&search(engine, &SearchRequest { effort: Effort::Exact, ..request(K) }).candidates);
        decided += exact.difference(&exact_plain).count();
        plain.add(engine, &request(K), &exact, |found| ids(&found.candidates));
        inside.add(engine, &wanted, &exact, |found| ids(&found.candidates));
        for (way, factor) in again.iter_mut().zip(FACTORS) {
            let more = SearchRequest {
                return_attributes: ReturnAttributes::Named(vec!["views".into(), "published_at".into()]),
                ..request(factor * K)
            };
            way.add(engine, &more, &exact, |found| ranked_again(found, weights));
        }
    }
    let all = users.len() * K;
    let share = decided as f64 / all as f64;
    let row = |name: &str, way: &Way| {
        let micros = way.time.as_secs_f64() * 1e6 / users.len() as f64;
        let ratio = way.time.as_secs_f64() / plain.time.as_secs_f64();
        println!("| {share:.2} | {name} | {:.3} | {micros:.0} | {ratio:.2} |", way.hits as f64 / all as f64);
    };
    row("without terms", &plain);
    for (way, factor) in again.iter().zip(FACTORS) {
        row(&format!("retrieve {factor} k, rank again"), way);
    }
    row("terms in the search", &inside);
}

impl Way {
    /// Searches, and counts hits and time, with that of `choose`.
    fn add(
        &mut self,
        engine: &Engine,
        request: &SearchRequest,
        exact: &HashSet<u64>,
        choose: impl Fn(&SearchResponse) -> HashSet<u64>,
    ) {
        let once = || {
            let began = Instant::now();
            let chosen = choose(&search(engine, request));
            (began.elapsed(), chosen)
        };
        let rounds: Vec<(Duration, HashSet<u64>)> = (0..ROUNDS).map(|_| once()).collect();
        self.time += rounds.iter().map(|(time, _)| *time).min().unwrap_or_default();
        self.hits += rounds[0].1.intersection(exact).count();
    }
}

fn search(engine: &Engine, request: &SearchRequest) -> SearchResponse {
    engine.search(request, &Budget::until(None)).expect("the search is answered")
}

fn ids(candidates: &[Candidate]) -> HashSet<u64> {
    candidates.iter().map(|candidate| candidate.video_id.0).collect()
}

/// The best candidates by score and terms.
fn ranked_again(found: &SearchResponse, (of_views, of_age): (f64, f64)) -> HashSet<u64> {
    let now = Timestamp::now().as_microsecond() as f64;
    let sum = |candidate: &Candidate| {
        let mut sum = f64::from(candidate.score);
        for (_, value) in &candidate.attributes {
            match value {
                Value::Uint64(views) => sum += of_views * (*views as f64).ln_1p(),
                Value::Int64(views) => sum += of_views * (*views as f64).max(0.0).ln_1p(),
                Value::Timestamp(at) => {
                    let days = (now - at.as_microsecond() as f64).max(0.0) / 86_400e6;
                    sum += of_age * 0.5f64.powf(days / HALF_LIFE_DAYS);
                }
                _ => {}
            }
        }
        (candidate.video_id.0, sum)
    };
    let mut sums: Vec<(u64, f64)> = found.candidates.iter().map(sum).collect();
    sums.sort_by(|one, other| other.1.total_cmp(&one.1));
    sums.into_iter().take(K).map(|(id, _)| id).collect()
}
