//! Overlapping groups of near rows (k-means).
//!
//! In: rows. Out: groups small enough to compare all their rows with each other. Each row is in the few groups nearest to
//! it; the nearest is its own.
//!
//! Under L2, near rows have a small distance; under inner product and cosine, a similar direction: a row of small norm
//! belongs with the large ones that score best with it.

use super::clusters::{Centroids, by_cluster, k_means, move_to_means};
use super::progress::Progress;
use crate::base::element::Element;
use crate::base::metric::Metric;

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
    /// Groups `vectors`, `[n × dim]`, deterministically. Takes [`Self::steps`] steps of `progress`.
    pub(super) fn new<T: Element>(
        vectors: &[T],
        dim: usize,
        metric: Metric,
        progress: &dyn Progress,
    ) -> Self {
        let rows = vectors.len() / dim;
        let groups = Self::count(rows);
        let row = |row: usize| &vectors[row * dim..(row + 1) * dim];
        let sample: Vec<&[T]> = (0..rows).step_by(Self::sampled_every(rows)).map(row).collect();
        let mut centroids = k_means(&sample, groups, ITERATIONS, dim, metric, progress);
        let of_row: Vec<[u32; OVERLAP]> =
            Centroids::aimed(&centroids, dim, metric).nearest_of_all(rows, row, progress);
        let members = by_cluster(of_row.iter().map(|groups| groups[0]), groups);
        move_to_means(&mut centroids, dim, &members, |at| (row(at), 1.0));
        Self { dim, centroids, of_row }
    }

    /// Returns how many steps it takes to group `rows` rows: one for each comparison of a row with the centroids.
    pub(super) fn steps(rows: usize) -> u64 {
        (ITERATIONS * rows.div_ceil(Self::sampled_every(rows)) + rows) as u64
    }

    fn count(rows: usize) -> usize {
        ((rows as f64).sqrt().ceil() as usize).max(rows / ROWS_PER_GROUP).clamp(1, rows)
    }

    /// Every which row is in the sample for k-means.
    fn sampled_every(rows: usize) -> usize {
        (rows / (Self::count(rows) * SAMPLE_PER_GROUP)).max(1)
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
