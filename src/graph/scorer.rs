//! A query bound to the rows it is compared with.

use crate::element::Element;
use crate::kernel::Kernels;
use crate::metric::Metric;

/// What ranks nodes for one query: a larger score is better.
pub trait Score {
    /// The number of rows that can be scored.
    fn rows(&self) -> usize;

    /// Scores scattered rows, `out: [rows.len()]`.
    ///
    /// # Panics
    /// If a row is not below [`Self::rows`] or the lengths differ.
    fn score_rows(&self, rows: &[u32], out: &mut [f32]);

    /// Scores one row.
    ///
    /// # Panics
    /// If there is no such row.
    fn score(&self, row: u32) -> f32 {
        let mut score = [0.0];
        self.score_rows(&[row], &mut score);
        score[0]
    }
}

/// Scores rows of codes: good enough to choose among, and a quarter of the bytes.
#[derive(Clone, Copy, Debug)]
pub struct CodeScorer<'a> {
    kernels: &'static Kernels,
    query: &'a [i8],
    codes: &'a [u8],
}

impl<'a> CodeScorer<'a> {
    /// `query`: `[stride]`, `codes`: `[n × stride]` row-major.
    ///
    /// # Panics
    /// If the query is empty or its length does not divide the codes.
    pub fn new(query: &'a [i8], codes: &'a [u8]) -> Self {
        assert!(!query.is_empty() && codes.len().is_multiple_of(query.len()), "dimensions differ");
        Self { kernels: Kernels::get(), query, codes }
    }

    /// Scores `out.len()` consecutive rows from `first` on.
    ///
    /// # Panics
    /// If the rows end before that.
    pub fn score_scan(&self, first: usize, out: &mut [f32]) {
        let len = self.query.len();
        self.kernels.code_scan(self.query, &self.codes[first * len..(first + out.len()) * len], out);
    }
}

impl Score for CodeScorer<'_> {
    fn rows(&self) -> usize {
        self.codes.len() / self.query.len()
    }

    #[inline]
    fn score_rows(&self, rows: &[u32], out: &mut [f32]) {
        self.kernels.code_rows(self.query, self.codes, rows, out);
    }
}

/// Scores rows of `matrix` for one query; a larger score is better for every metric.
///
/// Under cosine both sides must be normalised already: the score is then their inner product.
#[derive(Clone, Copy, Debug)]
pub struct Scorer<'a, T> {
    kernels: &'static Kernels,
    metric: Metric,
    query: &'a [f32],
    matrix: &'a [T],
}

impl<'a, T: Element> Scorer<'a, T> {
    /// `query`: `[dim]`, `matrix`: `[n × dim]` row-major.
    ///
    /// # Panics
    /// If the query is empty or its dimension does not divide the matrix.
    pub fn new(metric: Metric, query: &'a [f32], matrix: &'a [T]) -> Self {
        assert!(!query.is_empty() && matrix.len().is_multiple_of(query.len()), "dimensions differ");
        Self { kernels: Kernels::get(), metric, query, matrix }
    }

    /// Scores `out.len()` consecutive rows from `first` on.
    ///
    /// # Panics
    /// If the rows end before that.
    pub fn score_scan(&self, first: usize, out: &mut [f32]) {
        let dim = self.query.len();
        let block = &self.matrix[first * dim..(first + out.len()) * dim];
        match self.metric {
            Metric::InnerProduct | Metric::Cosine => self.kernels.dot_scan(self.query, block, out),
            Metric::L2 => {
                self.kernels.l2_squared_scan(self.query, block, out);
                out.iter_mut().for_each(|score| *score = -*score);
            }
        }
    }
}

impl<T: Element> Score for Scorer<'_, T> {
    fn rows(&self) -> usize {
        self.matrix.len() / self.query.len()
    }

    #[inline]
    fn score_rows(&self, rows: &[u32], out: &mut [f32]) {
        match self.metric {
            Metric::InnerProduct | Metric::Cosine => {
                self.kernels.dot_rows(self.query, self.matrix, rows, out)
            }
            Metric::L2 => {
                self.kernels.l2_squared_rows(self.query, self.matrix, rows, out);
                out.iter_mut().for_each(|score| *score = -*score);
            }
        }
    }

    #[inline]
    fn score(&self, row: u32) -> f32 {
        let dim = self.query.len();
        let start = row as usize * dim;
        let row = &self.matrix[start..start + dim];
        match self.metric {
            Metric::InnerProduct | Metric::Cosine => self.kernels.dot(self.query, row),
            Metric::L2 => -self.kernels.l2_squared(self.query, row),
        }
    }
}
