//! Graph construction, native and hnsw_rs, on all cores and on one.
//!
//! Checks that every node of each graph is reachable before timing it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::ThreadPoolBuilder;
use shortlist::build::{BuildParams, Builder, Silent, build_graph};
use shortlist::dataset::{Embeddings, EmbeddingsView};
use shortlist::metric::Metric;
use shortlist::synth::{SynthParams, synth};

const VIDEOS: usize = 10_000;
const DIM: usize = 64;

fn builders(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the catalogue");
    let params = SynthParams { videos: VIDEOS, dim: DIM, users: 10, seed: 1 };
    let files = synth(params, folder.path(), |_| {}).expect("the catalogue is written");
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
                        build_graph(vectors, DIM, None, &params, &Silent).expect("the graph is built")
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

criterion_group!(benches, builders);
criterion_main!(benches);
