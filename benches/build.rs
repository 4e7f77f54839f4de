//! Graph construction: native and hnsw_rs, on all cores and on one; the phases of a build with training queries;
//! in-memory segments; quantization.
//!
//! Checks that every node of each graph is reachable and that codes are accurate to one step before timing.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::ThreadPoolBuilder;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Builder, GRAPH_FROM, Progress, Silent, build_graph, build_in_memory};
use shortlist::dataset::{Dataset, DatasetFiles, Embeddings, EmbeddingsView};
use shortlist::live::gather;
use shortlist::node_set::NodeSet;
use shortlist::quantize::{Codes, QueryCodes, fit, fit_tightest};
use shortlist::synth::{SynthParams, synth};

const VIDEOS: usize = 10_000;
const DIM: usize = 64;
/// Dimensions of the videos of in-memory segments.
const SEGMENT_DIM: usize = 128;
/// Videos of a build with training queries.
const TAUGHT_VIDEOS: usize = 50_000;

fn builders(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the catalog");
    let params = SynthParams { videos: VIDEOS, dim: DIM, users: 10, seed: 1, duplicates: 0 };
    let files = synth(params, folder.path(), |_| {}).expect("the catalog is written");
    let videos = Embeddings::open(&files.videos).expect("the videos open");
    let EmbeddingsView::F32(rows) = videos.view() else { unreachable!("synth writes f32") };
    let vectors = rows.as_contiguous().expect("an .npy file has nothing between its rows");
    let mut group = criterion.benchmark_group("build");
    group.throughput(Throughput::Elements(VIDEOS as u64)).sample_size(10);
    for metric in [Metric::InnerProduct, Metric::L2] {
        for builder in Builder::ALL {
            for threads in [1, 0] {
                let params =
                    BuildParams::new(metric, 16, 100).and_then(|params| params.with_builder(builder));
                let params = params.expect("valid parameters");
                let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
                let run = || {
                    pool.install(|| {
                        build_graph(vectors.into(), &|| {}, DIM, None, None, &params, &Silent)
                            .expect("the graph is built")
                    })
                };
                let graph = run().graph;
                assert!(graph.view().reachable().into_iter().all(|reached| reached));
                let cores = if threads == 1 { "one core" } else { "all cores" };
                group.bench_function(
                    BenchmarkId::new(format!("{metric}/{}", builder.name()), cores),
                    |bencher| {
                        bencher.iter(run);
                    },
                );
            }
        }
    }
    group.finish();
}

/// Records when each phase of a build begins.
struct PhaseClock {
    /// Each phase with its start, in order.
    begun: Mutex<Vec<(&'static str, Instant)>>,
}

impl PhaseClock {
    fn times(&self) -> Vec<(&'static str, Duration)> {
        let begun = self.begun.lock().expect("no build panics");
        let ends = begun.iter().skip(1).map(|(_, begun)| *begun).chain([Instant::now()]);
        begun.iter().zip(ends).map(|((phase, begun), end)| (*phase, end - *begun)).collect()
    }
}

impl Progress for PhaseClock {
    fn begin(&self, phase: &'static str, _: u64) {
        self.begun.lock().expect("no build panics").push((phase, Instant::now()));
    }
    fn advance(&self, _: u64) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}

fn phases(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the catalog");
    let params = SynthParams { videos: TAUGHT_VIDEOS, dim: DIM, users: 5_000, seed: 1, duplicates: 0 };
    let files = synth(params, folder.path(), |_| {}).expect("the catalog is written");
    let (videos, users) = (Embeddings::open(&files.videos), Embeddings::open(&files.users_train));
    let (videos, users) = (videos.expect("the videos open"), users.expect("the users open"));
    let EmbeddingsView::F32(rows) = videos.view() else { unreachable!("synth writes f32") };
    let vectors = rows.as_contiguous().expect("an .npy file has nothing between its rows");
    let params = BuildParams::new(Metric::InnerProduct, 16, 200).expect("valid parameters");
    let run = || {
        let clock = PhaseClock { begun: Mutex::default() };
        let built = build_graph(vectors.into(), &|| {}, DIM, Some(users.view()), None, &params, &clock)
            .expect("it is built");
        assert!(built.graph.view().reachable().into_iter().all(|reached| reached));
        clock.times()
    };
    let names: BTreeSet<&str> = run().into_iter().map(|(phase, _)| phase).collect();
    let mut group = criterion.benchmark_group("phases");
    group.throughput(Throughput::Elements(TAUGHT_VIDEOS as u64)).sample_size(10);
    for name in names {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|builds| {
                let times = (0..builds).flat_map(|_| run());
                times.filter(|(phase, _)| *phase == name).map(|(_, time)| time).sum()
            });
        });
    }
    group.finish();
}

fn segments(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the catalog");
    let params = SynthParams { videos: VIDEOS, dim: SEGMENT_DIM, users: 10, seed: 1, duplicates: 0 };
    let files = synth(params, folder.path(), |_| {}).expect("the catalog is written");
    let files = DatasetFiles {
        embeddings: vec![files.videos],
        ids: Some(files.video_ids),
        attributes: vec![files.attributes],
    };
    let metric = Metric::InnerProduct;
    let dataset = Dataset::open(&files, metric).expect("the catalog opens");
    let params = BuildParams::new(metric, 16, 100).expect("valid parameters");
    let whole = build_in_memory(&dataset, &params, &Silent).expect("the catalog is built");
    let schema = &whole.metadata().attributes;
    let mut group = criterion.benchmark_group("parts");
    group.sample_size(10);
    for rows in [1, 10, 100, 1000, GRAPH_FROM - 1, VIDEOS] {
        let mut chosen = NodeSet::none(VIDEOS);
        (0..rows).for_each(|row| chosen.insert((row * VIDEOS / rows) as u32));
        let gathered = || gather(&[(&whole, &chosen)], schema).expect("the rows are valid");
        let dataset = gathered();
        let build = || build_in_memory(&dataset, &params, &Silent).expect("the segment is built");
        let built = build();
        assert_eq!((built.len(), built.has_graph()), (rows, rows == 1 || rows >= GRAPH_FROM));
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::new("build", rows), |bencher| bencher.iter(build));
        group.bench_function(BenchmarkId::new("gather", rows), |bencher| bencher.iter(gathered));
    }
    group.finish();
}

fn quantization(criterion: &mut Criterion) {
    let vectors: Vec<f32> =
        (0..TAUGHT_VIDEOS * DIM).map(|at| ((at * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let quantizer = fit_tightest(Codes::Sq8, &vectors, DIM, Metric::InnerProduct).quantizer;
    let codes = quantizer.encode_all(&vectors);
    let (lows, steps) = quantizer.parameters().split_at(DIM);
    for (at, value) in vectors[..DIM].iter().enumerate() {
        assert!((lows[at] + steps[at] * f32::from(codes[at]) - value).abs() <= steps[at]);
    }
    let mut group = criterion.benchmark_group("quantization");
    group.throughput(Throughput::Elements(TAUGHT_VIDEOS as u64)).sample_size(10);
    group.bench_function("train", |bencher| {
        bencher.iter(|| fit(Codes::Sq8, &vectors, DIM, Metric::InnerProduct))
    });
    group.bench_function("encode_all", |bencher| bencher.iter(|| quantizer.encode_all(&vectors)));
    group.throughput(Throughput::Elements(1));
    let mut query = QueryCodes::default();
    group.bench_function("encode_query", |bencher| {
        bencher.iter(|| quantizer.encode_query(&vectors[..DIM], &mut query));
    });
    group.finish();
}

criterion_group!(benches, builders, phases, segments, quantization);
criterion_main!(benches);
