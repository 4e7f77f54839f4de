//! The state that the services of one engine share.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tonic::Status;

use super::admission::{Admission, Dispatcher, Quota, Work};
use super::error::InvalidField;
use super::metrics::EngineMetrics;
use super::shadow::Shadows;
use super::shell::Shell;
use super::slow_search::SlowSearches;
use super::status;
use crate::engine::Engine;

/// The state that the services of one engine share.
pub(super) struct Shared {
    pub(super) shell: Arc<Shell>,
    pub(super) engine: Arc<Engine>,
    pub(super) engine_metrics: Arc<EngineMetrics>,
    /// Admits searches and lookups.
    pub(super) admission: Admission,
    /// Admits batches of writes.
    pub(super) write_admission: Admission,
    /// Gives admitted searches to the compute pool.
    pub(super) dispatcher: Arc<Dispatcher>,
    /// What callers used of their rates.
    pub(super) quota: Quota,
    pub(super) slow_searches: SlowSearches,
    pub(super) shadows: Arc<Shadows>,
    /// When the server started.
    pub(super) started_at: Timestamp,
    /// Held by the work for people, which is not admitted as searches are.
    pub(super) looks: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(
        shell: Arc<Shell>,
        engine: Arc<Engine>,
        engine_metrics: Arc<EngineMetrics>,
        slow_searches: SlowSearches,
        shadows: Arc<Shadows>,
    ) -> Self {
        let (limits, load) = (shell.limits, &shell.metrics.load);
        let spawn = {
            let engine = Arc::clone(&engine);
            Box::new(move |work: Box<dyn FnOnce() + Send>| engine.spawn(work))
        };
        Self {
            admission: Admission::new(Work::Searches, limits.max_in_flight, load.in_flight.clone()),
            write_admission: Admission::new(
                Work::Writes,
                limits.max_concurrent_writes,
                load.writes_in_flight.clone(),
            ),
            dispatcher: Arc::new(Dispatcher::new(engine.threads(), spawn, load.clone())),
            quota: Quota::default(),
            shell,
            engine,
            engine_metrics,
            slow_searches,
            shadows,
            started_at: Timestamp::now(),
            looks: Arc::new(Semaphore::new(2)),
        }
    }
}

/// Checks that the ids of an index are text. `field`: the field of the request that has one, in the request at `path` of the
/// call.
///
/// # Errors
/// INVALID_ARGUMENT if they are numbers, and the errors of an index that cannot be searched.
pub(super) fn check_text_ids(shared: &Shared, index: &str, field: String, path: &str) -> Result<(), Status> {
    match shared.engine.has_text_ids(index) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let problem = "expected ids as numbers, since the ids of the index are numbers, found text";
            Err(status::of(&InvalidField::new(field, problem).into(), path))
        }
        Err(error) => Err(status::of(&error.into(), path)),
    }
}
