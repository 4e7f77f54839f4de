//! The second moment of queries: along which directions they are large.
//!
//! A difference r between two rows changes the score of a query q by q·r. The mean square of that over many queries is
//! rᵀ M r, where M is the mean of q qᵀ: directions in which no query has a component do not matter, however much rows
//! differ in them.

use crate::base::parallel;
use crate::kernel::Kernels;

/// Approximate size of the sample: far more than there are dimensions.
const SAMPLE: usize = 1 << 13;
/// Vectors per partial sum. Fixed, so that the result does not depend on the number of threads.
const ROWS_ADDED_UP: usize = 512;

/// The mean of x xᵀ over vectors x, symmetric.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondMoment {
    dim: usize,
    /// `[dim × dim]`.
    matrix: Vec<f32>,
}

impl SecondMoment {
    /// Computes the second moment of the directions of `count` vectors, `[dim]`, returned by `vector`: each is scaled to
    /// norm 1. Uses an evenly spaced sample.
    pub fn of_directions(count: usize, dim: usize, vector: impl Fn(usize) -> Vec<f32> + Sync) -> Self {
        let sample: Vec<usize> = (0..count).step_by(count.div_ceil(SAMPLE).max(1)).collect();
        let direction = |at: &usize| {
            let row = vector(*at);
            let norm = Kernels::get().norm_squared(&row).sqrt();
            let scale = if norm > 0.0 && norm.is_finite() { norm.recip() } else { 0.0 };
            row.iter().map(|value| value * scale).collect()
        };
        Self::of(&sample, dim, direction)
    }

    /// Computes the second moment of the vectors, `[dim]`, that `vector` returns for `items`: bit-identical for the same
    /// items.
    pub(super) fn of<I: Sync>(items: &[I], dim: usize, vector: impl Fn(&I) -> Vec<f32> + Sync) -> Self {
        let of_part = |items: &[I]| {
            let mut sums = vec![0f32; dim * dim];
            for vector in items.iter().map(&vector) {
                for (sums, left) in sums.chunks_mut(dim).zip(&vector) {
                    sums.iter_mut().zip(&vector).for_each(|(sum, right)| *sum += left * right);
                }
            }
            sums
        };
        let mut sums = vec![0f64; dim * dim];
        // One partial sum per thread at a time: each has the size of the result.
        for some in items.chunks(ROWS_ADDED_UP * rayon::current_num_threads()) {
            let parts = parallel::map_chunks(some, ROWS_ADDED_UP, 1, |_, part| of_part(part));
            for part in parts {
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
            }
        }
        let share = 1.0 / items.len().max(1) as f64;
        Self { dim, matrix: sums.into_iter().map(|sum| (sum * share) as f32).collect() }
    }

    /// Returns the mean of two moments: that of a mixture of equally many vectors of both.
    ///
    /// # Panics
    /// If the dimensions differ.
    pub fn mixed_with(mut self, other: &Self) -> Self {
        assert_eq!(self.dim, other.dim, "the moments have different dimensions");
        self.matrix.iter_mut().zip(&other.matrix).for_each(|(value, other)| *value = 0.5 * (*value + other));
        self
    }

    /// `[dim × dim]`.
    pub(super) fn matrix(&self) -> &[f32] {
        &self.matrix
    }

    /// Replaces the contents of `out` with the product of the matrix and `vector`, `[dim]`.
    pub fn times(&self, vector: &[f32], out: &mut Vec<f32>) {
        let kernels = Kernels::get();
        out.clear();
        out.extend(self.matrix.chunks(self.dim).map(|row| kernels.dot(row, vector)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_count_and_lengths_do_not() {
        let of =
            |vectors: &[[f32; 2]]| SecondMoment::of_directions(vectors.len(), 2, |at| vectors[at].to_vec());
        let moment = of(&[[3.0, 0.0], [0.0, 0.1], [0.0, 0.0]]);
        let (mut along, third) = (Vec::new(), 1.0 / 3.0);
        moment.times(&[1.0, 2.0], &mut along);
        assert_eq!(along, [third, 2.0 * third]);
        let mixed = moment.mixed_with(&of(&[[1.0, 1.0]]));
        let near = |(value, expected): (&f32, f32)| (value - expected).abs() < 1e-6;
        let expected = [0.5 * third + 0.25, 0.25, 0.25, 0.5 * third + 0.25];
        assert!(mixed.matrix.iter().zip(expected).all(near), "{:?}", mixed.matrix);
    }
}
