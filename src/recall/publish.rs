//! Calibration of a finished build before it is published.

use super::calibrate::{CalibrateError, DEFAULT_K, calibrate};
use crate::build::{BuildError, Progress};
use crate::index::{QuerySource, RecallCurves, StagedIndex};

/// Measures the recall of a finished build on its held-out users, on `threads` threads (0 means one per core). The
/// curves are published together with the generation, since a server that answers requests with a target recall must
/// not swap to a generation without a calibration.
///
/// Returns no curves if the build has no held-out users, and no curves with the reason if they cannot be measured.
///
/// # Errors
/// [`BuildError::Cancelled`], or if the staged file cannot be opened or threads cannot be started.
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
