//! Calibration of a finished build before it is published.

use super::calibrate::{CalibrateError, DEFAULT_EFFORT_K, DEFAULT_K, calibrate};
use super::guess::guessed_users;
use crate::build::{BuildError, Progress};
use crate::dataset::{EmbeddingsView, Rows};
use crate::index::{Index, QuerySource, RecallCurves, StagedIndex};
use crate::search::SearchParams;

/// Number of guessed users. The standard error of their recall is below 0.01.
const GUESSED: usize = 500;

/// Measures the recall of a staged build as [`calibrate_built`] does, on `threads` threads (0 means one per core). The
/// curves are published together with the generation, since a server that answers requests with a target recall must not
/// swap to a generation without a calibration.
///
/// # Errors
/// [`BuildError::Cancelled`], or if the staged file cannot be opened or threads cannot be started.
pub fn calibrate_staged(
    staged: &StagedIndex,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(Option<RecallCurves>, Option<CalibrateError>), BuildError> {
    let index = staged.open()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| calibrate_built(&index, progress))
}

/// Measures the recall of a finished build on the current rayon pool: on its held-out users, or on guessed ones if there
/// are none.
///
/// Returns no curves if searches without an effort find everything and there are no held-out users, and no curves with
/// the reason if they cannot be measured.
///
/// # Errors
/// [`BuildError::Cancelled`].
pub fn calibrate_built(
    index: &Index,
    progress: &dyn Progress,
) -> Result<(Option<RecallCurves>, Option<CalibrateError>), BuildError> {
    let guessed;
    let (queries, source, ks): (_, _, &[usize]) = match index.held_out_queries() {
        Some(held_out) => (held_out, QuerySource::HeldOut, &DEFAULT_K),
        None if SearchParams::finds_all_by_default(index) => return Ok((None, None)),
        None => {
            guessed = guessed_users(index, GUESSED);
            let users = EmbeddingsView::F32(Rows::contiguous(&guessed, index.dim()));
            (users, QuerySource::Guessed, &DEFAULT_EFFORT_K)
        }
    };
    match calibrate(index, queries, source, ks, progress) {
        Ok(curves) => Ok((Some(curves), None)),
        Err(CalibrateError::Cancelled) => Err(BuildError::Cancelled),
        Err(problem) => Ok((None, Some(problem))),
    }
}
