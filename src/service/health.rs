//! `grpc.health.v1`: Check and Watch, for each index by name, for the server under "", and for its services by name.
//!
//! What flows in: whether each index is ready, and whether the server drains. What flows out: health.
//!
//! An index is `SERVING` once its generation is mapped, the writes since are replayed, and both are warmed and checked.
//! It stays `SERVING` with the old generation when a new one is refused. It is `NOT_SERVING` if its generation is
//! damaged and there is no other, and while the server drains. The server and `shortlist.v1.Retrieval` are `SERVING`
//! while any index is. `shortlist.v1.Catalog` is `SERVING` while, in addition, no serving index is read-only.
//! An alias is `SERVING` while all of its indexes are.
//! `shortlist.v1.Admin` is `SERVING` until the server drains, whatever the indexes are: it tells that the process is alive.
//! `GET /healthz` reports the same as text, with reasons.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::aliases::Aliases;
use super::indexes::Indexes;
use super::proto::admin_server::SERVICE_NAME as ADMIN;
use super::proto::catalog_server::SERVICE_NAME as CATALOG;
use super::proto::retrieval_server::SERVICE_NAME as RETRIEVAL;
use crate::engine::Readiness;

/// The health of the server and of its indexes.
#[derive(Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    aliases: Arc<Aliases>,
    /// The last report. The lock is held while it changes.
    reported: Arc<Mutex<Reported>>,
}

#[derive(Default)]
struct Reported {
    /// Whether it is serving, by the name of the index or service.
    serving: BTreeMap<String, bool>,
    draining: bool,
}

impl Health {
    /// Reports the current health of `indexes`.
    pub(super) async fn new(indexes: &dyn Indexes, aliases: Arc<Aliases>) -> Self {
        let health = Self { reporter: HealthReporter::new(), aliases, reported: Arc::default() };
        health.observe(indexes).await;
        health
    }

    /// Returns the gRPC service that reports this health.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Reports changes to the watchers. Does nothing once the server drains.
    pub(crate) async fn observe(&self, indexes: &dyn Indexes) {
        let mut reported = self.reported.lock().await;
        if reported.draining {
            return;
        }
        let mut serving = BTreeMap::new();
        let (mut is_any_serving, mut is_any_read_only) = (false, false);
        for name in indexes.names() {
            let readiness = indexes.readiness(&name);
            let is_serving = readiness.is_serving();
            is_any_serving |= is_serving;
            is_any_read_only |= matches!(readiness, Readiness::ReadOnly(_));
            serving.insert(name, is_serving);
        }
        for (alias, of_alias) in self.aliases.current().iter() {
            let all = of_alias.iter().all(|index| serving.get(index) == Some(&true));
            // An index of this name takes precedence.
            serving.entry(alias.to_owned()).or_insert(all);
        }
        let takes_writes = is_any_serving && !is_any_read_only;
        // An index with one of these names takes precedence.
        let services =
            [("", is_any_serving), (RETRIEVAL, is_any_serving), (CATALOG, takes_writes), (ADMIN, true)];
        for (service, now) in services {
            serving.entry(service.to_owned()).or_insert(now);
        }
        for (name, now) in &serving {
            if reported.serving.get(name) != Some(now) {
                self.set(name, *now).await;
            }
        }
        let mut reporter = self.reporter.clone();
        for gone in reported.serving.keys().filter(|name| !serving.contains_key(*name)) {
            reporter.clear_service_status(gone).await;
        }
        reported.serving = serving;
    }

    /// Returns whether any index is serving, and the name and the state of each.
    pub(super) async fn page(&self, indexes: &dyn Indexes) -> (bool, Vec<(String, String)>) {
        let is_draining = self.reported.lock().await.draining;
        let mut is_any_serving = false;
        let mut lines = Vec::new();
        for name in indexes.names() {
            let word = match indexes.readiness(&name) {
                _ if is_draining => "not serving: the server is shutting down".to_owned(),
                Readiness::Ready => "serving".to_owned(),
                Readiness::ReadOnly(problem) => format!("serving, read-only: {problem}"),
                Readiness::NotYet(problem) => format!("not serving: {problem}"),
            };
            is_any_serving |= !word.starts_with("not");
            lines.push((name, word));
        }
        (is_any_serving, lines)
    }

    /// Reports that nothing is serving any more, because the server drains.
    pub(super) async fn not_serving(&self) {
        let mut reported = self.reported.lock().await;
        reported.draining = true;
        for name in reported.serving.keys() {
            self.set(name, false).await;
        }
    }

    /// Ends every watch after its last report.
    pub(super) async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for name in self.reported.lock().await.serving.keys() {
            reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, name: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(name, status).await;
    }
}
