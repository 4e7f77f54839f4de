//! Work and memory in flight, and what is refused for it.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::clients::ClientMetrics;
use super::families::{CauseLabels, SECONDS, register};
use crate::service::caller::Client;

/// The metrics of work and memory in flight.
#[derive(Clone, Debug)]
pub(crate) struct LoadMetrics {
    /// Searches queued or computing.
    pub(crate) in_flight: Gauge,
    /// Batches of writes admitted and not yet answered.
    pub(crate) writes_in_flight: Gauge,
    /// Searches by client.
    pub(crate) clients: ClientMetrics,
    refused_searches: Family<CauseLabels, Counter>,
    admitted_cost: Counter<f64, AtomicU64>,
    queue_seconds: Histogram,
    bytes_in_flight: Gauge,
    refused_for_memory: Family<CauseLabels, Counter>,
}

impl LoadMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            in_flight: register(registry, "in_flight", "Searches queued or computing", Gauge::default()),
            writes_in_flight: register(
                registry,
                "writes_in_flight",
                "Batches of writes in flight to the disk",
                Gauge::default(),
            ),
            clients: ClientMetrics::new(registry),
            refused_searches: register(
                registry,
                "refused_searches",
                "Searches refused before they were computed, by reason",
                Family::default(),
            ),
            admitted_cost: register(
                registry,
                "admitted_cost_seconds",
                "Expected cost of the admitted searches, in seconds of one thread",
                Counter::default(),
            ),
            queue_seconds: register(
                registry,
                "queue_seconds",
                "Seconds that searches waited for the compute pool",
                Histogram::new(SECONDS),
            ),
            bytes_in_flight: register(
                registry,
                "bytes_in_flight",
                "Memory of the requests and answers in flight, in bytes",
                Gauge::default(),
            ),
            refused_for_memory: register(
                registry,
                "refused_for_memory",
                "Times that a connection, or all of them together, had no memory left for a request or an answer",
                Family::default(),
            ),
        }
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self) {
        self.clients.set_example();
        self.refused_search(&Client::Key("ranking".into()), "deadline");
        self.refused_for_memory("server").inc();
    }

    /// Counts a search that is refused before it is computed.
    pub(crate) fn refused_search(&self, client: &Client, reason: &'static str) {
        self.clients.refused(client, reason);
        self.refused_searches.get_or_create(&CauseLabels { reason }).inc();
    }

    /// Counts a search that is queued, with its expected cost in nanoseconds.
    pub(crate) fn admitted_cost(&self, nanos: u64) {
        self.admitted_cost.inc_by(nanos as f64 / 1e9);
    }

    /// Records how long a search waited.
    pub(crate) fn queued(&self, waited: Duration) {
        self.queue_seconds.observe(waited.as_secs_f64());
    }

    /// The counter of the refusals for lack of memory: of a `connection`, or of the whole `server`.
    pub(crate) fn refused_for_memory(&self, reason: &'static str) -> Counter {
        self.refused_for_memory.get_or_create(&CauseLabels { reason }).clone()
    }

    /// Updates the memory of requests and answers in flight.
    pub(crate) fn memory(&self, bytes: usize) {
        self.bytes_in_flight.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
