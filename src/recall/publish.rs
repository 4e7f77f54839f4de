//! A finished build is calibrated before anybody can serve it.

use super::calibrate::{CalibrateError, DEFAULT_K, calibrate};
use crate::build::{BuildError, Progress};
use crate::index::{BuildTimes, IndexStore, Manifest, QuerySource, StagedIndex};

/// Publishes a finished build, with a calibration from the start if the build held users out: a server that
/// is asked for recalls must not swap to a generation that it knows nothing of. What kept it from being calibrated
/// comes with the manifest. Computes on `threads` threads, 0 for one per core.
///
/// # Errors
/// [`BuildError`]; nothing was published then.
pub fn publish_calibrated(
    store: &IndexStore,
    staged: StagedIndex,
    times: BuildTimes,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(Manifest, Option<CalibrateError>), BuildError> {
    let index = staged.open()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let measured = index.held_out_queries().map(|queries| {
        pool.install(|| calibrate(&index, queries, QuerySource::HeldOut, &DEFAULT_K, progress))
    });
    let (curves, problem) = match measured {
        Some(Err(CalibrateError::Cancelled)) => return Err(BuildError::Cancelled),
        Some(Err(problem)) => (None, Some(problem)),
        Some(Ok(curves)) => (Some(curves), None),
        None => (None, None),
    };
    drop(index);
    Ok((store.publish(staged, times, curves)?, problem))
}
