//! What a quantizer must provide.

use super::bounds::Bounds;
use super::fine::FineQuery;
use super::query_codes::QueryCodes;
use crate::base::element::Element;
use crate::base::metric::Metric;

/// A linear quantizer: rows become `u8` codes and queries `i8` codes, and the score of a row for a query is about
/// `bias + scale · dot`, with a bias and a scale per query ([`super::Affine`]).
///
/// Under inner product and cosine, `dot` is the dot product of the codes of query and row. Under L2, it is less by
/// `2 / scale · half_norm(row)`.
pub(super) trait Quantize: Sized + Sync {
    /// The name on the command line and in files: the type's name in lower case.
    const NAME: &'static str;

    /// Returns whether an index can be searched with these codes under `metric`.
    fn serves(metric: Metric) -> bool;

    /// Bytes of codes per row of `dim` components: a multiple of [`crate::kernel::CODE_ALIGNMENT`].
    fn stride(dim: usize) -> usize;

    /// How many `f32` [`Self::parameters`] has.
    fn parameter_count(dim: usize, metric: Metric) -> usize;

    /// Chooses the levels for rows within `bounds`.
    fn train(bounds: &Bounds, metric: Metric) -> Self;

    /// Restores a quantizer; `None` if no dimension has this number of parameters.
    fn from_parameters(parameters: &[f32], metric: Metric) -> Option<Self>;

    /// What an index stores to restore the quantizer.
    fn parameters(&self) -> &[f32];

    /// Components per row.
    fn dim(&self) -> usize;

    /// Encodes a row, `[dim]`, into `out`, `[stride]`.
    ///
    /// # Panics
    /// If a length is wrong.
    fn encode<T: Element>(&self, row: &[T], out: &mut [u8]);

    /// Returns the row, `[dim]`, that `code`, `[stride]`, represents.
    fn decode(&self, code: &[u8]) -> Vec<f32>;

    /// Encodes what `code`, the code of a row, rounds off: fine codes, into `out`, `[stride]`.
    fn encode_fine<T: Element>(&self, row: &[T], code: &[u8], out: &mut [u8]);

    /// Returns the codes of a query, `[dim]` finite, for rows with fine codes; `None` under L2, where dot products of codes
    /// are too coarse for small distances.
    fn fine_query(&self, query: &[f32]) -> Option<FineQuery>;

    /// Returns whether the code of a row, `[dim]`, represents all its components: none is far outside the levels.
    fn represents<T: Element>(&self, row: &[T]) -> bool;

    /// Returns half of the squared distance from the origin to the row that `code`, `[stride]`, represents.
    fn half_norm(&self, code: &[u8]) -> f32;

    /// The point that dot products of codes are measured from, `[dim]`; `None` if it is zero.
    fn origin(&self) -> Option<&[f32]>;

    /// Appends the codes of a query, `[dim]` finite, to `out`.
    ///
    /// # Panics
    /// If the query has another dimension.
    fn push_query(&self, query: &[f32], out: &mut QueryCodes);
}
