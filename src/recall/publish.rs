//! A finished build is calibrated before anybody can serve it.

use super::calibrate::{CalibrateError, DEFAULT_K, calibrate};
use crate::build::{BuildError, Progress};
use crate::index::{QuerySource, RecallCurves, StagedIndex};

/// Measures a finished build on the users that it held out, to be published with what comes of it: a server that is asked
/// for recalls must not swap to a generation that it knows nothing of. Nothing comes of it without such users, or if they
/// cannot be measured with, for the reason that comes instead. Computes on `threads` threads, 0 for one per core.
///
/// # Errors
/// [`BuildError`], if it was cancelled above all.
pub fn calibrate_staged(
    staged: &StagedIndex,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(Option<RecallCurves>, Option<CalibrateError>), BuildError> {
    let index = staged.open()?;
    let Some(queries) = index.held_out_queries() else { return Ok((None, None)) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    match pool.install(|| calibrate(&index, queries, QuerySource::HeldOut, &DEFAULT_K, progress)) {
        Ok(curves) => Ok((Some(curves), None)),
        Err(CalibrateError::Cancelled) => Err(BuildError::Cancelled),
        Err(problem) => Ok((None, Some(problem))),
    }
}
