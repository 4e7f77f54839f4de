//! A query bound to the rows that it is compared with.

use std::ops::Range;

use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::kernel::{Kernels, prefetch};
use crate::quantize::{Affine, RowCodes};

/// Ranks nodes for one query. A larger score is better.
pub trait Score {
    /// The number of rows that can be scored.
    fn rows(&self) -> usize;

    /// Scores scattered rows. `out: [rows.len()]`.
    ///
    /// # Panics
    /// If a row is not below [`Self::rows`] or the lengths differ.
    fn score_rows(&self, rows: &[u32], out: &mut [f32]);

    /// As [`Self::score_rows`], but rows that score less than `least` may get another score that is less than it.
    fn score_rows_from(&self, rows: &[u32], _least: f32, out: &mut [f32]) {
        self.score_rows(rows, out);
    }

    /// Rows with extreme components, which a traversal should score whatever leads to them: by inner product they are often
    /// the best, and seldom near each other.
    fn extremes(&self) -> Range<u32> {
        0..0
    }

    /// Adds the part of the scores of `out.len()` consecutive rows from `first` on that no embedding has, to estimates from their
    /// embeddings. Returns whether scores have such a part.
    fn add_terms(&self, _first: u32, _out: &mut [f32]) -> bool {
        false
    }

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

/// Also scores consecutive rows.
pub trait Scan: Score {
    /// Scores `out.len()` consecutive rows from `first` on.
    ///
    /// # Panics
    /// If the rows end before that.
    fn score_scan(&self, first: usize, out: &mut [f32]);
}

/// Scores rows of codes, in units of dot products of codes: precise enough to choose candidates, with a quarter of the bytes
/// of `f32`.
#[derive(Clone, Copy, Debug)]
pub struct CodeScorer<'a> {
    kernels: &'static Kernels,
    query: &'a [i8],
    codes: &'a [u8],
    corrections: Option<&'a Corrections<'a>>,
}

impl<'a> CodeScorer<'a> {
    /// `query`: `[stride]`, `codes`: `[n × stride]` row-major.
    ///
    /// # Panics
    /// If the query is empty or its length does not divide the codes.
    pub fn new(query: &'a [i8], codes: &'a [u8]) -> Self {
        assert!(!query.is_empty() && codes.len().is_multiple_of(query.len()), "dimensions differ");
        Self { kernels: Kernels::get(), query, codes, corrections: None }
    }

    /// Adds what dot products of codes lack.
    pub fn corrected(self, corrections: Option<&'a Corrections<'a>>) -> Self {
        Self { corrections, ..self }
    }
}

/// What the dot products of the codes of one query with the rows of an index lack: half of the squared norms of the rows
/// under L2, and the scores of the rows that their codes do not represent.
pub struct Corrections<'a> {
    /// `[n]`, or empty.
    half_norms: &'a [f32],
    per_half_norm: f32,
    /// The first row that is scored in full precision; all after it are, too.
    represented: u32,
    exact: Option<Box<dyn Score + 'a>>,
    affine: Affine,
}

impl std::fmt::Debug for Corrections<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Corrections").field("represented", &self.represented).finish_non_exhaustive()
    }
}

impl<'a> Corrections<'a> {
    /// Returns the corrections for a query whose dot products map to scores by `affine`; `None` if dot products are right as
    /// they are. `exact` scores the rows in full precision.
    pub fn of<S: Score + 'a>(
        codes: &RowCodes<'a>,
        affine: Affine,
        exact: impl FnOnce() -> S,
    ) -> Option<Self> {
        let stride = codes.quantizer.stride();
        let has_unrepresented = codes.represented * stride < codes.rows.len();
        if codes.half_norms.is_empty() && !has_unrepresented {
            return None;
        }
        Some(Self {
            half_norms: codes.half_norms,
            per_half_norm: 2.0 / affine.scale,
            represented: codes.represented as u32,
            exact: has_unrepresented.then(|| Box::new(exact()) as Box<dyn Score>),
            affine,
        })
    }

    /// `out: [rows]`: the dot products of the codes of the rows, replaced by their scores.
    fn correct(&self, rows: impl Iterator<Item = u32>, out: &mut [f32]) {
        for (row, out) in rows.zip(out) {
            if row >= self.represented
                && let Some(exact) = &self.exact
            {
                let dot = (exact.score(row) - self.affine.bias) / self.affine.scale;
                *out = dot.clamp(f32::MIN, f32::MAX);
            } else if let Some(half_norm) = self.half_norms.get(row as usize) {
                *out -= self.per_half_norm * half_norm;
            }
        }
    }
}

impl Scan for CodeScorer<'_> {
    #[inline]
    fn score_scan(&self, first: usize, out: &mut [f32]) {
        let len = self.query.len();
        self.kernels.code_scan(self.query, &self.codes[first * len..(first + out.len()) * len], out);
        if let Some(corrections) = self.corrections {
            corrections.correct(first as u32.., out);
        }
    }
}

impl Score for CodeScorer<'_> {
    fn rows(&self) -> usize {
        self.codes.len() / self.query.len()
    }

    fn extremes(&self) -> Range<u32> {
        match self.corrections {
            // Under L2 they are rarely the nearest rows.
            Some(corrections) if corrections.half_norms.is_empty() => {
                corrections.represented..self.rows() as u32
            }
            _ => 0..0,
        }
    }

    #[inline]
    fn score_rows(&self, rows: &[u32], out: &mut [f32]) {
        match self.corrections {
            None => self.kernels.code_rows(self.query, self.codes, rows, out),
            Some(corrections) => {
                if !corrections.half_norms.is_empty() {
                    let half_norm = |row: &u32| corrections.half_norms.get(*row as usize);
                    rows.iter()
                        .filter_map(half_norm)
                        .for_each(|half_norm| prefetch(std::slice::from_ref(half_norm)));
                }
                self.kernels.code_rows(self.query, self.codes, rows, out);
                corrections.correct(rows.iter().copied(), out);
            }
        }
    }
}

/// Scores rows of `matrix` in full precision. A larger score is better for every metric.
///
/// Under cosine both sides must have norm 1: the score is then their inner product.
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
}

impl<T: Element> Scan for Scorer<'_, T> {
    fn score_scan(&self, first: usize, out: &mut [f32]) {
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

/// One of several queries, with what turns its scores into scores that can be compared with those of the others.
#[derive(Clone, Debug)]
pub struct Weighted<S> {
    /// Scores rows for the query.
    pub scorer: S,
    /// Added to the scaled score.
    pub offset: f32,
    /// The score is multiplied by it.
    pub scale: f32,
}

impl<S> Weighted<S> {
    #[inline]
    fn weigh(&self, score: f32) -> f32 {
        self.offset + self.scale * score
    }
}

/// Scores rows for several queries: the score of a row is the largest `offset + scale · score` over all queries.
#[derive(Clone, Debug)]
pub struct BestOf<S> {
    queries: Vec<Weighted<S>>,
}

/// Rows that are scored for one query and then, while they are in the first-level cache, for the others.
const BEST_OF_ROWS: usize = 64;

impl<S: Score> BestOf<S> {
    /// `queries`: over the same rows.
    ///
    /// # Panics
    /// If there is no query.
    pub fn new(queries: Vec<Weighted<S>>) -> Self {
        assert!(!queries.is_empty(), "expected at least one query, found none");
        Self { queries }
    }

    /// The query for which a row scores best, the first of equals, and the score.
    pub fn best(&self, row: u32) -> (usize, f32) {
        let score = |query: &Weighted<S>| query.weigh(query.scorer.score(row));
        let mut best = (0, score(&self.queries[0]));
        for (at, query) in self.queries.iter().enumerate().skip(1) {
            let score = score(query);
            if score > best.1 {
                best = (at, score);
            }
        }
        best
    }

    /// [`Self::best`] of each of `rows`, replacing the contents of `out`.
    pub fn best_rows(&self, rows: &[u32], out: &mut Vec<(usize, f32)>) {
        out.clear();
        out.resize(rows.len(), (0, f32::NEG_INFINITY));
        let mut scores = [0f32; BEST_OF_ROWS];
        for (rows, out) in rows.chunks(BEST_OF_ROWS).zip(out.chunks_mut(BEST_OF_ROWS)) {
            let scores = &mut scores[..rows.len()];
            for (at, query) in self.queries.iter().enumerate() {
                query.scorer.score_rows(rows, scores);
                for (best, score) in out.iter_mut().zip(&*scores) {
                    let score = query.weigh(*score);
                    if at == 0 || score > best.1 {
                        *best = (at, score);
                    }
                }
            }
        }
    }

    /// `score_some(scorer, first, scores)` fills `scores` for one query with the scores of the rows that belong to
    /// `out[first..]`.
    fn fold(&self, out: &mut [f32], score_some: impl Fn(&S, usize, &mut [f32])) {
        for (chunk, out) in out.chunks_mut(BEST_OF_ROWS).enumerate() {
            let first = chunk * BEST_OF_ROWS;
            let mut scores = [0f32; BEST_OF_ROWS];
            let scores = &mut scores[..out.len()];
            out.fill(f32::NEG_INFINITY);
            for query in &self.queries {
                score_some(&query.scorer, first, scores);
                for (best, score) in out.iter_mut().zip(&*scores) {
                    let score = query.weigh(*score);
                    *best = if score > *best { score } else { *best };
                }
            }
        }
    }
}

impl<S: Score> Score for BestOf<S> {
    fn rows(&self) -> usize {
        self.queries[0].scorer.rows()
    }

    fn extremes(&self) -> Range<u32> {
        self.queries[0].scorer.extremes()
    }

    fn score_rows(&self, rows: &[u32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "expected one score per row");
        self.fold(out, |scorer, first, scores| {
            scorer.score_rows(&rows[first..first + scores.len()], scores);
        });
    }

    /// Bit for bit the score of [`Self::score_rows`].
    fn score(&self, row: u32) -> f32 {
        self.best(row).1
    }
}

impl<S: Scan> Scan for BestOf<S> {
    fn score_scan(&self, first: usize, out: &mut [f32]) {
        self.fold(out, |scorer, at, scores| scorer.score_scan(first + at, scores));
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::quantize::{Codes, Fitted, QueryCodes, fit_tightest};

    const DIM: usize = 40;

    /// By codes, rows with extremes included, scores are nearly those of full precision.
    #[test]
    fn corrected_scores_follow_those_of_full_precision() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for metric in Metric::ALL {
            for extremes in [0, 1, 10] {
                let mut rows: Vec<f32> = (0..500 * DIM).map(|_| random.random_range(-1.0f32..1.0)).collect();
                rows[(500 - extremes) * DIM..].iter_mut().for_each(|value| *value *= 1e4);
                let query: Vec<f32> = (0..DIM).map(|_| random.random_range(-1.0f32..1.0)).collect();
                let Fitted { quantizer, unrepresented } = fit_tightest(Codes::Sq8, &rows, DIM, metric);
                let represented = 500 - unrepresented.len();
                assert!(unrepresented.iter().all(|row| *row as usize >= represented), "{unrepresented:?}");
                assert_eq!(unrepresented.len(), extremes);
                let codes = quantizer.encode_all(&rows);
                let half_norms: Vec<f32> = match metric {
                    Metric::L2 => {
                        codes.chunks(quantizer.stride()).map(|code| quantizer.half_norm(code)).collect()
                    }
                    Metric::InnerProduct | Metric::Cosine => Vec::new(),
                };
                let codes =
                    RowCodes { rows: &codes, half_norms: &half_norms, represented, quantizer: &quantizer };
                let mut query_codes = QueryCodes::default();
                quantizer.encode_query(&query, &mut query_codes);
                let affine = query_codes.affine()[0];
                let exact = Scorer::new(metric, &query, &rows);
                let corrections = Corrections::of(&codes, affine, || exact);
                let scorer =
                    CodeScorer::new(query_codes.as_slice(), codes.rows).corrected(corrections.as_ref());
                let mut scanned = vec![0.0; 500];
                scorer.score_scan(0, &mut scanned);
                for row in 0..500 {
                    let (found, expected) = (affine.apply(scorer.score(row)), exact.score(row));
                    assert_eq!(scorer.score(row), scanned[row as usize]);
                    let slack = if row as usize >= represented { 1e-5 * expected.abs() } else { 0.3 };
                    assert!(
                        (found - expected).abs() < slack,
                        "{metric} {extremes} {row}: {found} {expected}"
                    );
                }
            }
        }
    }
}
