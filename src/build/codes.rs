//! Which codes the rows of a build get: the first quantizer that loses little, or none.
//!
//! In: rows, and a sample of the queries to expect. Out: a quantizer, and whether searches may use it. Codes cannot
//! represent all data: where values span many orders of magnitude, or rows that differ by less than a level lie far
//! apart, they confuse rows that full precision tells apart. What they lose is measured before anything is built.

use std::ops::Range;

use super::params::BuildParams;
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::dataset::EmbeddingsView;
use crate::graph::{CodeScorer, Corrections, Scan, Score, Scorer, Selection, rescored};
use crate::index::CodeCheck;
use crate::quantize::{Codes, Fitted, QueryCodes, RowCodes, fit};

/// Hits per query of the comparison. The rescoring margin is wide for few hits and narrow for many.
const KS: [usize; 2] = [10, 100];
/// Number of queries of each kind in the comparison: rows, means of [`MIXED`] rows (like users with several interests), and
/// training queries.
const QUERIES: usize = 24;
const MIXED: usize = 3;
/// Maximum number of rows that are compared: runs of rows, spread evenly.
const MAX_COMPARED: usize = 1 << 17;
const RUNS: usize = 64;
/// If codes find a smaller share of the exact hits, build and searches compare in full precision.
const LEAST_RECALL: f64 = 0.99;
/// A row is a hit if it scores at least as the k-th best, less this share of the larger magnitude of the best and the k-th
/// best score.
const TOLERANCE: f32 = 1e-6;

/// The chosen codes of a build.
pub(super) struct Chosen {
    pub(super) fitted: Fitted,
    /// Whether the codes lose little.
    pub(super) is_precise: bool,
    /// The comparison with full precision; `None` if no codes were asked for.
    pub(super) check: Option<CodeCheck>,
}

/// Chooses the codes of `vectors`, `[n × dim]`: the first quantizer that loses little, else the one that loses least.
pub(super) fn choose<T: Element>(
    vectors: &[T],
    dim: usize,
    users: Option<EmbeddingsView<'_>>,
    params: &BuildParams,
) -> Chosen {
    let wanted = if params.codes == Codes::None { Codes::Sq8 } else { params.codes };
    let comparison = Comparison::new(vectors, dim, users, params.metric);
    let mut best: Option<(f64, Fitted)> = None;
    for fitted in fit(wanted, vectors, dim, params.metric) {
        let recall = comparison.recall(&fitted);
        if best.as_ref().is_none_or(|(other, _)| recall > *other) {
            best = Some((recall, fitted));
        }
        if recall >= LEAST_RECALL {
            break;
        }
    }
    let (recall, fitted) = best.expect("there is a quantizer that represents every row");
    let queries = comparison.queries.len() as u32;
    Chosen {
        fitted,
        is_precise: recall >= LEAST_RECALL,
        check: (params.codes != Codes::None).then_some(CodeCheck { codes: params.codes, queries, recall }),
    }
}

/// Queries, the rows that they are compared with, and the exact scores of the best.
struct Comparison<'a, T> {
    vectors: &'a [T],
    dim: usize,
    metric: Metric,
    /// Ranges of the compared rows.
    compared: Vec<Range<usize>>,
    queries: Vec<Vec<f32>>,
    /// By query and k: the score from which on a row is a hit, and how many hits there are.
    hits: Vec<[(f32, usize); KS.len()]>,
}

impl<'a, T: Element> Comparison<'a, T> {
    fn new(vectors: &'a [T], dim: usize, users: Option<EmbeddingsView<'_>>, metric: Metric) -> Self {
        let rows = vectors.len() / dim;
        let compared = runs(rows);
        let row = |at: usize| T::widen(&vectors[at * dim..(at + 1) * dim]).into_owned();
        let spread = |of: usize| (0..of).step_by(of.div_ceil(QUERIES).max(1));
        let mixed = |at: usize| {
            let mut mean = vec![0.0; dim];
            for part in 0..MIXED {
                let row = row((at + part * (rows / MIXED + 1)) % rows);
                mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / MIXED as f32);
            }
            mean
        };
        let mut queries: Vec<Vec<f32>> = spread(rows).map(row).chain(spread(rows).map(mixed)).collect();
        if let Some(users) = users {
            for at in spread(users.len()) {
                let mut user = Vec::with_capacity(dim);
                users.copy_row(at, &mut user);
                queries.push(user);
            }
        }
        let mut comparison = Self { vectors, dim, metric, compared, queries, hits: Vec::new() };
        comparison.hits = parallel::map(comparison.queries.len(), 1, |at| {
            let scorer = comparison.scorer(at);
            let best = comparison.best(&scorer, KS[KS.len() - 1]);
            KS.map(|k| {
                let (first, last) = (best[0].1, best[best.len().min(k) - 1].1);
                (last - TOLERANCE * first.abs().max(last.abs()), best.len().min(k))
            })
        });
        comparison
    }

    fn scorer(&self, query: usize) -> Scorer<'_, T> {
        Scorer::new(self.metric, &self.queries[query], self.vectors)
    }

    /// Returns the `count` best of the compared rows, or all if there are fewer, with their scores.
    fn best(&self, scorer: &impl Scan, count: usize) -> Vec<(u32, f32)> {
        let mut selection = Selection::default();
        let mut best: Vec<(u32, f32)> = Vec::new();
        let mut scores = Vec::new();
        for run in &self.compared {
            scores.resize(run.len(), 0.0);
            scorer.score_scan(run.start, &mut scores);
            best.extend(
                selection
                    .best(&scores, count)
                    .iter()
                    .map(|found| (run.start as u32 + found.node(), found.score())),
            );
        }
        best.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        best.truncate(count);
        best
    }

    /// Returns the share of the exact hits that a search by codes finds: for the k for which it is lower.
    fn recall(&self, fitted: &Fitted) -> f64 {
        let Fitted { quantizer, unrepresented } = fitted;
        let stride = quantizer.stride();
        let mut codes = vec![0; self.vectors.len() / self.dim * stride];
        for run in &self.compared {
            let encoded = quantizer.encode_all(&self.vectors[run.start * self.dim..run.end * self.dim]);
            codes[run.start * stride..run.end * stride].copy_from_slice(&encoded);
        }
        let mut half_norms = Vec::new();
        if quantizer.origin().is_some() {
            half_norms.resize(codes.len() / stride, 0.0);
            for row in self.compared.iter().cloned().flatten() {
                half_norms[row] = quantizer.half_norm(&codes[row * stride..(row + 1) * stride]);
            }
        }
        let outside: Vec<u32> = unrepresented.iter().copied().filter(|row| self.is_compared(*row)).collect();
        let found = parallel::map(self.queries.len(), 1, |at| {
            let mut query_codes = QueryCodes::default();
            quantizer.encode_query(&self.queries[at], &mut query_codes);
            let exact = self.scorer(at);
            let row_codes = RowCodes {
                rows: &codes,
                half_norms: &half_norms,
                represented: codes.len() / stride,
                quantizer,
            };
            let affine = query_codes.affine()[0];
            let corrections = Corrections::of(&row_codes, affine, || exact);
            let scorer = CodeScorer::new(query_codes.as_slice(), &codes).corrected(corrections.as_ref());
            let most = rescored(KS[KS.len() - 1]);
            let is_coded = |row: &u32| outside.binary_search(row).is_err();
            let by_codes = self.best(&scorer, most + outside.len()).into_iter().map(|(row, _)| row);
            let by_codes: Vec<f32> =
                by_codes.filter(is_coded).take(most).map(|row| exact.score(row)).collect();
            let others: Vec<f32> = outside.iter().map(|row| exact.score(*row)).collect();
            let found = |at_k: usize| {
                let (least, hits) = self.hits[at][at_k];
                let coded = &by_codes[..by_codes.len().min(rescored(KS[at_k]))];
                coded.iter().chain(&others).filter(|score| **score >= least).count().min(hits)
            };
            std::array::from_fn::<usize, { KS.len() }, _>(found)
        });
        let recall = |at_k: usize| {
            let found: usize = found.iter().map(|found| found[at_k]).sum();
            let all: usize = self.hits.iter().map(|hits| hits[at_k].1).sum();
            found as f64 / all.max(1) as f64
        };
        (0..KS.len()).map(recall).fold(1.0, f64::min)
    }

    fn is_compared(&self, row: u32) -> bool {
        self.compared.iter().any(|run| run.contains(&(row as usize)))
    }
}

/// Returns the ranges of the rows to compare.
fn runs(rows: usize) -> Vec<Range<usize>> {
    let (runs, length) = if rows <= MAX_COMPARED { (1, rows) } else { (RUNS, MAX_COMPARED / RUNS) };
    (0..runs).map(|run| run * rows / runs).map(|start| start..start + length).collect()
}
