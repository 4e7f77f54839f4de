//! Overlapping groups of near rows (k-means, Lloyd).
//!
//! In: rows. Out: groups small enough to compare all their rows with each other. Each row is in the few groups nearest to
//! it; the nearest is its own.
//!
//! Under L2, near rows have a small distance; under inner product and cosine, a similar direction: a row of small norm
//! belongs with the large ones that score best with it.

use std::ops::Range;

use super::coded::{PackedRows, TILE, Tile};
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::graph::{Candidate, Selection};
use crate::kernel::Kernels;

/// Maximum average number of rows per group: the cost of comparing all rows of a group is quadratic.
const ROWS_PER_GROUP: usize = 1024;
/// Sample of rows per group for k-means.
const SAMPLE_PER_GROUP: usize = 64;
const ITERATIONS: usize = 5;
/// Groups per row: neighbors on the other side of a border are found in one of them.
pub(super) const OVERLAP: usize = 3;

/// Groups of rows.
pub(super) struct Groups {
    dim: usize,
    /// `[groups × dim]`: the mean of the rows in each.
    pub(super) centroids: Vec<f32>,
    /// By row: the groups nearest to it, nearest first; the last is repeated if there are fewer groups.
    pub(super) of_row: Vec<[u32; OVERLAP]>,
}

impl Groups {
    /// Groups `vectors`, `[n × dim]`, deterministically.
    pub(super) fn new<T: Element>(vectors: &[T], dim: usize, metric: Metric) -> Self {
        let rows = vectors.len() / dim;
        let groups = ((rows as f64).sqrt().ceil() as usize).max(rows / ROWS_PER_GROUP).clamp(1, rows);
        let row = |row: usize| &vectors[row * dim..(row + 1) * dim];
        let step = (rows / (groups * SAMPLE_PER_GROUP)).max(1);
        let sample: Vec<&[T]> = (0..rows).step_by(step).map(row).collect();
        let mut centroids = k_means(&sample, groups, ITERATIONS, dim, metric);
        let all: Vec<&[T]> = (0..rows).map(row).collect();
        let of_row = nearest::<T, OVERLAP>(&all, &centroids, dim, metric);
        let owned = all.iter().zip(&of_row).map(|(row, groups)| (*row, 1.0, groups[0]));
        move_to_means(&mut centroids, dim, owned);
        Self { dim, centroids, of_row }
    }

    /// Returns the number of groups.
    pub(super) fn len(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// Returns by group the rows that have it among their `overlap` nearest groups.
    pub(super) fn members(&self, overlap: usize) -> Vec<Vec<u32>> {
        let mut members = vec![Vec::new(); self.len()];
        for (row, of_row) in self.of_row.iter().enumerate() {
            for (at, group) in of_row[..overlap].iter().enumerate() {
                if !of_row[..at].contains(group) {
                    members[*group as usize].push(row as u32);
                }
            }
        }
        members
    }

    /// Renumbers the rows: `order[new]` is the old number of a row.
    pub(super) fn reordered(self, order: &[u32]) -> Self {
        let of_row = order.iter().map(|row| self.of_row[*row as usize]).collect();
        Self { of_row, ..self }
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
) -> Vec<f32> {
    let seeds = (0..count).map(|cluster| sample[cluster * sample.len() / count]);
    let mut centroids: Vec<f32> = seeds.flatten().map(|value| value.to_f32()).collect();
    for _ in 0..iterations {
        let of_row = nearest::<T, 1>(sample, &centroids, dim, metric);
        let weight = |row: &[T]| match metric {
            Metric::L2 => 1.0,
            Metric::InnerProduct | Metric::Cosine => Kernels::get().norm_squared(row).sqrt().recip(),
        };
        let weighed = sample.iter().zip(of_row).map(|(row, [cluster])| (*row, weight(row), cluster));
        move_to_means(&mut centroids, dim, weighed);
    }
    centroids
}

/// Moves each centroid to the weighted mean of its rows, given as (row, weight, centroid). A centroid without rows of
/// finite weight stays.
fn move_to_means<'a, T: Element>(
    centroids: &mut [f32],
    dim: usize,
    rows: impl Iterator<Item = (&'a [T], f32, u32)>,
) {
    let (mut sums, mut counts) = (vec![0f64; centroids.len()], vec![0u32; centroids.len() / dim]);
    for (row, weight, group) in rows.filter(|(_, weight, _)| weight.is_finite()) {
        let group = group as usize;
        counts[group] += 1;
        let sums = &mut sums[group * dim..(group + 1) * dim];
        sums.iter_mut().zip(T::widen(row).iter()).for_each(|(sum, value)| *sum += f64::from(weight * value));
    }
    for (at, centroid) in centroids.iter_mut().enumerate() {
        let mean = (sums[at] / f64::from(counts[at / dim])) as f32;
        if mean.is_finite() {
            *centroid = mean;
        }
    }
}

/// Returns the `N` groups nearest to each row, nearest first; the last is repeated if there are fewer groups.
fn nearest<T: Element, const N: usize>(
    rows: &[&[T]],
    centroids: &[f32],
    dim: usize,
    metric: Metric,
) -> Vec<[u32; N]> {
    let directions;
    let centroids = match metric {
        Metric::L2 => centroids,
        Metric::InnerProduct | Metric::Cosine => {
            directions = centroids.chunks(dim).flat_map(direction).collect::<Vec<f32>>();
            &directions
        }
    };
    let (packed, quantizer) = PackedRows::of_vectors(centroids, dim, metric);
    let nearest_of = |range: Range<usize>| {
        let (mut tile, mut selection) = <(Tile, Selection)>::default();
        let mut found = Vec::with_capacity(range.len());
        for rows in rows[range].chunks(TILE) {
            found.extend(tile.score_queries(&quantizer, rows.iter().copied(), &packed).map(|scores| {
                let best = selection.best(scores, N);
                let last = best.last().map_or(0, Candidate::node);
                std::array::from_fn(|at| best.get(at).map_or(last, Candidate::node))
            }));
        }
        found
    };
    parallel::map_ranges(rows.len(), TILE * 32, nearest_of).concat()
}

/// Scales a vector to norm 1; zeros stay zeros.
pub(super) fn direction(vector: &[f32]) -> impl Iterator<Item = f32> {
    let norm = Kernels::get().norm_squared(vector).sqrt();
    let scale = if norm > 0.0 { norm.recip() } else { 1.0 };
    vector.iter().map(move |value| value * scale)
}
