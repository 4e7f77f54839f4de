//! Recall against effort: what a generation finds of the true neighbors of users, at every effort.
//!
//! Every effort is one traversal per query, from which all k are answered. Efforts rise by a factor of √2,
//! the large ones by 2, until every k is found, or more effort finds nothing more.

use rayon::prelude::*;

use super::ground_truth::ground_truth_of;
use crate::base::interrupt::Interrupt;
use crate::build::Progress;
use crate::dataset::{EmbeddingsView, Neighbors, Rows};
use crate::index::{Index, QuerySource, RecallCurve, RecallCurves, RecallPoint};
use crate::search::{Hit, Interrupted, Plan, Searcher};

/// The k that are calibrated unless told otherwise: close enough for those in between, and no traversal more
/// than the largest alone takes.
pub const DEFAULT_K: [usize; 13] = [1, 2, 5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 500];

/// More queries are thinned out to so many: the standard error of their recall is then below 0.002.
const MAX_QUERIES: usize = 10_000;
/// From here on efforts rise faster: they take most of the time, and recall has become nearly flat.
const LARGE_EF_SEARCH: usize = 640;
/// The largest effort measured, or this many times the largest k.
const MAX_EF_SEARCH: usize = 4_000;
const MAX_EF_SEARCH_PER_K: usize = 4;
/// A curve ends once so much is found,
const ENOUGH: f64 = 0.999;
/// or once so many times the effort found less than so much more.
const IN_VAIN: usize = 4;
const LEAST_GAIN: f64 = 0.001;
/// Queries whose exact neighbors are looked for between two looks at whether to go on, per thread.
const QUERIES_PER_THREAD: usize = 64;

/// Why an index was not calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The queries belong to another index.
    #[error("queries: expected {expected} dimensions as in the index, found {found}")]
    Dimension {
        /// Of the index.
        expected: usize,
        /// Of the queries.
        found: usize,
    },
    /// There is nothing to do.
    #[error("{0}: expected at least one")]
    Nothing(&'static str),
    /// A k that no search can have.
    #[error("k: expected at least 1, found 0")]
    ZeroK,
    /// Somebody asked to stop.
    #[error("the calibration was cancelled; nothing was written")]
    Cancelled,
}

impl From<Interrupted> for CalibrateError {
    fn from(_: Interrupted) -> Self {
        CalibrateError::Cancelled
    }
}

/// Measures what recall `index` reaches on `queries`, `[n × dim]` finite, for every k of `ks`, on the
/// current rayon pool. A k that exceeds the index counts as its number of videos.
///
/// # Errors
/// [`CalibrateError::Cancelled`], or what does not belong together.
pub fn calibrate(
    index: &Index,
    queries: EmbeddingsView<'_>,
    source: QuerySource,
    ks: &[usize],
    progress: &dyn Progress,
) -> Result<RecallCurves, CalibrateError> {
    let (expected, found) = (index.dim(), queries.dim());
    if found != expected {
        return Err(CalibrateError::Dimension { expected, found });
    }
    let mut ks: Vec<usize> = ks.iter().map(|k| *k.min(&index.len())).collect();
    ks.sort_unstable();
    ks.dedup();
    let (Some(least), Some(most)) = (ks.first().copied(), ks.last().copied()) else {
        return Err(CalibrateError::Nothing("k"));
    };
    if queries.is_empty() {
        return Err(CalibrateError::Nothing("queries"));
    }
    if least == 0 {
        return Err(CalibrateError::ZeroK);
    }
    let queries = &sample(queries);
    let count = queries.len() / index.dim();
    let truth = &exact(index, queries, most, progress)?;
    let mut curves: Vec<Curve> = ks.iter().map(|k| Curve::new(*k, count)).collect();
    let scanned_from = index.codes().map(|codes| Plan::scanned_from(codes.rows.len()));
    let efforts = efforts(most, index.len(), scanned_from);
    progress.begin("measuring recall", (efforts.len() * count) as u64);
    let trial = Trial { index, queries, truth, searcher: Searcher::default(), progress };
    for ef_search in efforts {
        let mut open: Vec<&mut Curve> = curves.iter_mut().filter(|curve| !curve.is_done()).collect();
        let ks: Vec<usize> = open.iter().map(|curve| curve.k).collect();
        let found = trial.found(&ks, ef_search)?;
        open.iter_mut().zip(found).for_each(|(curve, found)| curve.add(ef_search, found));
    }
    let curves = curves.into_iter().map(|curve| RecallCurve { k: curve.k as u32, points: curve.points });
    Ok(RecallCurves { source, queries: count as u32, curves: curves.collect() })
}

/// The queries, `[n × dim]`, evenly spaced where there are too many.
fn sample(queries: EmbeddingsView<'_>) -> Vec<f32> {
    let count = queries.len().min(MAX_QUERIES);
    let (mut sample, mut query) = (Vec::with_capacity(count * queries.dim()), Vec::new());
    for position in 0..count {
        queries.copy_row(position * queries.len() / count, &mut query);
        sample.extend_from_slice(&query);
    }
    sample
}

/// The true neighbors of each query.
fn exact(
    index: &Index,
    queries: &[f32],
    k: usize,
    progress: &dyn Progress,
) -> Result<Neighbors, CalibrateError> {
    let dim = index.dim();
    let mut truth = Neighbors { rows: 0, k, data: Vec::new() };
    progress.begin("finding exact answers", (queries.len() / dim) as u64);
    for some in queries.chunks(QUERIES_PER_THREAD * rayon::current_num_threads() * dim) {
        if progress.is_cancelled() {
            return Err(CalibrateError::Cancelled);
        }
        let some = EmbeddingsView::F32(Rows::contiguous(some, dim));
        let found = ground_truth_of(index, some, k, |queries| progress.advance(queries as u64));
        truth.rows += found.rows;
        truth.data.extend(found.data);
    }
    Ok(truth)
}

/// The efforts to measure, ascending, no more than there are videos. Where a scan takes the place of
/// traversal recall jumps: both sides of that are measured.
fn efforts(largest_k: usize, videos: usize, scanned_from: Option<usize>) -> Vec<usize> {
    let last = MAX_EF_SEARCH.max(MAX_EF_SEARCH_PER_K * largest_k).min(videos);
    let rung = |step: usize| f64::powf(2.0, step as f64 / 2.0) as usize;
    let ladder = (0..).map(rung).take_while(|ef_search| *ef_search < last).enumerate();
    let mut efforts: Vec<usize> = ladder
        .filter(|(step, ef_search)| *ef_search <= LARGE_EF_SEARCH || step % 2 == 0)
        .map(|(_, ef_search)| ef_search)
        .collect();
    efforts.push(last);
    let sides = scanned_from.into_iter().flat_map(|ef_search| [ef_search.saturating_sub(1), ef_search]);
    efforts.extend(sides.filter(|ef_search| (1..last).contains(ef_search)));
    efforts.sort_unstable();
    efforts.dedup();
    efforts
}

/// The curve of one k, as far as it was measured.
struct Curve {
    k: usize,
    /// True neighbors in all.
    total: u64,
    points: Vec<RecallPoint>,
    /// The last effort and what it found, whether it became a point or not.
    last: Option<(usize, u64)>,
}

impl Curve {
    fn new(k: usize, queries: usize) -> Self {
        Self { k, total: (k * queries) as u64, points: Vec::new(), last: None }
    }

    /// More effort rarely finds less, and then by chance: such a point is left out.
    fn add(&mut self, ef_search: usize, found: u64) {
        self.last = Some((ef_search, found));
        if self.points.last().is_none_or(|last| found > last.found) {
            self.points.push(RecallPoint { ef_search: ef_search as u32, found });
        }
    }

    /// Whether more effort is not worth it.
    fn is_done(&self) -> bool {
        let share = |found: u64| found as f64 / self.total as f64;
        let Some((last_ef_search, last)) = self.last else { return false };
        let long_ago =
            self.points.iter().rev().find(|point| IN_VAIN * point.ef_search as usize <= last_ef_search);
        let in_vain = || long_ago.is_some_and(|before| share(last) < share(before.found) + LEAST_GAIN);
        // Efforts far below k are all widened to about the same.
        share(last) >= ENOUGH || last_ef_search > self.k && in_vain()
    }
}

/// Searches that are compared with the truth.
struct Trial<'a> {
    index: &'a Index,
    /// `[n × dim]`.
    queries: &'a [f32],
    truth: &'a Neighbors,
    searcher: Searcher,
    progress: &'a dyn Progress,
}

impl Trial<'_> {
    /// How many of the true neighbors of all queries are found, for each k.
    fn found(&self, ks: &[usize], ef_search: usize) -> Result<Vec<u64>, Interrupted> {
        if ks.is_empty() {
            self.progress.advance(self.truth.rows as u64);
            return Ok(Vec::new());
        }
        let queries = self.queries.par_chunks_exact(self.index.dim()).enumerate();
        queries.map(|(query, vector)| self.found_by(query, vector, ks, ef_search)).try_reduce(
            || vec![0; ks.len()],
            |mut sum, found| {
                sum.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
                Ok(sum)
            },
        )
    }

    fn found_by(
        &self,
        query: usize,
        vector: &[f32],
        ks: &[usize],
        ef_search: usize,
    ) -> Result<Vec<u64>, Interrupted> {
        let mut is_cancelled = || self.progress.is_cancelled();
        let mut interrupt = Interrupt::when(&mut is_cancelled);
        let hits = self.searcher.search_each(self.index, vector, ks, ef_search, &mut interrupt)?;
        self.progress.advance(1);
        let count = |(hits, k): (&Vec<Hit>, &usize)| {
            let exact = &self.truth.row(query)[..*k];
            hits.iter().filter(|hit| exact.contains(&hit.node.0)).count() as u64
        };
        Ok(hits.iter().zip(ks).map(count).collect())
    }
}
