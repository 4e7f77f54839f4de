//! The state that all calls of one server share.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{Request, Status};

use super::access::{Access, Denial};
use super::admission::{Admission, Dispatcher, Quota};
use super::bounds::ServerMemory;
use super::caller::Caller;
use super::deadline::Deadline;
use super::error::InvalidField;
use super::health::Health;
use super::metrics::{Metrics, Observation};
use super::options::{ConnectionOptions, ServiceLimits};
use super::slow_search::SlowSearches;
use super::status;
use super::traces::{Trace, Traces};
use crate::engine::Engine;

/// The state that all calls of one server share.
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    /// Who may do what.
    pub(super) access: Access,
    /// Admits searches and lookups.
    pub(super) admission: Admission,
    /// Admits batches of writes.
    pub(super) write_admission: Admission,
    /// Gives admitted searches to the compute pool.
    pub(super) dispatcher: Arc<Dispatcher>,
    /// What callers used of their rates.
    pub(super) quota: Quota,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Health,
    pub(super) limits: ServiceLimits,
    pub(super) connections: ConnectionOptions,
    /// The memory of requests and answers in flight.
    pub(super) memory: Arc<ServerMemory>,
    pub(super) traces: Traces,
    pub(super) slow_searches: SlowSearches,
    /// Whether either of them is on: whether calls have a [`Trace`].
    pub(super) is_following: bool,
    /// Turns true when the server starts to drain.
    pub(super) draining: watch::Receiver<bool>,
}

impl Shared {
    /// Returns the trace that a call belongs to, if it is traced or its caller names one.
    pub(super) fn trace_of<T>(&self, request: &Request<T>) -> Option<Trace> {
        if self.is_following { request.extensions().get().cloned() } else { None }
    }

    /// Counts and records that a call was refused for what its caller is.
    pub(super) fn denied(&self, caller: &Caller, method: &'static str, denial: Denial, why: &Status) {
        self.metrics.access.denied(denial);
        self.access.audit().refused(caller, method, why);
    }

    /// Starts to observe a request for the index of this name. One for an index that is not served is counted under "", as
    /// is a batch that is refused as a whole.
    pub(super) fn observe(&self, method: &'static str, index: &str, deadline: Deadline) -> Observation {
        let index = self.engine.resolve(index).unwrap_or_default();
        Observation::begin(&self.metrics.requests, method, index, deadline)
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
