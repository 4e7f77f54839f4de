//! The state of everything around the services of one server: access, bounds, health, metrics, traces.
//!
//! What flows in: the options of a server, and the indexes behind it. What flows out: what every call passes on its way to a
//! service, whichever service it is.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::access::{Access, Denial};
use super::aliases::Aliases;
use super::bounds::ServerMemory;
use super::caller::Caller;
use super::deadline::Deadline;
use super::health::Health;
use super::history::Gauges;
use super::indexes::Indexes;
use super::metrics::{Metrics, Observation, resident_memory};
use super::options::{ConnectionOptions, ServiceLimits, ServiceOptions};
use super::page::Page;
use super::reloaded::Reloads;
use super::traces::{Trace, Traces};

/// The state around the services of one server.
pub(crate) struct Shell {
    /// The indexes that the services serve.
    pub(crate) indexes: Arc<dyn Indexes>,
    /// Names that stand for them.
    pub(crate) aliases: Arc<Aliases>,
    /// Who may do what.
    pub(crate) access: Access,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) limits: ServiceLimits,
    pub(crate) connections: ConnectionOptions,
    /// The memory of requests and answers in flight.
    pub(crate) memory: Arc<ServerMemory>,
    pub(crate) traces: Traces,
    /// Whether calls have a [`Trace`].
    pub(crate) is_following: bool,
    /// The web page, if there is one.
    pub(crate) page: Option<Page>,
    /// Turns true when the server starts to drain.
    pub(crate) draining: watch::Receiver<bool>,
}

impl Shell {
    /// The shell of a server of `indexes`. `own` registers the metrics of its services. `needs_traces`: whether calls have a
    /// [`Trace`] even if none is exported.
    ///
    /// # Errors
    /// If the endpoint of traces is malformed.
    pub(crate) async fn new<M>(
        indexes: Arc<dyn Indexes>,
        options: &ServiceOptions,
        needs_traces: bool,
        draining: watch::Receiver<bool>,
        own: impl FnOnce(&mut Registry) -> M,
    ) -> std::io::Result<(Self, M)> {
        let limits = options.limits;
        let (metrics, own) = Metrics::new(indexes.names(), options.buckets.clone(), own);
        let metrics = Arc::new(metrics);
        let traces = Traces::start(&options.traces).map_err(std::io::Error::other)?;
        let memory = ServerMemory::new(
            limits.max_bytes_in_flight,
            limits.max_connection_bytes,
            metrics.load.refused_for_memory("connection"),
            metrics.load.refused_for_memory("server"),
        );
        let shell = Self {
            health: Health::new(&*indexes, Arc::clone(&options.aliases)).await,
            indexes,
            aliases: Arc::clone(&options.aliases),
            access: options.access.clone(),
            metrics,
            limits,
            connections: options.connections,
            memory,
            is_following: traces.is_on() || needs_traces,
            traces,
            page: options.page.as_ref().map(Page::new),
            draining,
        };
        Ok((shell, own))
    }

    /// Returns the trace that a call belongs to, if it is traced or its caller names one.
    pub(crate) fn trace_of<T>(&self, request: &Request<T>) -> Option<Trace> {
        if self.is_following { request.extensions().get().cloned() } else { None }
    }

    /// Counts and records that a call was refused for what its caller is.
    pub(crate) fn denied(&self, caller: &Caller, method: &'static str, denial: Denial, why: &Status) {
        self.metrics.access.denied(denial);
        self.access.audit().refused(caller, method, why);
    }

    /// How often each file of credentials and settings was read again.
    pub(crate) fn reloads(&self) -> Vec<Reloads> {
        self.access.reloads().into_iter().chain(self.aliases.reloads()).collect()
    }

    /// Makes a point of the last hour of each index, if it is time for one. `recall`: that of an index, and its target.
    pub(crate) fn sample_history(&self, recall: impl Fn(&str) -> Option<(f64, Option<f64>)>) {
        let in_flight = u64::try_from(self.metrics.load.in_flight.get()).unwrap_or_default();
        let gauges = Gauges { in_flight, resident_memory: resident_memory() };
        self.metrics.requests.history.sample(gauges, recall);
    }

    /// Starts to observe a request for the index of this name. One for an index that is not served is counted under "", as
    /// is a batch that is refused as a whole.
    pub(crate) fn observe(&self, method: &'static str, index: &str, deadline: Deadline) -> Observation {
        let index = self.indexes.resolve(index).unwrap_or_default();
        Observation::begin(&self.metrics.requests, method, index, deadline)
    }
}
