//! Calibration: the share of the exact neighbors of the queries that an index finds, at a ladder of efforts.
//!
//! Each effort takes one traversal per query, which answers all k. Efforts rise by a factor of √2, large ones by 2,
//! until for every k the recall is nearly 1 or no longer rises.

use super::ground_truth::ground_truth_of;
use super::hits::hits_of;
use crate::base::interrupt::Interrupt;
use crate::base::parallel;
use crate::build::Progress;
use crate::dataset::{EmbeddingsView, Neighbors, Rows};
use crate::index::{Index, QuerySource, RecallCurve, RecallCurves, RecallPoint};
use crate::search::{Hit, Interrupted, Plan, Searcher};

/// The default k of a calibration. They are dense enough to interpolate between, and cost no more traversals than the
/// largest k alone.
pub const DEFAULT_K: [usize; 13] = [1, 2, 5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 500];

/// The k of a calibration that only sets the default effort. Comparing answers takes most of the time, so they are few.
pub const DEFAULT_EFFORT_K: [usize; 5] = [10, 50, 100, 200, 500];

/// The most queries used; a larger set is sampled evenly. The standard error of the recall is then below 0.002.
const MAX_QUERIES: usize = 10_000;
/// Above this effort the ladder rises by a factor of 2: these efforts take most of the time, and recall is nearly flat.
const LARGE_EF_SEARCH: usize = 640;
/// The largest effort measured is the larger of this,
const MAX_EF_SEARCH: usize = 4_000;
/// and this multiple of the largest k.
const MAX_EF_SEARCH_PER_K: usize = 4;
/// A curve ends at this recall,
const ENOUGH: f64 = 0.999;
/// or once multiplying the effort by this factor
const IN_VAIN: usize = 4;
/// raised the recall by less than this.
const LEAST_GAIN: f64 = 0.001;
/// Queries per thread whose exact neighbors are computed between two checks for cancellation.
const QUERIES_PER_THREAD: usize = 64;

/// Why an index was not calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The queries have another dimension than the index.
    #[error("queries: expected {expected} dimensions as in the index, found {found}")]
    Dimension {
        /// Dimension of the index.
        expected: usize,
        /// Dimension of the queries.
        found: usize,
    },
    /// No k or no queries were specified.
    #[error("{0}: expected at least one")]
    Nothing(&'static str),
    /// A k of 0, which no search can have.
    #[error("k: expected at least 1, found 0")]
    ZeroK,
    /// The calibration was cancelled.
    #[error("the calibration was cancelled; nothing was written")]
    Cancelled,
}

impl From<Interrupted> for CalibrateError {
    fn from(_: Interrupted) -> Self {
        CalibrateError::Cancelled
    }
}

/// Measures the recall of `index` on `queries`, `[n × dim]` finite, for every k of `ks`, on the current rayon pool. A k
/// above the number of videos counts as that number.
///
/// # Errors
/// [`CalibrateError::Cancelled`], or the other variants for invalid arguments.
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

/// Returns the queries, `[n × dim]`; at most [`MAX_QUERIES`] of them, evenly spaced.
fn sample(queries: EmbeddingsView<'_>) -> Vec<f32> {
    let count = queries.len().min(MAX_QUERIES);
    let (mut sample, mut query) = (Vec::with_capacity(count * queries.dim()), Vec::new());
    for position in 0..count {
        queries.copy_row(position * queries.len() / count, &mut query);
        sample.extend_from_slice(&query);
    }
    sample
}

/// Returns the exact neighbors of each query.
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

/// Returns the efforts to measure, ascending, at most the number of videos. At `scanned_from` a scan of all codes
/// replaces the traversal and recall jumps, so the efforts on both sides of it are included.
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

/// The curve of one k during the calibration.
struct Curve {
    k: usize,
    /// Number of exact neighbors of all queries.
    total: u64,
    points: Vec<RecallPoint>,
    /// The last effort with the number of neighbors it found, even if it did not become a point.
    last: Option<(usize, u64)>,
}

impl Curve {
    fn new(k: usize, queries: usize) -> Self {
        Self { k, total: (k * queries) as u64, points: Vec::new(), last: None }
    }

    /// Adds a point, unless the effort found no more than a smaller one did, which is rare and due to chance.
    fn add(&mut self, ef_search: usize, found: u64) {
        self.last = Some((ef_search, found));
        if self.points.last().is_none_or(|last| found > last.found) {
            self.points.push(RecallPoint { ef_search: ef_search as u32, found });
        }
    }

    /// Returns whether the curve is complete: recall is nearly 1, or no longer rises.
    fn is_done(&self) -> bool {
        let share = |found: u64| found as f64 / self.total as f64;
        let Some((last_ef_search, last)) = self.last else { return false };
        let long_ago =
            self.points.iter().rev().find(|point| IN_VAIN * point.ef_search as usize <= last_ef_search);
        let in_vain = || long_ago.is_some_and(|before| share(last) < share(before.found) + LEAST_GAIN);
        // An effort far below k is widened to about k, so such efforts do not show whether recall still rises.
        share(last) >= ENOUGH || last_ef_search > self.k && in_vain()
    }
}

/// The searches of one calibration, whose hits are compared with the exact neighbors.
struct Trial<'a> {
    index: &'a Index,
    /// `[n × dim]`.
    queries: &'a [f32],
    truth: &'a Neighbors,
    searcher: Searcher,
    progress: &'a dyn Progress,
}

impl Trial<'_> {
    /// Returns the number of exact neighbors found over all queries, for each k.
    fn found(&self, ks: &[usize], ef_search: usize) -> Result<Vec<u64>, Interrupted> {
        if ks.is_empty() {
            self.progress.advance(self.truth.rows as u64);
            return Ok(Vec::new());
        }
        let found = parallel::map_chunks(self.queries, self.index.dim(), 1, |query, vector| {
            self.found_by(query, vector, ks, ef_search)
        });
        found.into_iter().try_fold(vec![0; ks.len()], |mut sum, found| {
            sum.iter_mut().zip(found?).for_each(|(sum, found)| *sum += found);
            Ok(sum)
        })
    }

    /// Returns the number of exact neighbors found for one query, for each k.
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
            hits_of(self.index, vector, hits, &self.truth.row(query)[..*k]) as u64
        };
        Ok(hits.iter().zip(ks).map(count).collect())
    }
}
