//! The rows of a build in full precision and in codes, and scores of many rows for many queries at once.
//!
//! In: rows and queries. Out: inner products, or scores that rank like L2 distances, from integer kernels over packed
//! blocks.

use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::kernel::{Kernels, PACKED_ROWS, pack};
use crate::quantize::{Quantizer, QueryCodes};

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
    /// The rows encoded as queries, [`SHARE`] at a time.
    queries: Vec<QueryCodes>,
    /// `[n]`: half of each squared norm.
    half_norms: Vec<f32>,
}

impl<T: Element> CodedRows<T> {
    pub(super) fn new(vectors: Vec<T>, dim: usize, quantizer: Quantizer) -> Self {
        let codes = quantizer.encode_all(&vectors);
        let as_queries = |_: usize, rows: &[T]| {
            let mut queries = QueryCodes::default();
            rows.chunks(dim).for_each(|row| quantizer.push_query(&T::widen(row), &mut queries));
            queries
        };
        let queries = parallel::map_chunks(&vectors, dim * SHARE, 1, as_queries);
        let half_norms = parallel::map_chunks(&vectors, dim, ROWS_PER_TASK, |_, row| {
            Kernels::get().norm_squared(row) / 2.0
        });
        Self { vectors, dim, quantizer, codes, queries, half_norms }
    }

    pub(super) fn len(&self) -> usize {
        self.half_norms.len()
    }

    /// `[dim]`.
    pub(super) fn row(&self, node: u32) -> &[T] {
        &self.vectors[node as usize * self.dim..(node as usize + 1) * self.dim]
    }

    fn code(&self, node: u32) -> &[u8] {
        let stride = self.quantizer.stride();
        &self.codes[node as usize * stride..(node as usize + 1) * stride]
    }
}

/// Rows packed for scoring.
#[derive(Default)]
pub(super) struct PackedRows {
    packed: Vec<u8>,
    count: usize,
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
    }

    /// Packs `vectors`, `[n × dim]`, that are not rows of the build, with a quantizer trained on them.
    pub(super) fn of_vectors(vectors: &[f32], dim: usize, metric: Metric) -> (Self, Quantizer) {
        let quantizer = Quantizer::for_comparing(vectors, dim);
        let codes = quantizer.encode_all(vectors);
        let mut packed = Self::default();
        pack(codes.chunks(quantizer.stride()), quantizer.stride(), &mut packed.packed);
        packed.take_offsets(vectors.chunks(dim).map(|vector| match metric {
            Metric::InnerProduct | Metric::Cosine => 0.0,
            Metric::L2 => Kernels::get().norm_squared(vector) / 2.0,
        }));
        (packed, quantizer)
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
        nodes.for_each(|node| {
            let node = node as usize;
            self.queries.push_copy(&rows.queries[node / SHARE], node % SHARE);
        });
        self.score(packed, limit)
    }

    /// Returns for each of `queries`, `[dim]`, at most [`TILE`], the scores of `rows`: inner products under inner
    /// product and cosine; half of `‖query‖² − ‖query − row‖²` under L2, which ranks like the distance.
    pub(super) fn score_queries<'q, T: Element>(
        &mut self,
        quantizer: &Quantizer,
        queries: impl Iterator<Item = &'q [T]>,
        rows: &PackedRows,
    ) -> impl Iterator<Item = &[f32]> {
        self.queries.clear();
        queries.for_each(|query| quantizer.push_query(&T::widen(query), &mut self.queries));
        self.score(rows, rows.count)
    }

    fn score(&mut self, rows: &PackedRows, limit: usize) -> impl Iterator<Item = &[f32]> {
        let Self { queries, sums, scores } = self;
        let kernels = Kernels::get();
        let count = limit.min(rows.count);
        let padded = count.next_multiple_of(PACKED_ROWS);
        sums.resize(queries.affine().len() * padded, 0);
        scores.resize(sums.len(), 0.0);
        let packed = &rows.packed[..padded * queries.stride()];
        kernels.code_packed(queries.as_slice(), queries.stride(), packed, sums);
        let places = scores.chunks_exact_mut(padded.max(1)).zip(sums.chunks_exact(padded.max(1)));
        for (affine, (scores, sums)) in queries.affine().iter().zip(places) {
            kernels.scores_of_sums(sums, affine.bias, affine.scale, &rows.offsets, scores);
        }
        scores.chunks_exact(padded.max(1)).map(move |scores| &scores[..count])
    }
}
