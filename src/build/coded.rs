//! The rows of a build in full precision and in codes, and scores of many rows for many queries at once.
//!
//! In: rows and queries. Out: inner products, or scores that rank like L2 distances, from integer kernels over packed
//! blocks. Rows that their codes do not represent are scored in full precision.

use super::select::Selectable;
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::kernel::{Kernels, PACKED_ROWS, pack};
use crate::quantize::{Codes, Fitted, Quantizer, QueryCodes, RowCodes, fit_tightest};

/// Queries scored together.
pub(super) const TILE: usize = 8;
/// Rows per [`QueryCodes`], which one task encodes.
const SHARE: usize = 4096;

/// The rows of a build, by node.
pub(super) struct CodedRows<T> {
    /// `[n × dim]`.
    pub(super) vectors: Vec<T>,
    pub(super) dim: usize,
    pub(super) quantizer: Quantizer,
    /// `[n × stride]`.
    pub(super) codes: Vec<u8>,
    /// The number of rows without extreme components; the rows with some come after these.
    regular: usize,
    /// The number of rows that are compared by their codes. The rows after these are compared in full precision.
    represented: usize,
    /// The rows encoded as queries, [`SHARE`] at a time. They take as much as the codes, and each row is a query in several
    /// groups.
    queries: Vec<QueryCodes>,
    /// `[n]`: half of each squared norm, measured from the origin of the quantizer.
    pub(super) half_norms: Vec<f32>,
}

impl<T: Element> CodedRows<T> {
    /// `regular`: the number of rows without extreme components, which codes represent. They are compared by their codes if
    /// these are precise.
    pub(super) fn new(
        vectors: Vec<T>,
        dim: usize,
        quantizer: Quantizer,
        regular: usize,
        is_precise: bool,
    ) -> Self {
        let codes = quantizer.encode_all(&vectors);
        let as_queries = |_: usize, rows: &[T]| {
            let mut queries = QueryCodes::default();
            rows.chunks(dim).for_each(|row| quantizer.push_query(&T::widen(row), &mut queries));
            queries
        };
        let queries = parallel::map_chunks(&vectors, dim * SHARE, 1, as_queries);
        let half_norms = half_norms_of(&quantizer, &vectors, dim, &codes);
        let represented = if is_precise { regular } else { 0 };
        Self { vectors, dim, quantizer, codes, regular, represented, queries, half_norms }
    }

    pub(super) fn len(&self) -> usize {
        self.half_norms.len()
    }

    /// `[dim]`.
    pub(super) fn row(&self, node: u32) -> &[T] {
        &self.vectors[node as usize * self.dim..(node as usize + 1) * self.dim]
    }

    /// The codes as a search uses them.
    pub(super) fn searched(&self) -> RowCodes<'_> {
        let half_norms = if self.quantizer.origin().is_some() { &self.half_norms[..] } else { &[] };
        RowCodes { rows: &self.codes, half_norms, represented: self.regular, quantizer: &self.quantizer }
    }

    /// The rows as neighbors are selected among them.
    pub(super) fn selectable(&self, metric: Metric) -> Selectable<'_, T> {
        Selectable { metric, vectors: &self.vectors, dim: self.dim, regular: self.regular }
    }

    fn code(&self, node: u32) -> &[u8] {
        let stride = self.quantizer.stride();
        &self.codes[node as usize * stride..(node as usize + 1) * stride]
    }
}

/// Returns half of the squared norm of each of `vectors`, `[n × dim]`: by codes if they have an origin other than zero.
fn half_norms_of<T: Element>(quantizer: &Quantizer, vectors: &[T], dim: usize, codes: &[u8]) -> Vec<f32> {
    match quantizer.origin() {
        Some(_) => quantizer.half_norms(codes),
        None => {
            parallel::map_chunks(vectors, dim, ROWS_PER_TASK, |_, row| Kernels::get().norm_squared(row) / 2.0)
        }
    }
}

/// Rows packed for scoring.
#[derive(Default)]
pub(super) struct PackedRows {
    packed: Vec<u8>,
    count: usize,
    metric: Option<Metric>,
    /// The positions of the rows that are scored in full precision, and these rows, `[count × dim]`.
    exact: Vec<u32>,
    exact_rows: Vec<f32>,
    /// Subtracted from each score: half of the squared norm under L2, else 0.
    offsets: Vec<f32>,
}

impl PackedRows {
    /// Replaces the contents with the rows of `nodes`, to be scored under `metric`.
    pub(super) fn pack<T: Element>(&mut self, rows: &CodedRows<T>, nodes: &[u32], metric: Metric) {
        self.packed.clear();
        pack(nodes.iter().map(|node| rows.code(*node)), rows.quantizer.stride(), &mut self.packed);
        self.take_offsets(nodes.iter().map(|node| match metric {
            Metric::InnerProduct | Metric::Cosine => 0.0,
            Metric::L2 => rows.half_norms[*node as usize],
        }));
        self.metric = Some(metric);
        self.exact.clear();
        self.exact_rows.clear();
        if rows.represented < rows.len() {
            for (position, node) in (0..).zip(nodes).filter(|(_, node)| **node as usize >= rows.represented) {
                self.exact.push(position);
                self.exact_rows.extend_from_slice(&T::widen(rows.row(*node)));
            }
        }
    }

    /// Packs `vectors`, `[n × dim]`, that are not rows of the build, with a quantizer trained on them.
    pub(super) fn of_vectors(vectors: &[f32], dim: usize, metric: Metric) -> (Self, Quantizer) {
        let all = (0..(vectors.len() / dim) as u32).collect();
        let (mut parts, quantizer) = Self::of_parts(vectors, dim, metric, &[all]);
        (parts.swap_remove(0), quantizer)
    }

    /// As [`Self::of_vectors`], each of `parts` on its own. Their scores are comparable: they share the quantizer.
    pub(super) fn of_parts(
        vectors: &[f32],
        dim: usize,
        metric: Metric,
        parts: &[Vec<u32>],
    ) -> (Vec<Self>, Quantizer) {
        let Fitted { quantizer, unrepresented } = fit_tightest(Codes::Sq8, vectors, dim, metric);
        let (codes, stride) = (quantizer.encode_all(vectors), quantizer.stride());
        let half_norms = match metric {
            Metric::InnerProduct | Metric::Cosine => vec![0.0; vectors.len() / dim],
            Metric::L2 => half_norms_of(&quantizer, vectors, dim, &codes),
        };
        let of_part = |part: &Vec<u32>| {
            let at = || part.iter().map(|at| *at as usize);
            let mut packed = Self { metric: Some(metric), ..Self::default() };
            pack(at().map(|at| &codes[at * stride..(at + 1) * stride]), stride, &mut packed.packed);
            packed.take_offsets(at().map(|at| half_norms[at]));
            for (position, at) in (0..).zip(part).filter(|(_, at)| unrepresented.binary_search(at).is_ok()) {
                packed.exact.push(position);
                packed.exact_rows.extend_from_slice(&vectors[*at as usize * dim..(*at as usize + 1) * dim]);
            }
            packed
        };
        (parts.iter().map(of_part).collect(), quantizer)
    }

    /// Replaces the scores of the rows that are scored in full precision for a query, `[dim]`. `has_origin`: whether the
    /// quantizer has one; otherwise half of the squared norm of the query is left out under L2.
    fn correct(&self, query: &[f32], has_origin: bool, scores: &mut [f32]) {
        let kernels = Kernels::get();
        for (position, row) in self.exact.iter().zip(self.exact_rows.chunks(query.len())) {
            let Some(score) = scores.get_mut(*position as usize) else { return };
            *score = match self.metric {
                Some(Metric::L2) if has_origin => -kernels.l2_squared(query, row) / 2.0,
                Some(Metric::L2) => kernels.dot(query, row) - kernels.norm_squared(row) / 2.0,
                Some(Metric::InnerProduct | Metric::Cosine) | None => kernels.dot(query, row),
            };
        }
    }

    fn take_offsets(&mut self, offsets: impl Iterator<Item = f32>) {
        self.offsets.clear();
        self.offsets.extend(offsets);
        self.count = self.offsets.len();
        self.offsets.resize(self.count.next_multiple_of(PACKED_ROWS), 0.0);
    }
}

/// Scores a few queries at a time. Reused between calls.
#[derive(Default)]
pub(super) struct Tile {
    queries: QueryCodes,
    /// `[queries × dim]`, if some rows are scored in full precision.
    exact: Vec<f32>,
    sums: Vec<i32>,
    scores: Vec<f32>,
}

impl Tile {
    /// Returns for each of `nodes`, at most [`TILE`], used as a query, the scores of the first `limit` rows, as
    /// [`Self::score_queries`] does.
    pub(super) fn score_nodes<T: Element>(
        &mut self,
        rows: &CodedRows<T>,
        nodes: impl Iterator<Item = u32>,
        packed: &PackedRows,
        limit: usize,
    ) -> impl Iterator<Item = &[f32]> {
        self.queries.clear();
        self.exact.clear();
        for node in nodes {
            if !packed.exact.is_empty() {
                self.exact.extend_from_slice(&T::widen(rows.row(node)));
            }
            let node = node as usize;
            self.queries.push_copy(&rows.queries[node / SHARE], node % SHARE);
        }
        self.score(packed, limit, rows.quantizer.origin().is_some())
    }

    /// Returns for each of `queries`, `[dim]`, at most [`TILE`], the scores of `rows`: inner products under inner
    /// product and cosine; under L2 half of `−‖query − row‖²`, plus half of `‖query‖²` if the quantizer has no origin.
    pub(super) fn score_queries<'q, T: Element>(
        &mut self,
        quantizer: &Quantizer,
        queries: impl Iterator<Item = &'q [T]>,
        rows: &PackedRows,
    ) -> impl Iterator<Item = &[f32]> {
        self.queries.clear();
        self.exact.clear();
        for query in queries {
            let query = T::widen(query);
            quantizer.push_query(&query, &mut self.queries);
            if !rows.exact.is_empty() {
                self.exact.extend_from_slice(&query);
            }
        }
        self.score(rows, rows.count, quantizer.origin().is_some())
    }

    /// As [`Self::score_queries`] for queries that are encoded already: `queries` are their positions in `codes` and their
    /// vectors.
    pub(super) fn score_encoded<'q, T: Element>(
        &mut self,
        quantizer: &Quantizer,
        codes: &QueryCodes,
        queries: impl Iterator<Item = (usize, &'q [T])>,
        rows: &PackedRows,
    ) -> impl Iterator<Item = &[f32]> {
        self.queries.clear();
        self.exact.clear();
        for (at, query) in queries {
            self.queries.push_copy(codes, at);
            if !rows.exact.is_empty() {
                self.exact.extend_from_slice(&T::widen(query));
            }
        }
        self.score(rows, rows.count, quantizer.origin().is_some())
    }

    fn score(&mut self, rows: &PackedRows, limit: usize, has_origin: bool) -> impl Iterator<Item = &[f32]> {
        let Self { queries, exact, sums, scores } = self;
        let dim = exact.len() / queries.affine().len().max(1);
        let kernels = Kernels::get();
        let count = limit.min(rows.count);
        let padded = count.next_multiple_of(PACKED_ROWS);
        sums.resize(queries.affine().len() * padded, 0);
        scores.resize(sums.len(), 0.0);
        let packed = &rows.packed[..padded * queries.stride()];
        kernels.code_packed(queries.as_slice(), queries.stride(), packed, sums);
        let places = scores.chunks_exact_mut(padded.max(1)).zip(sums.chunks_exact(padded.max(1)));
        // A quantizer with an origin scores by −‖query − row‖², and half of that is wanted.
        let share = if has_origin { 0.5 } else { 1.0 };
        for (at, (affine, (scores, sums))) in queries.affine().iter().zip(places).enumerate() {
            let (bias, scale) = (share * affine.bias, share * affine.scale);
            kernels.scores_of_sums(sums, bias, scale, &rows.offsets, scores);
            if dim > 0 {
                rows.correct(&exact[at * dim..(at + 1) * dim], has_origin, scores);
            }
        }
        scores.chunks_exact(padded.max(1)).map(move |scores| &scores[..count])
    }
}
