//! Single queries against one index in this process, at 100,000 and at 1,000,000 videos: traversal of a taught graph at
//! several efforts, and a scan of its codes.
//!
//! Checks that each effort reaches its expected recall before timing it. `shortlist bench` measures recall against
//! latency on any data; this group is for comparing two commits.

#[path = "common/synthetic.rs"]
mod synthetic;

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::dataset::{Dataset, DatasetFiles};
use shortlist::index::Index;
use shortlist::search::{Effort, Hit, Plan, SearchParams, Searcher};

use self::synthetic::synthetic_index;

/// Queries whose recall is checked.
const CHECKED: usize = 50;
/// k, `ef_search`, and the recall that they must reach.
type Point = (usize, usize, f64);
/// Number of videos and the points measured with them.
const CASES: [(usize, [Point; 4]); 2] = [
    (100_000, [(10, 60, 0.93), (10, 300, 0.98), (100, 100, 0.92), (100, 400, 0.98)]),
    (1_000_000, [(10, 60, 0.85), (10, 300, 0.95), (100, 100, 0.82), (100, 400, 0.94)]),
];

fn search(criterion: &mut Criterion) {
    for (videos, efforts) in CASES {
        let folder = tempfile::tempdir().expect("a folder for the catalog");
        let (index, queries) = prepare(folder.path(), videos);
        let searcher = Searcher::default();
        let find = |query: &[f32], k: usize, effort: Effort, plan: Option<Plan>| -> Vec<Hit> {
            let params = SearchParams::new(k, effort).expect("valid parameters").with_plan(plan);
            searcher.search(&index, query, &params, &mut Interrupt::never()).hits
        };
        let sample = &queries[..CHECKED];
        let exact: Vec<Vec<Hit>> = sample.iter().map(|query| find(query, 100, Effort::Exact, None)).collect();
        let recall = |k: usize, effort: Effort, plan: Plan| {
            let hits = sample.iter().zip(&exact).map(|(query, exact)| {
                let found = find(query, k, effort, Some(plan));
                found.iter().filter(|hit| exact[..k].contains(hit)).count()
            });
            hits.sum::<usize>() as f64 / (CHECKED * k) as f64
        };
        let mut group = criterion.benchmark_group(format!("search/{videos}"));
        group.throughput(Throughput::Elements(1)).sample_size(30);
        for (k, ef_search, at_least) in efforts {
            let effort = Effort::EfSearch(ef_search);
            let recall = recall(k, effort, Plan::Graph);
            assert!(recall >= at_least, "{videos}: recall@{k} {recall} at ef_search {ef_search}");
            let mut next = queries.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("k{k}"), format!("ef{ef_search}")), |bencher| {
                bencher.iter(|| find(black_box(next.next().expect("a cycle")), k, effort, Some(Plan::Graph)));
            });
        }
        for k in [10, 100] {
            let effort = Effort::EfSearch(k);
            let recall = recall(k, effort, Plan::CodeScan);
            assert!(recall >= 0.99, "{videos}: recall@{k} {recall} of a scan of the codes");
            let mut next = queries.iter().cycle();
            group.sample_size(10).bench_function(BenchmarkId::new(format!("k{k}"), "code_scan"), |bencher| {
                bencher
                    .iter(|| find(black_box(next.next().expect("a cycle")), k, effort, Some(Plan::CodeScan)));
            });
        }
        group.finish();
    }
}

fn prepare(dir: &Path, videos: usize) -> (Index, Vec<Vec<f32>>) {
    synthetic_index(dir, videos, |files| {
        let files = DatasetFiles::of(files.videos.clone());
        Dataset::open(&files, Metric::InnerProduct).expect("the catalog is sound")
    })
}

criterion_group!(benches, search);
criterion_main!(benches);
