//! The best of many rows for many queries, one part of the rows after another.
//!
//! In: queries, and parts of rows with the queries that scan them. Out: the best rows of each query. A part fits into the
//! second-level cache and is scored for all its queries before the next one is loaded, which is many times faster than
//! scanning everything per query.

use super::coded::{PackedRows, TILE, Tile};
use crate::base::element::Element;
use crate::graph::{Candidate, Selection};
use crate::quantize::{Quantizer, QueryCodes};

/// Queries, encoded once for all parts that they scan, with their best rows so far.
pub(super) struct Scan<'a, T> {
    quantizer: &'a Quantizer,
    queries: &'a [&'a [T]],
    codes: QueryCodes,
    /// By query.
    pub(super) best: Vec<Best>,
    k: usize,
    tile: Tile,
    selection: Selection,
}

impl<'a, T: Element> Scan<'a, T> {
    /// Starts a scan for the best `k` rows of each of `queries`, `[dim]`.
    pub(super) fn new(quantizer: &'a Quantizer, queries: &'a [&'a [T]], k: usize) -> Self {
        let mut codes = QueryCodes::default();
        queries.iter().for_each(|query| quantizer.push_query(&T::widen(query), &mut codes));
        let best = queries.iter().map(|_| Best::new(k)).collect();
        Self { quantizer, queries, codes, best, k, tile: Tile::default(), selection: Selection::default() }
    }

    /// Scores the rows of a part for the queries that scan it. `packed`: the rows of `nodes`, packed.
    pub(super) fn part(&mut self, scanning: &[u32], nodes: &[u32], packed: &PackedRows) {
        let Self { quantizer, queries, codes, best, k, tile, selection } = self;
        for scanning in scanning.chunks(TILE) {
            let encoded = scanning.iter().map(|query| (*query as usize, queries[*query as usize]));
            let scores = tile.score_encoded(quantizer, codes, encoded, packed);
            for (query, scores) in scanning.iter().zip(scores) {
                let best = &mut best[*query as usize];
                for at in selection.promising(scores, *k, best.threshold) {
                    best.push(Candidate::new(nodes[*at as usize], scores[*at as usize]));
                }
            }
        }
    }
}

/// The best k of the candidates pushed. Keeps up to 2k and then truncates to k, which costs less than a heap.
pub(super) struct Best {
    k: usize,
    kept: Vec<Candidate>,
    /// A lower bound on the score of the k-th best so far.
    threshold: f32,
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self { k, kept: Vec::with_capacity(2 * k), threshold: f32::NEG_INFINITY }
    }

    pub(super) fn push(&mut self, candidate: Candidate) {
        self.kept.push(candidate);
        if self.kept.len() == 2 * self.k {
            let (_, kth, _) = self.kept.select_nth_unstable(self.k - 1);
            self.threshold = kth.score();
            self.kept.truncate(self.k);
        }
    }

    /// Returns the best, best first.
    pub(super) fn into_sorted(mut self) -> impl Iterator<Item = Candidate> + Clone {
        self.kept.sort_unstable();
        self.kept.truncate(self.k);
        self.kept.into_iter()
    }
}
