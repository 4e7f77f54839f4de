//! Recall on data that real catalogs contain: extremes, copies, offsets, mixed norms.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::interrupt::Interrupt;
use shortlist::build::{BuildParams, Silent, build_taught_in_memory};
use shortlist::dataset::Embeddings;
use shortlist::index::{Codes, Index};
use shortlist::search::{Effort, Plan, SearchParams, Searcher};
use shortlist::{Dataset, Metric};

const DIM: usize = 24;
/// More than a segment without a graph has.
const ROWS: usize = 4200;
const QUERIES: usize = 60;
/// Answers of this many videos are wanted, by these plans: few from the graph, many from the codes.
const WANTED: [(usize, Plan); 2] = [(10, Plan::Graph), (100, Plan::CodeScan)];
/// Exact scores that differ by a smaller share are equal.
const TOLERANCE: f64 = 2e-6;

/// What is wrong with the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Even,
    OneLongRow,
    SomeLongRows,
    Spikes,
    BoostedDimension,
    TwoNorms,
    HeavyTails,
    ManyOrders,
    OnePlaceholder,
    ManyUploads,
    AllTheSame,
    FarFromTheOrigin,
    TightClusters,
    ConstantsAndDenormals,
}

const SHAPES: [Shape; 14] = {
    use Shape::*;
    [
        Even,
        OneLongRow,
        SomeLongRows,
        Spikes,
        BoostedDimension,
        TwoNorms,
        HeavyTails,
        ManyOrders,
        OnePlaceholder,
        ManyUploads,
        AllTheSame,
        FarFromTheOrigin,
        TightClusters,
        ConstantsAndDenormals,
    ]
};

impl Shape {
    fn least_recall(self) -> f64 {
        match self {
            // A graph in full precision, as codes cannot represent them, and one in which long rows are near to everything.
            Shape::ManyOrders => 0.8,
            Shape::TightClusters => 0.93,
            _ => 0.97,
        }
    }
}

/// Rows and users of a catalog, row-major.
struct Catalog {
    rows: Vec<f32>,
    users: Vec<f32>,
}

impl Catalog {
    fn new(shape: Shape) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let centers: Vec<f32> = (0..40 * DIM).map(|_| normal(&mut random)).collect();
        let vector = |random: &mut ChaCha8Rng, scale: f32| -> Vec<f32> {
            let center = random.random_range(0..40) * DIM;
            centers[center..center + DIM].iter().map(|value| scale * value + 0.5 * normal(random)).collect()
        };
        let scale = if shape == Shape::TightClusters { 1000.0 } else { 1.0 };
        let mut rows: Vec<Vec<f32>> = (0..ROWS).map(|_| vector(&mut random, scale)).collect();
        let mut users: Vec<Vec<f32>> = (0..1000 + QUERIES).map(|_| vector(&mut random, scale)).collect();
        let all = |vectors: &mut [Vec<f32>], change: &mut dyn FnMut(&mut [f32])| {
            vectors.iter_mut().for_each(|vector| change(vector));
        };
        match shape {
            Shape::Even => {}
            Shape::OneLongRow => rows[ROWS / 3].iter_mut().for_each(|value| *value *= 1e4),
            Shape::SomeLongRows => {
                all(&mut rows[..ROWS / 100], &mut |row| row.iter_mut().for_each(|value| *value *= 100.0));
            }
            Shape::Spikes => {
                all(&mut rows[..ROWS / 200], &mut |row| row[random.random_range(0..DIM)] *= 300.0)
            }
            Shape::BoostedDimension => {
                all(&mut rows, &mut |row| row[5] = 0.0);
                all(&mut rows[..20], &mut |row| row[5] = 500.0);
                all(&mut users, &mut |user| user[5] = 1.0);
            }
            Shape::TwoNorms => {
                all(&mut rows[..ROWS / 2], &mut |row| row.iter_mut().for_each(|value| *value *= 30.0));
            }
            Shape::HeavyTails => all(&mut rows, &mut |row| {
                let length = (1.5 * normal(&mut random)).exp();
                row.iter_mut().for_each(|value| *value *= length);
            }),
            Shape::ManyOrders => all(&mut rows, &mut |row| {
                let length = 10f32.powf(random.random_range(-6.0..6.0));
                row.iter_mut().for_each(|value| *value *= length);
            }),
            Shape::OnePlaceholder => {
                let mean: Vec<f32> =
                    (0..DIM).map(|at| rows.iter().map(|row| row[at]).sum::<f32>() / ROWS as f32).collect();
                rows.iter_mut().step_by(3).for_each(|row| row.clone_from(&mean));
            }
            Shape::ManyUploads => {
                for at in 0..ROWS / 4 {
                    let original = rows[at % 30].iter().map(|value| 1.5 * value).collect();
                    rows[at + 30] = original;
                }
            }
            Shape::AllTheSame => {
                let one = rows[0].clone();
                all(&mut rows, &mut |row| row.copy_from_slice(&one));
            }
            Shape::FarFromTheOrigin => {
                let offset: Vec<f32> = (0..DIM).map(|_| 1e4 * normal(&mut random)).collect();
                let mut shift = |vector: &mut [f32]| {
                    vector.iter_mut().zip(&offset).for_each(|(value, offset)| *value += offset);
                };
                all(&mut rows, &mut shift);
                all(&mut users, &mut shift);
            }
            Shape::TightClusters => {}
            Shape::ConstantsAndDenormals => {
                all(&mut rows, &mut |row| {
                    row[..8].fill(3.0);
                    row[9] *= 1e-40;
                });
            }
        }
        Self { rows: rows.concat(), users: users.concat() }
    }

    fn build(&self, metric: Metric, is_taught: bool, codes: Codes) -> Index {
        let dataset = Dataset::from_rows(DIM, self.rows.clone()).unwrap();
        let taught = self.users[QUERIES * DIM..].to_vec();
        let users = Embeddings::in_memory("users".as_ref(), DIM, taught);
        let params = BuildParams::new(metric, 16, 80).unwrap().with_codes(codes).unwrap();
        let users = is_taught.then_some(&users);
        // With one thread, the graph is the same every time.
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        one.install(|| build_taught_in_memory(&dataset, users, &params, &Silent)).unwrap()
    }

    /// Recall of the users that taught nothing, at the default effort, counted by exact score.
    fn recall(&self, index: &Index, k: usize, plan: Plan) -> f64 {
        let metric = index.metadata().metric;
        let searcher = Searcher::default();
        let effort = SearchParams::default_effort(k, None, usize::MAX);
        let params = SearchParams::new(k, effort).unwrap().with_plan(Some(plan));
        let hits = self.users[..QUERIES * DIM].chunks(DIM).map(|user| {
            let scores: Vec<f64> = self.rows.chunks(DIM).map(|row| score(metric, user, row)).collect();
            let mut best = scores.clone();
            best.sort_unstable_by(|a, b| b.total_cmp(a));
            let least = best[k - 1] - TOLERANCE * best[k - 1].abs().max(best[0].abs());
            let found = searcher.search(index, user, &params, &mut Interrupt::never());
            let rows = found.hits.iter().map(|hit| index.video_ids()[hit.node.index()].0 as usize);
            let mut rows: Vec<usize> = rows.collect();
            rows.sort_unstable();
            rows.dedup();
            rows.into_iter().filter(|row| scores[*row] >= least).count()
        });
        hits.sum::<usize>() as f64 / (QUERIES * k) as f64
    }
}

/// In double precision.
fn score(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
    let pairs = || query.iter().zip(row).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    match metric {
        Metric::InnerProduct => pairs().map(|(a, b)| a * b).sum(),
        Metric::Cosine => {
            let norm = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            pairs().map(|(a, b)| a * b).sum::<f64>() / norm
        }
        Metric::L2 => -pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>(),
    }
}

fn normal(random: &mut ChaCha8Rng) -> f32 {
    let uniform: f32 = 1.0 - random.random::<f32>();
    (-2.0 * uniform.ln()).sqrt() * (std::f32::consts::TAU * random.random::<f32>()).cos()
}

#[test]
fn ugly_data_costs_no_recall() {
    let mut failed = Vec::new();
    for (at, shape) in SHAPES.into_iter().enumerate() {
        let catalog = Catalog::new(shape);
        for metric in Metric::ALL {
            // The home case both ways, the other metrics in turns.
            let ways = if metric == Metric::InnerProduct { vec![false, true] } else { vec![at % 2 == 0] };
            for is_taught in ways {
                let index = catalog.build(metric, is_taught, Codes::preferred(metric));
                let facts = index.metadata();
                for (k, plan) in WANTED {
                    let recall = catalog.recall(&index, k, plan);
                    if recall < shape.least_recall() {
                        let taught = if is_taught { "taught" } else { "not taught" };
                        let codes = (facts.codes, facts.unrepresented, facts.code_check);
                        failed.push(format!("{shape:?} {metric} {taught}: recall@{k} {recall:.3} {codes:?}"));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Indexes without a graph are scanned by codes that represent the rows, or in full precision.
#[test]
fn small_indexes_of_ugly_data_cost_no_recall() {
    let mut failed = Vec::new();
    for shape in SHAPES {
        let mut catalog = Catalog::new(shape);
        catalog.rows.truncate(3000 * DIM);
        for metric in Metric::ALL {
            let index = catalog.build(metric, false, Codes::preferred(metric));
            for (k, plan) in WANTED {
                let recall = catalog.recall(&index, k, plan);
                if recall < 0.97 {
                    failed.push(format!("{shape:?} {metric}: recall@{k} {recall:.3}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Rows that are all alike, but a few: codes have one level.
#[test]
fn the_few_rows_that_differ_from_a_placeholder_are_ranked() {
    let mut catalog = Catalog::new(Shape::Even);
    catalog.rows.truncate(2000 * DIM);
    let placeholder = [0.1; DIM];
    for (at, row) in catalog.rows.chunks_mut(DIM).enumerate().filter(|(at, _)| at % 33 != 7) {
        row.copy_from_slice(&placeholder);
        row[0] += if at == 8 { 0.0 } else { 1e-30 };
    }
    for metric in Metric::ALL {
        let index = catalog.build(metric, false, Codes::preferred(metric));
        assert!(catalog.recall(&index, 10, Plan::CodeScan) >= 0.99, "{metric}");
    }
}

/// The codes of wide rows are large. An index with a graph would be traversed at these efforts.
#[test]
fn an_index_without_a_graph_is_never_traversed() {
    let mut random = ChaCha8Rng::seed_from_u64(14);
    for (dim, rows) in [(512, 2000), (128, 4000), (8, 1), (8, 2)] {
        let vectors: Vec<f32> = (0..rows * dim).map(|_| normal(&mut random)).collect();
        let user: Vec<f32> = (0..dim).map(|_| normal(&mut random)).collect();
        let dataset = Dataset::from_rows(dim, vectors.clone()).unwrap();
        for (metric, codes) in
            Metric::ALL.into_iter().flat_map(|metric| [(metric, Codes::None), (metric, Codes::Sq8)])
        {
            let params = BuildParams::new(metric, 16, 80).unwrap().with_codes(codes).unwrap();
            let index = build_taught_in_memory(&dataset, None, &params, &Silent).unwrap();
            let mut scores: Vec<(f64, u64)> =
                vectors.chunks(dim).map(|row| score(metric, &user, row)).zip(0..).collect();
            scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            for (ef_search, plan) in [(10, None), (50, None), (128, None), (50, Some(Plan::Graph))] {
                let params = SearchParams::new(10, Effort::EfSearch(ef_search)).unwrap().with_plan(plan);
                let found = Searcher::default().search(&index, &user, &params, &mut Interrupt::never());
                let context = format!("{rows} x {dim} {metric} {codes:?} {ef_search} {plan:?}");
                assert_eq!(found.hits.len(), rows.min(10), "{context}");
                assert_eq!(index.video_ids()[found.hits[0].node.index()].0, scores[0].1, "{context}");
            }
        }
    }
}

/// Clusters far from each other, and between them one placeholder of many videos: no edge of a near row leads to it.
#[test]
fn a_placeholder_far_from_all_other_rows_is_found_by_users_near_it() {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let mut catalog = Catalog::new(Shape::TightClusters);
    let placeholder: Vec<f32> = (0..DIM).map(|_| normal(&mut random)).collect();
    for row in catalog.rows.chunks_mut(DIM).step_by(50) {
        row.copy_from_slice(&placeholder);
    }
    catalog.users.iter_mut().for_each(|value| *value *= 0.2);
    for is_taught in [false, true] {
        let index = catalog.build(Metric::L2, is_taught, Codes::None);
        assert_eq!(catalog.recall(&index, 10, Plan::Graph), 1.0, "taught: {is_taught}");
    }
}

/// Clusters whose rows have no near rows elsewhere, so that edges between near rows never leave one.
#[test]
fn users_find_their_cluster_among_many_that_no_edge_of_near_rows_connects() {
    let mut random = ChaCha8Rng::seed_from_u64(13);
    let centers: Vec<f32> = (0..150 * DIM).map(|_| 1000.0 * normal(&mut random)).collect();
    let mut vectors = |count: usize| -> Vec<f32> {
        let near = |at: usize| centers[at % 150 * DIM..][..DIM].to_vec();
        (0..count).flat_map(near).map(|value| value + 0.5 * normal(&mut random)).collect()
    };
    let mut catalog = Catalog { rows: vectors(12_000), users: vectors(3000) };
    let indexes: Vec<Index> =
        [Metric::Cosine, Metric::L2].map(|metric| catalog.build(metric, true, Codes::None)).into();
    let users = std::mem::take(&mut catalog.users);
    for index in indexes {
        let mut sum = 0.0;
        for users in users.chunks(QUERIES * DIM).take(10) {
            catalog.users = users.to_vec();
            sum += catalog.recall(&index, 10, Plan::Graph);
        }
        assert!(sum / 10.0 >= 0.985, "{}: {:.3}", index.metadata().metric, sum / 10.0);
    }
}
