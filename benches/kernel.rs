//! Kernels of every instruction set of this machine, in bytes of rows scored per second. For comparison: a sequential read
//! of the same bytes, which is the memory bandwidth without computation.
//!
//! - `scan`: consecutive rows of a matrix that fits the L2 cache.
//! - `rows`: scattered rows of a matrix far larger than the L2 cache, as in a graph traversal.
//! - `packed`: eight queries at once against 8-bit codes in blocks, as in a build.
//! - `select`: operations on ids and scores during a search (unvisited neighbors, scores above a threshold, their
//!   number), in ids and scores per second.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::element::Element;
use shortlist::kernel::{Isa, Kernels, PACKED_ROWS, pack};

const DIMS: [usize; 4] = [64, 128, 256, 768];
const SCAN_BYTES: usize = 512 << 10;
const ROWS_BYTES: usize = 256 << 20;

/// Rows per call, as many as the neighbors of a node.
const NEIGHBOURS: usize = 32;

/// Calls between two reads of the same row: more bytes than any cache has.
const CALLS: usize = 1 << 14;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700));
    targets = kernel
}
criterion_main!(benches);

fn kernel(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernel");
    one_type::<f32>(&mut group);
    one_type::<f16>(&mut group);
    codes(&mut group);
    select(&mut group);
    group.finish();
}

/// Nodes of the bitmap, ids of one neighbor list, and scores of a whole search.
const NODES: u32 = 1_000_000;
const LIST: usize = 128;
const SCORES: usize = 2048;

fn select(group: &mut BenchmarkGroup<WallTime>) {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let words: Vec<u32> = (0..NODES.div_ceil(32)).map(|_| rng.random()).collect();
    let lists: Vec<u32> = (0..CALLS * LIST).map(|_| rng.random_range(0..NODES)).collect();
    let scores: Vec<f32> = (0..SCORES).map(|_| rng.random_range(0.0..1.0)).collect();
    let scalar = Kernels::for_isa(Isa::Scalar).expect("scalar is always available");
    for kernels in Kernels::available() {
        let id = |name: &str| BenchmarkId::new(format!("select/{name}"), kernels.isa());
        let absent = |kernels: &Kernels, list: &[u32]| {
            let mut out = vec![0; LIST];
            let count = kernels.absent(&words, NODES, list, &mut out);
            out.truncate(count);
            out
        };
        assert_eq!(absent(kernels, &lists[..LIST]), absent(scalar, &lists[..LIST]), "{}", kernels.isa());
        assert_eq!(kernels.count_at_least(&scores, 0.9), scalar.count_at_least(&scores, 0.9));
        let mut out = vec![0; LIST];
        let mut calls = lists.chunks_exact(LIST).cycle();
        group.throughput(Throughput::Elements(LIST as u64));
        group.bench_function(id("absent"), |b| {
            b.iter(|| {
                let list = calls.next().expect("a cycle of calls does not end");
                black_box(kernels.absent(black_box(&words), NODES, list, &mut out))
            });
        });
        let mut found = Vec::new();
        group.throughput(Throughput::Elements(SCORES as u64));
        group.bench_function(id("at_least"), |b| {
            b.iter(|| {
                found.clear();
                kernels.at_least(black_box(&scores), 0.9, &mut found);
                black_box(&found);
            });
        });
        group.bench_function(id("count_at_least"), |b| {
            b.iter(|| black_box(kernels.count_at_least(black_box(&scores), 0.9)));
        });
    }
}

/// Queries per call of the packed kernel.
const PACKED_QUERIES: usize = 8;

fn codes(group: &mut BenchmarkGroup<WallTime>) {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let codes: Vec<u8> = (0..ROWS_BYTES).map(|_| rng.random()).collect();
    for len in DIMS {
        let queries: Vec<i8> = (0..PACKED_QUERIES * len).map(|_| rng.random()).collect();
        let query = &queries[..len];
        let small = &codes[..SCAN_BYTES / (PACKED_ROWS * len) * PACKED_ROWS * len];
        let large = &codes[..codes.len() / len * len];
        let count = (large.len() / len) as u32;
        let rows: Vec<u32> = (0..CALLS * NEIGHBOURS).map(|_| rng.random_range(0..count)).collect();
        let mut packed = Vec::new();
        pack(small.chunks(len), len, &mut packed);
        for kernels in Kernels::available() {
            check_codes(kernels, &queries, small, &packed, large, &rows[..NEIGHBOURS]);
            let id = |name: &str| BenchmarkId::new(format!("{name}/{}", kernels.isa()), format!("u8x{len}"));
            let mut out = vec![0.0; small.len() / len];
            group.throughput(Throughput::Bytes(small.len() as u64));
            group.bench_function(id("scan"), |b| {
                b.iter(|| {
                    kernels.code_scan(black_box(query), black_box(small), &mut out);
                    black_box(&out);
                });
            });
            let mut sums = vec![0; PACKED_QUERIES * small.len() / len];
            group.throughput(Throughput::Bytes((PACKED_QUERIES * small.len()) as u64));
            group.bench_function(id("packed"), |b| {
                b.iter(|| {
                    kernels.code_packed(black_box(&queries), len, black_box(&packed), &mut sums);
                    black_box(&sums);
                });
            });
            let mut out = [0.0; NEIGHBOURS];
            let mut calls = rows.chunks_exact(NEIGHBOURS).cycle();
            group.throughput(Throughput::Bytes((NEIGHBOURS * len) as u64));
            group.bench_function(id("rows"), |b| {
                b.iter(|| {
                    let rows = calls.next().expect("a cycle of calls does not end");
                    kernels.code_rows(black_box(query), black_box(large), rows, &mut out);
                    black_box(&out);
                });
            });
        }
    }
}

/// Checks that results equal the scalar ones bit for bit.
fn check_codes(kernels: &Kernels, queries: &[i8], small: &[u8], packed: &[u8], large: &[u8], rows: &[u32]) {
    let scalar = Kernels::for_isa(Isa::Scalar).expect("scalar is always available");
    let len = queries.len() / PACKED_QUERIES;
    let scan = |kernels: &Kernels| {
        let mut out = vec![0.0; small.len() / len];
        kernels.code_scan(&queries[..len], small, &mut out);
        out
    };
    assert_eq!(scan(kernels), scan(scalar), "{}", kernels.isa());
    let scattered = |kernels: &Kernels| {
        let mut out = vec![0.0; rows.len()];
        kernels.code_rows(&queries[..len], large, rows, &mut out);
        out
    };
    assert_eq!(scattered(kernels), scattered(scalar), "{}", kernels.isa());
    let sums = |kernels: &Kernels| {
        let mut out = vec![0; PACKED_QUERIES * small.len() / len];
        kernels.code_packed(queries, len, packed, &mut out);
        out
    };
    assert_eq!(sums(kernels), sums(scalar), "{}", kernels.isa());
}

fn one_type<T: Element>(group: &mut BenchmarkGroup<WallTime>) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let components: Vec<T> = random(&mut rng, ROWS_BYTES / size_of::<T>());
    read(group, "scan", &components[..SCAN_BYTES / size_of::<T>()]);
    read(group, "rows", &components);
    for dim in DIMS {
        let query: Vec<f32> = random(&mut rng, dim);
        let small = &components[..SCAN_BYTES / size_of::<T>() / dim * dim];
        let large = &components[..components.len() / dim * dim];
        let count = (large.len() / dim) as u32;
        let rows: Vec<u32> = (0..CALLS * NEIGHBOURS).map(|_| rng.random_range(0..count)).collect();
        for kernels in Kernels::available() {
            check(kernels, &query, small, large, &rows[..NEIGHBOURS]);
            scan(group, kernels, &query, small);
            scattered(group, kernels, &query, large, &rows);
        }
    }
}

fn read<T: Element>(group: &mut BenchmarkGroup<WallTime>, name: &str, components: &[T]) {
    let words: &[u64] = bytemuck::cast_slice(components);
    group.throughput(Throughput::Bytes(size_of_val(components) as u64));
    group.bench_function(BenchmarkId::new(format!("{name}/read"), T::DTYPE), |b| {
        b.iter(|| black_box(words).iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
    });
}

fn scan<T: Element>(group: &mut BenchmarkGroup<WallTime>, kernels: &Kernels, query: &[f32], matrix: &[T]) {
    let mut out = vec![0.0; matrix.len() / query.len()];
    group.throughput(Throughput::Bytes(size_of_val(matrix) as u64));
    group.bench_function(id::<T>("scan", kernels, query.len()), |b| {
        b.iter(|| {
            kernels.dot_scan(black_box(query), black_box(matrix), &mut out);
            black_box(&out);
        });
    });
}

fn scattered<T: Element>(
    group: &mut BenchmarkGroup<WallTime>,
    kernels: &Kernels,
    query: &[f32],
    matrix: &[T],
    rows: &[u32],
) {
    let mut out = [0.0; NEIGHBOURS];
    let mut calls = rows.chunks_exact(NEIGHBOURS).cycle();
    group.throughput(Throughput::Bytes((NEIGHBOURS * query.len() * size_of::<T>()) as u64));
    group.bench_function(id::<T>("rows", kernels, query.len()), |b| {
        b.iter(|| {
            let rows = calls.next().expect("a cycle of calls does not end");
            kernels.dot_rows(black_box(query), black_box(matrix), rows, &mut out);
            black_box(&out);
        });
    });
}

fn id<T: Element>(name: &str, kernels: &Kernels, dim: usize) -> BenchmarkId {
    BenchmarkId::new(format!("{name}/{}", kernels.isa()), format!("{}x{dim}", T::DTYPE))
}

/// Checks results against the scalar ones.
fn check<T: Element>(kernels: &Kernels, query: &[f32], small: &[T], large: &[T], rows: &[u32]) {
    let scalar = Kernels::for_isa(Isa::Scalar).expect("scalar is always available");
    let close = |got: &[f32], expected: &[f32]| {
        for (got, expected) in got.iter().zip(expected) {
            let allowed = query.len() as f32 * f32::EPSILON * 2.0;
            assert!((got - expected).abs() <= allowed, "{}: {got}, scalar has {expected}", kernels.isa());
        }
    };
    let mut got = vec![0.0; small.len() / query.len()];
    let mut expected = got.clone();
    kernels.dot_scan(query, small, &mut got);
    scalar.dot_scan(query, small, &mut expected);
    close(&got, &expected);
    got.truncate(rows.len());
    expected.truncate(rows.len());
    kernels.dot_rows(query, large, rows, &mut got);
    scalar.dot_rows(query, large, rows, &mut expected);
    close(&got, &expected);
}

/// Components between −1 and 1, divided by 16, which keeps scores near 1 in every dimension.
fn random<T: Element>(rng: &mut impl Rng, count: usize) -> Vec<T> {
    (0..count).map(|_| T::from_f32(rng.random_range(-1.0..1.0) / 16.0)).collect()
}
