//! The state that all calls of one server share.

use std::sync::Arc;

use tokio::sync::watch;

use super::access::Access;
use super::admission::{Admission, Dispatcher, Quota};
use super::bounds::ServerMemory;
use super::deadline::Deadline;
use super::health::Health;
use super::metrics::{Metrics, Observation};
use super::options::{ConnectionOptions, ServiceLimits};
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
    /// Turns true when the server starts to drain.
    pub(super) draining: watch::Receiver<bool>,
}

impl Shared {
    /// Starts to observe a request for the index of this name. One for an index that is not served is counted under "", as
    /// is a batch that is refused as a whole.
    pub(super) fn observe(&self, method: &'static str, index: &str, deadline: Deadline) -> Observation {
        let index = self.engine.resolve(index).unwrap_or_default();
        Observation::begin(&self.metrics.requests, method, index, deadline)
    }
}
