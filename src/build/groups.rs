//! Rows in overlapping groups that lie close together (k-means, Lloyd).
//!
//! What flows in: rows. What flows out: groups small enough to compare all their rows with each other,
//! each row in the few groups nearest to it, the nearest of which is its own.
//!
//! Under L2 rows are near that are at a small distance; under inner product and cosine, those in the same
//! direction: a row of small norm belongs with the large ones that score best with it.

use rayon::prelude::*;

use super::coded::{PackedRows, TILE, Tile};
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::graph::{Candidate, Selection};
use crate::kernel::Kernels;

/// Rows per group, where there are many: comparing within a group costs the square of it.
const ROWS_PER_GROUP: usize = 1024;
/// Rows per group that k-means looks at.
const SAMPLE_PER_GROUP: usize = 64;
const ITERATIONS: usize = 5;
/// Groups that a row is in: neighbors on the other side of a border are found in one of them.
pub(super) const OVERLAP: usize = 3;

/// Groups of rows.
pub(super) struct Groups {
    dim: usize,
    /// `[groups × dim]`: the mean of the rows in each.
    pub(super) centroids: Vec<f32>,
    /// For each row, the groups nearest to it, nearest first; the last one again where there are fewer.
    pub(super) of_row: Vec<[u32; OVERLAP]>,
}

impl Groups {
    /// Groups `vectors`, `[n × dim]`: the same way every time.
    pub(super) fn new<T: Element>(vectors: &[T], dim: usize, metric: Metric) -> Self {
        let rows = vectors.len() / dim;
        let groups = ((rows as f64).sqrt().ceil() as usize).max(rows / ROWS_PER_GROUP).clamp(1, rows);
        let row = |row: usize| &vectors[row * dim..(row + 1) * dim];
        let step = (rows / (groups * SAMPLE_PER_GROUP)).max(1);
        let sample: Vec<&[T]> = (0..rows).step_by(step).map(row).collect();
        let seeds = (0..groups).map(|group| sample[group * sample.len() / groups]);
        let mut centroids: Vec<f32> = seeds.flatten().map(|value| value.to_f32()).collect();
        for _ in 0..ITERATIONS {
            let of_row = nearest::<T, 1>(&sample, &centroids, dim, metric);
            let weight = |row: &[T]| match metric {
                Metric::L2 => 1.0,
                Metric::InnerProduct | Metric::Cosine => Kernels::get().norm_squared(row).sqrt().recip(),
            };
            let weighed = sample.iter().zip(of_row).map(|(row, [group])| (*row, weight(row), group));
            move_to_means(&mut centroids, dim, weighed);
        }
        let all: Vec<&[T]> = (0..rows).map(row).collect();
        let of_row = nearest::<T, OVERLAP>(&all, &centroids, dim, metric);
        let owned = all.iter().zip(&of_row).map(|(row, groups)| (*row, 1.0, groups[0]));
        move_to_means(&mut centroids, dim, owned);
        Self { dim, centroids, of_row }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// The rows of each group: those of which it is the nearest, and those that are in it at all.
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

    /// The same groups over rows in another order: `order[new]` is the old place of a row.
    pub(super) fn reordered(self, order: &[u32]) -> Self {
        let of_row = order.iter().map(|row| self.of_row[*row as usize]).collect();
        Self { of_row, ..self }
    }
}

/// Moves each centroid to the mean of `rows`, each with its weight and its centroid. One without rows, or
/// whose rows weigh nothing or beyond measure, stays.
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

/// The `N` groups nearest to each row, nearest first; the last one again where there are fewer.
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
    let tiles =
        rows.par_chunks(TILE * 32).map_init(<(Tile, Selection)>::default, |(tile, selection), rows| {
            let mut found = Vec::with_capacity(rows.len());
            for rows in rows.chunks(TILE) {
                found.extend(tile.score_queries(&quantizer, rows.iter().copied(), &packed).map(|scores| {
                    let best = selection.best(scores, N);
                    let last = best.last().map_or(0, Candidate::node);
                    std::array::from_fn(|at| best.get(at).map_or(last, Candidate::node))
                }));
            }
            found
        });
    tiles.flatten_iter().collect()
}

/// The vector at norm 1; one of zeros stays.
fn direction(vector: &[f32]) -> impl Iterator<Item = f32> {
    let norm = Kernels::get().norm_squared(vector).sqrt();
    let scale = if norm > 0.0 { norm.recip() } else { 1.0 };
    vector.iter().map(move |value| value * scale)
}
