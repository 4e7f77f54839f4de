//! `grpc.health.v1`: Check and Watch, for each index by name and for the server by "".
//!
//! What flows in: the names of the indexes and the wish to drain. An index that is open keeps serving
//! its old generation when a new one is refused, so its health only changes when the server drains.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// The health of the server and of its indexes.
pub(super) struct Health {
    reporter: HealthReporter,
    names: Vec<String>,
}

impl Health {
    /// Everything is serving.
    pub(super) async fn new(index_names: Vec<String>) -> Self {
        let mut names = index_names;
        names.push(String::new());
        let health = Self { reporter: HealthReporter::new(), names };
        health.set(ServingStatus::Serving).await;
        health
    }

    /// The service that answers with it.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Nothing is serving any more; whoever watches is told.
    pub(super) async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends every watch, after what it was last told.
    pub(super) async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for name in &self.names {
            reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
