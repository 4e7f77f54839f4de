//! Exact nearest neighbors of many queries: a brute-force scan of cache-sized blocks of rows, on all cores.

use rustc_hash::FxHashSet;

use crate::base::element::Element;
use crate::base::id::{NodeId, VideoId};
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::dataset::{EmbeddingsView, Neighbors, Rows};
use crate::graph::Scan as _;
use crate::graph::Scorer;
use crate::index::Index;
use crate::kernel::Kernels;
use crate::search::TopK;
use crate::with_rows;

/// The most queries that are scored against a block of rows while it is in the cache.
const QUERIES: usize = 64;
/// Bytes of the rows in a block; a small L1 cache has twice that.
const BLOCK_BYTES: usize = 24 << 10;

/// Returns the `k` nearest rows of `items` for each query, best first, equal scores by row; fewer than `k` if there are
/// fewer rows. Calls `done` with the number of queries that were finished since the last call.
///
/// # Panics
/// If the dimensions differ.
pub fn ground_truth(
    items: EmbeddingsView<'_>,
    queries: EmbeddingsView<'_>,
    metric: Metric,
    k: usize,
    done: impl Fn(usize) + Sync,
) -> Neighbors {
    assert_eq!(items.dim(), queries.dim(), "items and queries have different dimensions");
    with_rows!(items, rows => scan(rows, queries, metric, k, &done))
}

/// Returns the `k` nearest nodes of an index for each query: [`ground_truth`] over its embeddings.
///
/// # Panics
/// If the dimensions differ.
pub fn ground_truth_of(
    index: &Index,
    queries: EmbeddingsView<'_>,
    k: usize,
    done: impl Fn(usize) + Sync,
) -> Neighbors {
    // The embeddings of an index have norm 1 under cosine, where the inner product ranks the same.
    let metric = match index.metadata().metric {
        Metric::InnerProduct | Metric::Cosine => Metric::InnerProduct,
        Metric::L2 => Metric::L2,
    };
    ground_truth(index.vectors(), queries, metric, k, done)
}

/// The same as rows of the catalog that the index was built from.
///
/// # Panics
/// If the dimensions differ.
pub fn exact_rows_of(
    index: &Index,
    queries: EmbeddingsView<'_>,
    k: usize,
    done: impl Fn(usize) + Sync,
) -> Neighbors {
    let mut exact = ground_truth_of(index, queries, k, done);
    exact.data.iter_mut().for_each(|node| *node = index.input_row(NodeId(*node)));
    exact
}

fn scan<T: Element>(
    items: Rows<'_, T>,
    queries: EmbeddingsView<'_>,
    metric: Metric,
    k: usize,
    done: &(impl Fn(usize) + Sync),
) -> Neighbors {
    let k = k.min(items.len());
    let rows: Vec<VideoId> = (0..items.len() as u64).map(VideoId).collect();
    let inverse_norms: Vec<f32> = match metric {
        Metric::Cosine => parallel::map(items.len(), 1, |row| inverse_norm(items.row(row))),
        Metric::InnerProduct | Metric::L2 => Vec::new(),
    };
    let block_rows = (BLOCK_BYTES / (items.dim() * T::DTYPE.bytes())).max(1);
    let sharing = queries.len().div_ceil(rayon::current_num_threads()).clamp(1, QUERIES);
    let scan_queries = |share: usize| {
        let first = share * sharing;
        let group = first..queries.len().min(first + sharing);
        let mut wide: Vec<Vec<f32>> = vec![Vec::new(); group.len()];
        group.clone().zip(&mut wide).for_each(|(query, wide)| queries.copy_row(query, wide));
        let mut best: Vec<TopK> = group.clone().map(|_| TopK::new(k, &rows)).collect();
        let (mut copy, mut promising, mut scores) = (Vec::new(), Vec::new(), vec![0f32; block_rows]);
        for start in (0..items.len()).step_by(block_rows) {
            let scores = &mut scores[..block_rows.min(items.len() - start)];
            let block = block(items, start, scores.len(), &mut copy);
            for (query, best) in wide.iter().zip(&mut best) {
                // Under cosine, dividing by the norm of the row is enough: the norm of the query does not change the
                // ranking.
                Scorer::new(metric, query, block).score_scan(0, scores);
                for (score, inverse) in scores.iter_mut().zip(inverse_norms.iter().skip(start)) {
                    *score *= inverse;
                }
                promising.clear();
                Kernels::get().at_least(scores, best.threshold(), &mut promising);
                for offset in &promising {
                    let node = NodeId(start as u32 + offset);
                    best.push(node, scores[*offset as usize]);
                }
            }
        }
        done(group.len());
        let nearest = |best: TopK<'_>| {
            let mut nearest: Vec<u32> = best.into_sorted().iter().map(|hit| hit.node.0).collect();
            fill_up(&mut nearest, k, items.len());
            nearest
        };
        best.into_iter().flat_map(nearest).collect::<Vec<u32>>()
    };
    let data = parallel::map(queries.len().div_ceil(sharing), 1, scan_queries).concat();
    Neighbors { rows: queries.len(), k, data }
}

/// Appends rows that are lacking, by number, until there are `k`. Only rows whose scores are not numbers lack: they rank
/// last.
fn fill_up(nearest: &mut Vec<u32>, k: usize, rows: usize) {
    if nearest.len() < k {
        let found: FxHashSet<u32> = nearest.iter().copied().collect();
        let lacking = (0..rows as u32).filter(|row| !found.contains(row)).take(k - nearest.len());
        nearest.extend(lacking);
    }
}

/// Returns `count` rows from `start` on: borrowed if the rows are contiguous, otherwise gathered into `copy`.
fn block<'a, T: Element>(items: Rows<'a, T>, start: usize, count: usize, copy: &'a mut Vec<T>) -> &'a [T] {
    match items.as_contiguous() {
        Some(all) => &all[start * items.dim()..(start + count) * items.dim()],
        None => {
            copy.clear();
            (start..start + count).for_each(|row| copy.extend_from_slice(items.row(row)));
            copy
        }
    }
}

fn inverse_norm<T: Element>(row: &[T]) -> f32 {
    let norm = Kernels::get().norm_squared(row).sqrt();
    if norm > 0.0 { 1.0 / norm } else { 0.0 }
}
