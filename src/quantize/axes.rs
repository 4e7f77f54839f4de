//! Query-aware principal axes: the directions in which residuals change inner products with typical queries most, in
//! descending order.
//!
//! Let M be the second moment of the queries and y = M^½ r for a residual r: the mean square of q·r is ‖y‖². If C is the
//! covariance of the residuals, y varies most along the principal axes v of M^½ C M^½, and a few of them explain most of
//! the differences between scores. A row has the coordinate t·r with t = M^½ v along an axis, and a query s·q with
//! s = M^-½ v: the sum of their products over all axes is q·r.

use nalgebra::{DMatrix, SymmetricEigen};

use super::moment::SecondMoment;
use super::widths::{plain_codes, shortest_widths};
use crate::kernel::Kernels;

/// Maximum number of axes: each costs a query one dot product with a row of its own size.
const MAX_AXES: usize = 256;
/// Lower bound on an eigenvalue of the second moment, as a share of the mean, so that M^-½ stays finite.
const LEAST_SEEN: f64 = 1e-4;

/// Axes other than the dimensions.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// `[axes × dim]`: a residual has a coordinate of its inner product with each.
    pub of_rows: &'a [f32],
    /// `[axes × dim]`: a query has a coordinate of its inner product with each.
    pub of_queries: &'a [f32],
}

/// [`Axes`] that own their memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FittedAxes {
    /// As [`Axes::of_rows`].
    pub of_rows: Vec<f32>,
    /// As [`Axes::of_queries`].
    pub of_queries: Vec<f32>,
}

impl From<Axes<'_>> for FittedAxes {
    fn from(axes: Axes<'_>) -> Self {
        Self { of_rows: axes.of_rows.to_vec(), of_queries: axes.of_queries.to_vec() }
    }
}

impl FittedAxes {
    /// Borrows the axes.
    pub fn view(&self) -> Axes<'_> {
        Axes { of_rows: &self.of_rows, of_queries: &self.of_queries }
    }

    /// Fits axes to residuals of second moment `differences` and chooses the bits for each. Returns `None` if that takes no
    /// fewer bytes than the dimensions as axes.
    pub(super) fn fit(
        queries: &SecondMoment,
        differences: &SecondMoment,
        dim: usize,
    ) -> Option<(Self, Vec<u8>)> {
        let square = |moment: &SecondMoment| {
            DMatrix::from_row_iterator(dim, dim, moment.matrix().iter().map(|value| f64::from(*value)))
        };
        let (queries, differences) = (square(queries), square(differences));
        let least = LEAST_SEEN * queries.trace() / dim as f64;
        let are_finite = |moment: &DMatrix<f64>| moment.iter().all(|value| value.is_finite());
        if !(least > 0.0 && differences.trace() > 0.0 && are_finite(&queries) && are_finite(&differences)) {
            return None;
        }
        let SymmetricEigen { eigenvalues, eigenvectors } = SymmetricEigen::new(queries);
        let power = |exponent: f64| {
            let scaled = eigenvalues.map(|value| value.max(least).powf(exponent));
            &eigenvectors * DMatrix::from_diagonal(&scaled) * eigenvectors.transpose()
        };
        let (root, inverse) = (power(0.5), power(-0.5));
        let SymmetricEigen { eigenvalues, eigenvectors } = SymmetricEigen::new(&root * differences * &root);
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_unstable_by(|a, b| eigenvalues[*b].total_cmp(&eigenvalues[*a]));
        let variances: Vec<f64> = order.iter().map(|at| eigenvalues[*at].max(0.0)).collect();
        let widths = shortest_widths(&variances, MAX_AXES, plain_codes(dim))?;
        let along = |matrix: &DMatrix<f64>| {
            let axes = order.iter().take(widths.len());
            axes.flat_map(|at| {
                (matrix * eigenvectors.column(*at)).iter().map(|value| *value as f32).collect::<Vec<_>>()
            })
            .collect::<Vec<f32>>()
        };
        Some((Self { of_rows: along(&root), of_queries: along(&inverse) }, widths))
    }
}

/// Returns the coordinates of a vector, `[dim]`, along `axes`, `[axes × dim]`.
pub(super) fn along<'v>(axes: &'v [f32], vector: &'v [f32]) -> impl Iterator<Item = f32> + 'v {
    let kernels = Kernels::get();
    axes.chunks(vector.len().max(1)).map(move |axis| kernels.dot(axis, vector))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const DIM: usize = 24;

    fn moment(scale: impl Fn(usize) -> f32, seed: u64) -> (SecondMoment, Vec<Vec<f32>>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut row = || (0..DIM).map(|dim| scale(dim) * random.random_range(-1.0f32..1.0)).collect();
        let rows: Vec<Vec<f32>> = (0..2000).map(|_| row()).collect();
        (SecondMoment::of(&rows, DIM, Vec::clone), rows)
    }

    #[test]
    fn axes_preserve_inner_products() {
        let (queries, some_queries) = moment(|dim| if dim < 6 { 1.0 } else { 0.1 }, 1);
        let (differences, rows) = moment(|dim| 1.0 / (1 + dim % 5) as f32, 2);
        let (axes, widths) = FittedAxes::fit(&queries, &differences, DIM).unwrap();
        assert_eq!(axes.of_rows.len(), widths.len() * DIM);
        assert!(widths[0] == 4 && widths.is_sorted_by(|a, b| a >= b), "{widths:?}");
        let axes = axes.view();
        for (query, row) in some_queries.iter().zip(&rows) {
            let pairs = along(axes.of_queries, query).zip(along(axes.of_rows, row));
            let found: f32 = pairs.map(|(query, row)| query * row).sum();
            let expected: f32 = query.iter().zip(row).map(|(query, value)| query * value).sum();
            assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
        }
    }

    #[test]
    fn no_axes_are_fitted_if_they_save_nothing() {
        let (queries, _) = moment(|_| 1.0, 1);
        assert_eq!(FittedAxes::fit(&queries, &moment(|_| 1.0, 2).0, DIM), None);
        for nothing in [0.0, f32::NAN, f32::INFINITY] {
            let nothing = moment(|_| nothing, 2).0;
            assert_eq!(FittedAxes::fit(&queries, &nothing, DIM), None);
            assert_eq!(FittedAxes::fit(&nothing, &queries, DIM), None);
        }
    }
}
