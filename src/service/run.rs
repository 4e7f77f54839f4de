//! Serves until shutdown, then drains.
//!
//! What flows in: the shell and the services of a server, and its listeners. What flows out: how serving ended. Knows no
//! service.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::listeners::Listeners;
use super::options::ServiceOptions;
use super::proto::admin_server::Admin;
use super::proto::catalog_server::Catalog;
use super::proto::retrieval_server::Retrieval;
use super::routes::Routes;
use super::server::Connections;
use super::shell::Shell;

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered.
    Complete,
    /// The drain timeout passed, and the remaining calls were aborted.
    TimedOut,
}

impl Drained {
    /// Its name in the log.
    fn name(self) -> &'static str {
        match self {
            Drained::Complete => "Complete",
            Drained::TimedOut => "TimedOut",
        }
    }
}

/// The services of a server.
pub(crate) struct Services<R, C, A> {
    pub(crate) retrieval: R,
    pub(crate) catalog: C,
    pub(crate) admin: A,
}

/// A server that is ready to serve.
pub(crate) struct Server<R, C, A, D> {
    pub(crate) shell: Arc<Shell>,
    pub(crate) services: Services<R, C, A>,
    /// Its background tasks, which end when it drains.
    pub(crate) background: JoinSet<()>,
    /// Told when it drains.
    pub(crate) drain: watch::Sender<bool>,
    /// Admits no more calls, and completes when those in flight are answered.
    pub(crate) answered: D,
}

impl<R: Retrieval, C: Catalog, A: Admin, D: Future<Output = ()>> Server<R, C, A, D> {
    /// Serves on `listeners` until `shutdown` completes, then drains for at most [`ServiceOptions::drain_timeout`].
    ///
    /// # Errors
    /// If a listener has no address, or the descriptors in this binary cannot be read.
    pub(crate) async fn run(
        self,
        listeners: Listeners,
        options: &ServiceOptions,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<Drained> {
        let Self { shell, services, mut background, drain, answered } = self;
        let address = listeners.address()?;
        let Services { retrieval, catalog, admin } = services;
        let routes = Routes::new(Arc::clone(&shell), retrieval, catalog, admin).map_err(io::Error::other)?;
        background.spawn(shell.access.clone().watch(options.poll_interval));
        let mut connections = Connections::new(
            Arc::new(routes),
            shell.draining.clone(),
            shell.connections,
            Arc::clone(&shell.memory),
            shell.metrics.connections.clone(),
        );
        tracing::info!(%address, "serving");
        connections.accept_until(listeners, &shell.access, shutdown).await;

        tracing::info!(timeout_seconds = options.drain_timeout.as_secs_f64(), "draining");
        background.abort_all();
        shell.health.not_serving().await;
        drain.send_replace(true);
        let answered = async {
            answered.await;
            // Health watches never end by themselves, so the server ends them once all other calls are answered.
            shell.health.end_watches().await;
            connections.closed().await;
        };
        let drained = match tokio::time::timeout(options.drain_timeout, answered).await {
            Ok(()) => Drained::Complete,
            Err(_) => Drained::TimedOut,
        };
        connections.abort().await;
        shell.traces.stop().await;
        tracing::info!(drained = drained.name(), "stopped");
        Ok(drained)
    }
}
