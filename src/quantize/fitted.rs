//! Quantizers for given rows, and the rows that they do not represent.

use super::bounds::Bounds;
use super::registry::{Codes, Quantizer};
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};

/// At most one row in this many is left to full precision: comparing such a row reads four times the bytes of a code.
const LEAST_REPRESENTED: usize = 32;
/// Of a few rows, this many may be.
const ALWAYS_ALLOWED: usize = 8;

/// A quantizer, and the rows that it does not represent.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Encodes rows and queries.
    pub quantizer: Quantizer,
    /// The rows outside its levels, ascending: they are compared in full precision.
    pub unrepresented: Vec<u32>,
}

/// Returns the quantizers to choose from for `vectors`, `[n × dim]`, finite: one that leaves extremes out, if there
/// are some, and one that represents every row. Empty for [`Codes::None`]. The result does not depend on the number of threads.
pub fn fit<T: Element>(codes: Codes, vectors: &[T], dim: usize, metric: Metric) -> Vec<Fitted> {
    let rows = vectors.len() / dim;
    let all = Bounds::of(vectors, dim);
    let mut fitted: Vec<Fitted> = Vec::new();
    if let Some(bounds) = all.without_extremes() {
        let Some(quantizer) = codes.train(&bounds, metric) else { return fitted };
        let is_outside = |row: &usize| !quantizer.represents(&vectors[row * dim..(row + 1) * dim]);
        let outside = parallel::map_ranges(rows, ROWS_PER_TASK, |range| {
            range.filter(is_outside).map(|row| row as u32).collect::<Vec<u32>>()
        });
        let unrepresented = outside.concat();
        if unrepresented.len() <= (rows / LEAST_REPRESENTED).max(ALWAYS_ALLOWED) {
            fitted.push(Fitted { quantizer, unrepresented });
        }
    }
    let of_all = codes.train(&all, metric);
    fitted.extend(of_all.map(|quantizer| Fitted { quantizer, unrepresented: Vec::new() }));
    fitted
}

/// Returns the first of [`fit`]; for [`Codes::None`] that of [`Codes::Sq8`].
pub fn fit_tightest<T: Element>(codes: Codes, vectors: &[T], dim: usize, metric: Metric) -> Fitted {
    let codes = if codes == Codes::None { Codes::Sq8 } else { codes };
    fit(codes, vectors, dim, metric).swap_remove(0)
}
