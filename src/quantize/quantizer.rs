//! What a quantizer must provide.

use super::query_codes::QueryCodes;
use crate::base::element::Element;
use crate::base::metric::Metric;

/// A linear quantizer: rows become `u8` codes and queries `i8` codes, and the inner product of a query and a row is
/// about `bias + scale · (query codes · row codes)`, with a bias and a scale per query ([`super::Affine`]).
pub(super) trait Quantize: Sized + Sync {
    /// The name on the command line and in files: the type's name in lower case.
    const NAME: &'static str;

    /// Returns whether an index can be searched with these codes under `metric`.
    fn serves(metric: Metric) -> bool;

    /// Bytes of codes per row of `dim` components: a multiple of [`crate::kernel::CODE_ALIGNMENT`].
    fn stride(dim: usize) -> usize;

    /// How many `f32` [`Self::parameters`] has.
    fn parameter_count(dim: usize) -> usize;

    /// Trains on `vectors`, `[n × dim]`, finite. The result does not depend on the number of threads.
    fn train<T: Element>(vectors: &[T], dim: usize) -> Self;

    /// Restores a quantizer; `None` if no dimension has this number of parameters.
    fn from_parameters(parameters: &[f32]) -> Option<Self>;

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

    /// Appends the codes of a query, `[dim]` finite, to `out`.
    ///
    /// # Panics
    /// If the query has another dimension.
    fn push_query(&self, query: &[f32], out: &mut QueryCodes);
}
