//! One query against one index in this process: graph traversal at several efforts, and the exact scan.
//!
//! Checks that each effort reaches the recall it should before timing it. `shortlist bench` measures
//! recall against latency on any data; this group is for comparing two commits.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Catalogue, CatalogueFiles, Embeddings};
use shortlist::index::{Index, IndexStore};
use shortlist::metric::Metric;
use shortlist::search::{Effort, SearchParams, Searcher};
use shortlist::synth::{SynthParams, synth};

const VIDEOS: usize = 50_000;
const DIM: usize = 128;
const QUERIES: usize = 500;

fn search(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the catalogue");
    let (index, queries) = prepare(folder.path());
    let searcher = Searcher::default();
    let find = |query: &[f32], k: usize, effort: Effort| {
        let params = SearchParams::new(k, effort).expect("valid parameters");
        searcher.search(&index, query, &params, || true).expect("nothing interrupts it").hits
    };
    let mut group = criterion.benchmark_group("search");
    group.throughput(Throughput::Elements(1)).sample_size(30);
    for (k, ef_search, at_least) in [(10, 50, 0.7), (10, 200, 0.9), (100, 200, 0.8), (100, 800, 0.9)] {
        let sample = &queries[..100];
        let hits: usize = sample
            .iter()
            .map(|query| {
                let exact = find(query, k, Effort::Exact);
                let found = find(query, k, Effort::EfSearch(ef_search));
                found.iter().filter(|hit| exact.contains(hit)).count()
            })
            .sum();
        let recall = hits as f64 / (sample.len() * k) as f64;
        assert!(recall >= at_least, "recall@{k} {recall} at ef_search {ef_search}");
        let mut next = queries.iter().cycle();
        group.bench_function(BenchmarkId::new(format!("k{k}"), format!("ef{ef_search}")), |bencher| {
            bencher.iter(|| find(black_box(next.next().expect("a cycle")), k, Effort::EfSearch(ef_search)));
        });
    }
    let mut next = queries.iter().cycle();
    group.bench_function("k100/exact", |bencher| {
        bencher.iter(|| find(black_box(next.next().expect("a cycle")), 100, Effort::Exact));
    });
    group.finish();
}

fn prepare(dir: &std::path::Path) -> (Index, Vec<Vec<f32>>) {
    let params = SynthParams { videos: VIDEOS, dim: DIM, users: 5 * QUERIES, seed: 1 };
    let files = synth(params, dir, |_| {}).expect("the catalogue is written");
    let catalogue = CatalogueFiles { embeddings: files.videos, ids: None, attributes: None };
    let catalogue = Catalogue::open(&catalogue, Metric::InnerProduct).expect("the catalogue is sound");
    let params = BuildParams::new(Metric::InnerProduct, 16, 200).expect("valid parameters");
    let store = IndexStore::new(dir.join("index"));
    build(&catalogue, None, &params, &store, &Silent, Instant::now()).expect("the index is built");
    let (_, index, _) = store.open_current().expect("the index opens");
    let users = Embeddings::open(&files.users_test).expect("the users open");
    let row = |row| {
        let mut query = Vec::new();
        users.view().copy_row(row, &mut query);
        query
    };
    (index, (0..QUERIES).map(row).collect())
}

criterion_group!(benches, search);
criterion_main!(benches);
