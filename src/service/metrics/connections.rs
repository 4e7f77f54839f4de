//! Connections, and why they are refused and closed.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::{CauseLabels, register};

/// The metrics of connections.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionMetrics {
    pub(crate) open: Gauge,
    /// The limit of open connections.
    pub(crate) most: Gauge,
    refused: Family<CauseLabels, Counter>,
    pub(crate) closed: ClosedConnections,
    /// Answers that were cut because the client did not take them.
    pub(crate) stalled: Counter,
}

impl ConnectionMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            open: register(registry, "connections", "Open connections", Gauge::default()),
            most: register(registry, "max_connections", "Limit of open connections", Gauge::default()),
            refused: register(
                registry,
                "refused_connections",
                "Connections refused because there were too many in total or of their peer, by reason",
                Family::default(),
            ),
            closed: ClosedConnections(register(
                registry,
                "closed_connections",
                "Connections closed, by reason",
                Family::default(),
            )),
            stalled: register(
                registry,
                "stalled_answers",
                "Answers cut because the client did not take them in time",
                Counter::default(),
            ),
        }
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self) {
        self.refused("peer");
        self.closed.count("silent");
    }

    /// Counts a connection that was refused.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&CauseLabels { reason }).inc();
    }
}

/// Counts the connections that were closed, by reason.
#[derive(Clone, Debug)]
pub(crate) struct ClosedConnections(Family<CauseLabels, Counter>);

impl ClosedConnections {
    pub(crate) fn count(&self, reason: &'static str) {
        self.0.get_or_create(&CauseLabels { reason }).inc();
    }
}
