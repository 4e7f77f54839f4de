//! Connections: accept, serve, drain.
//!
//! What flows in: a listener. What flows out: HTTP/1 and HTTP/2 requests for a router, each
//! with its caller. The server owns the tasks of its
//! connections, so draining is bounded: connections that do not end in time are aborted. Does not know the services.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::caller::Caller;

/// Maximum number of open HTTP/2 streams, and so of calls, per connection.
const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// Interval of HTTP/2 keep-alive pings.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A connection that does not answer a ping within this time is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum size of the headers of a request, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Flow-control window per stream. A whole answer fits; the default of 64 KiB costs a large answer extra round trips.
const WINDOW_BYTES: u32 = 1 << 20;
/// Pause after an accept failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of one server.
pub(super) struct Connections {
    router: axum::Router,
    draining: watch::Receiver<bool>,
    builder: Builder<TokioExecutor>,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Creates the set of connections. `router` answers their requests; they close when `draining` turns true.
    pub(super) fn new(router: axum::Router, draining: watch::Receiver<bool>) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(4 * WINDOW_BYTES)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_header_list_size(MAX_HEADER_BYTES);
        Self { router, draining, builder, tasks: JoinSet::new() }
    }

    /// Accepts connections until `shutdown` completes, then closes the listener.
    pub(super) async fn accept_until(&mut self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.start(stream, Caller::at(peer)),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn start(&mut self, stream: TcpStream, caller: Caller) {
        // Answers are written whole, so delaying the last packet (Nagle's algorithm) would only add latency.
        let _ = stream.set_nodelay(true);
        let peer = caller.peer;
        let service = TowerToHyperService::new(self.router.clone().layer(axum::Extension(caller)));
        let connection = self.builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let mut draining = self.draining.clone();
        // Removes the tasks that have ended.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            let mut connection = pin!(connection);
            let drain = async { _ = draining.wait_for(|draining| *draining).await };
            let result = tokio::select! {
                result = &mut connection => result,
                () = drain => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%peer, error, "connection ended");
            }
        });
    }

    /// Waits until every connection is closed.
    pub(super) async fn closed(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Aborts the connections that are still open, and their calls.
    pub(super) async fn abort(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Returns whether an accept failed because of the peer, and not because of this machine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
