//! Clusters of vectors (k-means, Lloyd), and the centroids nearest to each of many vectors.
//!
//! Many centroids form clusters themselves: a vector is compared with the means of these clusters, and then with the
//! centroids in the better half of them.

use std::ops::Range;

use super::coded::{PackedRows, TILE, Tile};
use super::progress::{Progress, Silent};
use super::scan::{Best, Scan};
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::graph::{Candidate, Selection};
use crate::kernel::Kernels;
use crate::quantize::Quantizer;

/// Minimum number of centroids that are clustered; fewer are all compared with every vector.
const CLUSTERED_FROM: usize = 2048;
/// One in this many clusters is searched for the centroids nearest to a vector. Fewer would miss many of them: centroids of
/// groups are spread nearly as widely as rows.
const PROBED_SHARE: usize = 2;
/// Vectors that are compared together: enough for full tiles in each cluster.
const TOGETHER: usize = 4096;
/// Iterations to cluster centroids.
const ITERATIONS: usize = 3;

/// Centroids, ready to be compared with many vectors.
pub(super) struct Centroids {
    quantizer: Quantizer,
    /// By cluster: its centroids, at least one.
    members: Vec<Vec<u32>>,
    packed: Vec<PackedRows>,
    /// The means of the clusters; `None` if there is only one.
    means: Option<(PackedRows, Quantizer)>,
}

impl Centroids {
    /// Prepares `vectors`, `[count × dim]`.
    pub(super) fn new(vectors: &[f32], dim: usize, metric: Metric) -> Self {
        let count = vectors.len() / dim;
        let (members, means) = if count < CLUSTERED_FROM {
            (vec![(0..count as u32).collect()], None)
        } else {
            let sample: Vec<&[f32]> = vectors.chunks(dim).collect();
            let clusters = count.isqrt();
            let mut means = k_means(&sample, clusters, ITERATIONS, dim, metric, &Silent);
            let of_vector = Self::aimed(&means, dim, metric).nearest_of_all(count, |at| sample[at], &Silent);
            let members = by_cluster(of_vector.iter().map(|[cluster]| *cluster), clusters);
            move_to_means(&mut means, dim, &members, |at| (sample[at], 1.0));
            let (members, means): (Vec<_>, Vec<_>) =
                members.into_iter().zip(means.chunks(dim)).filter(|(members, _)| !members.is_empty()).unzip();
            (members, Some(PackedRows::of_vectors(&means.concat(), dim, metric)))
        };
        let (packed, quantizer) = PackedRows::of_parts(vectors, dim, metric, &members);
        Self { quantizer, members, packed, means }
    }

    /// Prepares centroids of rows: under inner product and cosine, their directions.
    pub(super) fn aimed(centroids: &[f32], dim: usize, metric: Metric) -> Self {
        match metric {
            Metric::L2 => Self::new(centroids, dim, metric),
            Metric::InnerProduct | Metric::Cosine => {
                let directions: Vec<f32> = centroids.chunks(dim).flat_map(direction).collect();
                Self::new(&directions, dim, metric)
            }
        }
    }

    /// Returns for each of `queries`, `[dim]`, up to `count` centroids that are nearest to it, nearest first.
    fn nearest<T: Element>(
        &self,
        queries: &[&[T]],
        count: usize,
    ) -> impl Iterator<Item = impl Iterator<Item = Candidate>> {
        let mut scan = Scan::new(&self.quantizer, queries, count);
        let scanning = self.queries_by_cluster(queries);
        for ((members, packed), scanning) in self.members.iter().zip(&self.packed).zip(&scanning) {
            scan.part(scanning, members, packed);
        }
        scan.best.into_iter().map(Best::into_sorted)
    }

    /// Returns the `N` centroids nearest to each of `rows` rows, nearest first; the last is repeated if there are fewer.
    /// A step of `progress` is a row; after a cancellation, the result is meaningless.
    pub(super) fn nearest_of_all<'r, T: Element, const N: usize>(
        &self,
        rows: usize,
        row: impl Fn(usize) -> &'r [T] + Sync,
        progress: &dyn Progress,
    ) -> Vec<[u32; N]> {
        let nearest_of = |range: Range<usize>| {
            let mut found = Vec::with_capacity(range.len());
            for first in range.clone().step_by(TOGETHER) {
                if progress.is_cancelled() {
                    found.resize(range.len(), [0; N]);
                    break;
                }
                let together: Vec<&[T]> = (first..range.end.min(first + TOGETHER)).map(&row).collect();
                found.extend(self.nearest(&together, N).map(|mut best| {
                    let mut last = 0;
                    std::array::from_fn(|_| {
                        last = best.next().map_or(last, |best| best.node());
                        last
                    })
                }));
                progress.advance(together.len() as u64);
            }
            found
        };
        parallel::map_ranges(rows, TILE * 32, nearest_of).concat()
    }

    /// Returns for each cluster the queries that scan it.
    fn queries_by_cluster<T: Element>(&self, queries: &[&[T]]) -> Vec<Vec<u32>> {
        let Some((means, quantizer)) = &self.means else {
            return vec![(0..queries.len() as u32).collect()];
        };
        let mut scanning = vec![Vec::new(); self.members.len()];
        let (mut tile, mut selection) = <(Tile, Selection)>::default();
        for (share, first) in queries.chunks(TILE).zip((0u32..).step_by(TILE)) {
            let scores = tile.score_queries(quantizer, share.iter().copied(), means);
            for (query, scores) in (first..).zip(scores) {
                let probed = selection.best(scores, self.members.len().div_ceil(PROBED_SHARE));
                probed.iter().for_each(|cluster| scanning[cluster.node() as usize].push(query));
            }
        }
        scanning
    }
}

/// Returns the means of `count` clusters of `sample`, `[count × dim]`: under inner product and cosine, of the directions of its
/// rows.
pub(super) fn k_means<T: Element>(
    sample: &[&[T]],
    count: usize,
    iterations: usize,
    dim: usize,
    metric: Metric,
    progress: &dyn Progress,
) -> Vec<f32> {
    let seeds = (0..count).map(|cluster| sample[cluster * sample.len() / count]);
    let mut centroids: Vec<f32> = seeds.flatten().map(|value| value.to_f32()).collect();
    let weight = |row: &[T]| match metric {
        Metric::L2 => 1.0,
        Metric::InnerProduct | Metric::Cosine => Kernels::get().norm_squared(row).sqrt().recip(),
    };
    for _ in 0..iterations {
        let of_row: Vec<[u32; 1]> =
            Centroids::aimed(&centroids, dim, metric).nearest_of_all(sample.len(), |at| sample[at], progress);
        let members = by_cluster(of_row.iter().map(|[cluster]| *cluster), count);
        move_to_means(&mut centroids, dim, &members, |at| (sample[at], weight(sample[at])));
    }
    centroids
}

/// Returns the rows of each of `count` clusters, given the cluster of each row.
pub(super) fn by_cluster(of_row: impl Iterator<Item = u32>, count: usize) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); count];
    of_row.zip(0u32..).for_each(|(cluster, row)| members[cluster as usize].push(row));
    members
}

/// Moves each centroid to the weighted mean of its rows. `row` returns a row and its weight. A centroid without rows of
/// finite weight stays.
pub(super) fn move_to_means<'r, T: Element>(
    centroids: &mut [f32],
    dim: usize,
    members: &[Vec<u32>],
    row: impl Fn(usize) -> (&'r [T], f32) + Sync,
) {
    parallel::for_chunks_mut_with(
        centroids,
        dim,
        1,
        || vec![0f64; dim],
        |sums, cluster, centroid| {
            sums.fill(0.0);
            let rows = members[cluster].iter().map(|member| row(*member as usize));
            let mut count = 0u32;
            for (row, weight) in rows.filter(|(_, weight)| weight.is_finite()) {
                count += 1;
                let values = T::widen(row);
                sums.iter_mut().zip(values.iter()).for_each(|(sum, value)| *sum += f64::from(weight * value));
            }
            for (value, sum) in centroid.iter_mut().zip(sums.iter()) {
                let mean = (sum / f64::from(count)) as f32;
                if mean.is_finite() {
                    *value = mean;
                }
            }
        },
    );
}

/// Scales a vector to norm 1; zeros stay zeros.
pub(super) fn direction(vector: &[f32]) -> impl Iterator<Item = f32> {
    let norm = Kernels::get().norm_squared(vector).sqrt();
    let scale = if norm > 0.0 { norm.recip() } else { 1.0 };
    vector.iter().map(move |value| value * scale)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::graph::{Score, Scorer};

    /// The shares of rows whose nearest centroid is found, and of the three nearest.
    fn found(centroids: usize, metric: Metric) -> (f64, f64) {
        const DIM: usize = 8;
        const ROWS: usize = 300;
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut vectors = |count: usize| -> Vec<f32> {
            (0..count * DIM).map(|_| random.random_range(-1.0f32..1.0)).collect()
        };
        let (centroids, rows) = (vectors(centroids), vectors(ROWS));
        let row = |at: usize| &rows[at * DIM..(at + 1) * DIM];
        let nearest: Vec<[u32; 3]> =
            Centroids::aimed(&centroids, DIM, metric).nearest_of_all(ROWS, row, &Silent);
        let aimed: Vec<f32> = match metric {
            Metric::L2 => centroids,
            Metric::InnerProduct | Metric::Cosine => centroids.chunks(DIM).flat_map(direction).collect(),
        };
        let (mut first, mut all) = (0, 0);
        for (at, nearest) in nearest.iter().enumerate() {
            let scorer = Scorer::new(metric, row(at), &aimed);
            let mut exact: Vec<Candidate> = (0..(aimed.len() / DIM) as u32)
                .map(|other| Candidate::new(other, scorer.score(other)))
                .collect();
            exact.sort_unstable();
            first += usize::from(exact[0].node() == nearest[0]);
            all += exact[..3].iter().filter(|exact| nearest.contains(&exact.node())).count();
        }
        (first as f64 / ROWS as f64, all as f64 / (3 * ROWS) as f64)
    }

    #[test]
    fn few_centroids_are_all_compared_and_of_many_the_nearest_are_found() {
        for metric in [Metric::InnerProduct, Metric::Cosine, Metric::L2] {
            for centroids in [5, 100, CLUSTERED_FROM, 2 * CLUSTERED_FROM] {
                // Codes swap a few centroids that are nearly as near.
                let (first, all) = found(centroids, metric);
                assert!(first > 0.9 && all > 0.9, "{metric:?}, {centroids} centroids: {first} and {all}");
            }
        }
    }

    #[test]
    fn a_lone_centroid_is_repeated() {
        let nearest: Vec<[u32; 3]> =
            Centroids::new(&[1.0, 2.0], 2, Metric::L2).nearest_of_all(4, |_| &[3.0f32, 4.0], &Silent);
        assert_eq!(nearest, [[0; 3]; 4]);
    }
}
