//! `grpc.health.v1`: Check and Watch, for each index by name, for the server by "", and for its services by theirs.
//!
//! What flows in: whether each index is ready, and the wish to drain. An index is serving once its generation is
//! mapped, what was written since is replayed, and all of it is warmed and checked; it goes on serving an old one when
//! a new one is refused. It is not serving when what it has is found damaged and there is nothing else, and when the
//! server drains. The server is serving while any of its indexes is, and so is `shortlist.v1.Retrieval`;
//! `shortlist.v1.Catalog` is while all that are serving take writes. `GET /healthz` says the same, and why not.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::proto::catalog_server::SERVICE_NAME as CATALOG;
use super::proto::retrieval_server::SERVICE_NAME as RETRIEVAL;
use crate::engine::{Engine, Readiness};

/// The health of the server and of its indexes.
#[derive(Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
    /// What was reported last, by name; held while it changes.
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    serving: BTreeMap<String, bool>,
    draining: bool,
}

impl Health {
    /// The health of `engine` as it is now.
    pub(super) async fn new(engine: &Engine) -> Self {
        let health = Self { reporter: HealthReporter::new(), told: Arc::default() };
        health.observe(engine).await;
        health
    }

    /// The service that answers with it.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Tells whoever watches what has changed. Nothing does any more once the server drains.
    pub(super) async fn observe(&self, engine: &Engine) {
        let mut told = self.told.lock().await;
        if told.draining {
            return;
        }
        let mut serving = BTreeMap::new();
        let (mut is_any_serving, mut is_any_read_only) = (false, false);
        for name in engine.index_names() {
            let readiness = engine.readiness(&name);
            let is_serving = matches!(readiness, Ok(Readiness::Ready | Readiness::ReadOnly(_)));
            is_any_serving |= is_serving;
            is_any_read_only |= matches!(readiness, Ok(Readiness::ReadOnly(_)));
            serving.insert(name, is_serving);
        }
        let takes_writes = is_any_serving && !is_any_read_only;
        // An index of such a name has it for itself.
        for (service, now) in [("", is_any_serving), (RETRIEVAL, is_any_serving), (CATALOG, takes_writes)] {
            serving.entry(service.to_owned()).or_insert(now);
        }
        for (name, now) in &serving {
            if told.serving.get(name) != Some(now) {
                self.set(name, *now).await;
            }
        }
        told.serving = serving;
    }

    /// A line for each index, and whether any of them is serving.
    pub(super) async fn page(&self, engine: &Engine) -> (bool, String) {
        let is_draining = self.told.lock().await.draining;
        let mut is_any_serving = false;
        let mut text = String::new();
        for name in engine.index_names() {
            let word = match engine.readiness(&name) {
                _ if is_draining => "not serving: the server is shutting down".to_owned(),
                Ok(Readiness::Ready) => "serving".to_owned(),
                Ok(Readiness::ReadOnly(problem)) => format!("serving, read-only: {problem}"),
                Ok(Readiness::NotYet(problem)) => format!("not serving: {problem}"),
                Err(error) => format!("not serving: {error}"),
            };
            is_any_serving |= !word.starts_with("not");
            text += &format!("{name}: {word}\n");
        }
        (is_any_serving, text)
    }

    /// Nothing is serving any more; whoever watches is told.
    pub(super) async fn not_serving(&self) {
        let mut told = self.told.lock().await;
        told.draining = true;
        for name in told.serving.keys() {
            self.set(name, false).await;
        }
    }

    /// Ends every watch, after what it was last told.
    pub(super) async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for name in self.told.lock().await.serving.keys() {
            reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, name: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(name, status).await;
    }
}
