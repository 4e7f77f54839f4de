//! Scores of the rows of an index, as they count for results.

use std::ops::Range;

use half::f16;

use crate::base::element::Element;
use crate::dataset::{EmbeddingsView, Rows};
use crate::graph::{FineScorer, Scan, Score, Scorer};
use crate::index::Index;
use crate::quantize::RowCodes;

/// Scores the rows of an index for one query: by codes and fine codes if the index has both, otherwise by its embeddings. A
/// larger score is better.
#[derive(Clone, Debug)]
pub(super) enum RowScorer<'a> {
    F32(Scorer<'a, f32>),
    F16(Scorer<'a, f16>),
    FineF32(FineScorer<'a, Scorer<'a, f32>>),
    FineF16(FineScorer<'a, Scorer<'a, f16>>),
}

/// Runs `$body` with `$scorer` bound to the scorer in a [`RowScorer`].
macro_rules! with_scorer {
    ($row_scorer:expr, $scorer:ident => $body:expr) => {
        match $row_scorer {
            RowScorer::F32($scorer) => $body,
            RowScorer::F16($scorer) => $body,
            RowScorer::FineF32($scorer) => $body,
            RowScorer::FineF16($scorer) => $body,
        }
    };
}

impl<'a> RowScorer<'a> {
    /// `query`: `[dim]`, prepared.
    pub(super) fn new(index: &'a Index, query: &'a [f32]) -> Self {
        let fine = index.fine_codes().zip(index.codes()).and_then(|(fine, codes)| {
            let fine_query = codes.quantizer.fine_query(query)?;
            Some((fine_query, codes, fine))
        });
        let exact = Self::exact(index, query);
        let Some((query, RowCodes { rows, represented, .. }, fine)) = fine else { return exact };
        match exact {
            Self::F32(exact) => Self::FineF32(FineScorer::new(query, rows, fine, represented, exact)),
            Self::F16(exact) => Self::FineF16(FineScorer::new(query, rows, fine, represented, exact)),
            fine => fine,
        }
    }

    /// Scores by the embeddings in any case.
    pub(super) fn exact(index: &'a Index, query: &'a [f32]) -> Self {
        match index.vectors() {
            EmbeddingsView::F32(rows) => Self::F32(embeddings(index, query, rows)),
            EmbeddingsView::F16(rows) => Self::F16(embeddings(index, query, rows)),
        }
    }
}

fn embeddings<'a, T: Element>(index: &Index, query: &'a [f32], rows: Rows<'a, T>) -> Scorer<'a, T> {
    let rows = rows.as_contiguous().expect("the rows of an index are contiguous");
    Scorer::new(index.metadata().metric, query, rows)
}

impl Score for RowScorer<'_> {
    fn rows(&self) -> usize {
        with_scorer!(self, scorer => scorer.rows())
    }

    fn extremes(&self) -> Range<u32> {
        with_scorer!(self, scorer => scorer.extremes())
    }

    #[inline]
    fn score_rows(&self, rows: &[u32], out: &mut [f32]) {
        with_scorer!(self, scorer => scorer.score_rows(rows, out));
    }

    #[inline]
    fn score(&self, row: u32) -> f32 {
        with_scorer!(self, scorer => scorer.score(row))
    }
}

impl Scan for RowScorer<'_> {
    fn score_scan(&self, first: usize, out: &mut [f32]) {
        with_scorer!(self, scorer => scorer.score_scan(first, out));
    }
}
