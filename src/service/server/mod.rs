//! Connections: accept, serve, limit, close, drain.
//!
//! What flows in: listeners, or streams that are connected. What flows out: HTTP/1 and HTTP/2 requests for a router, each
//! with its caller and the memory of its connection. The server owns the tasks of its connections, so draining is
//! bounded: connections that do not end in time are aborted. Does not know the services.
//!
//! | file | duty |
//! |---|---|
//! | `address_list.rs` | lists of addresses that clients send as `:authority`, in the frames of HTTP/2 |
//! | `admitted.rs`     | how many connections there are, in total and per peer |
//! | `connection.rs`   | one connection, from its first byte to its end |
//! | `counted.rs`      | how many bytes a connection reads |
//! | `executor.rs`     | the tasks of the calls of HTTP/2 |
//! | `header_block.rs` | the same lists, in one header block |
//! | `reading.rs`      | a stream that is read in a way of its own |

mod address_list;
mod admitted;
mod connection;
mod counted;
mod executor;
mod header_block;
mod reading;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::admitted::Admitted;
use self::connection::Context;
use self::executor::CallExecutor;
use super::access::Access;
use super::bounds::{ServerMemory, Stall};
use super::caller::Caller;
use super::listeners::Listeners;
use super::metrics::ConnectionMetrics;
use super::options::ConnectionOptions;
use super::proto::retrieval_server::Retrieval;
use super::routes::Routes;

/// Interval of HTTP/2 keep-alive pings.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A connection that does not answer a ping within this time is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum size of the headers of a request, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Flow-control window per stream for requests. Most requests fit; a connection buffers no more than its own window.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Flow-control window per connection for requests.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of the answers of one stream that wait for the socket.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Bytes that a connection of HTTP/1 buffers.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;
/// Streams that the client reset before they were served, as a multiple of the streams that may be open. A client
/// resets every call whose deadline passes, and all of them at once if the server is late.
const RESET_STREAMS: usize = 4;
/// Pause after an accept failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of one server.
pub(super) struct Connections<R> {
    builder: Builder<CallExecutor>,
    context: Arc<Context<R>>,
    admitted: Arc<Admitted>,
    metrics: ConnectionMetrics,
    tasks: JoinSet<()>,
}

impl<R: Retrieval> Connections<R> {
    /// Creates the set of connections. `routes` answer their requests; they close when `draining` turns true.
    pub(super) fn new(
        routes: Arc<Routes<R>>,
        draining: watch::Receiver<bool>,
        options: ConnectionOptions,
        memory: Arc<ServerMemory>,
        metrics: ConnectionMetrics,
    ) -> Self {
        let stall = Stall { timeout: options.stall_timeout, count: metrics.stalled.clone() };
        let mut builder = Builder::new(CallExecutor::new(stall.clone()));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(options.handshake_timeout)
            .max_buf_size(HTTP1_BUFFER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(options.max_streams)
            .max_pending_accept_reset_streams(RESET_STREAMS * options.max_streams as usize)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_header_list_size(MAX_HEADER_BYTES);
        metrics.most.set(i64::try_from(options.max_connections).unwrap_or(i64::MAX));
        let admitted = Admitted::new(options.max_connections, options.max_connections_per_peer);
        let context =
            Arc::new(Context { routes, draining, options, memory, stall, closed: metrics.closed.clone() });
        Self { builder, context, admitted, metrics, tasks: JoinSet::new() }
    }

    /// Accepts connections until `shutdown` completes, then closes the listeners.
    pub(super) async fn accept_until(
        &mut self,
        mut listeners: Listeners,
        access: &Access,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                accepted = listeners.accept() => match accepted {
                    Ok((socket, peer, port)) => {
                        // Answers are written whole, so delaying the last packet (Nagle's algorithm) would only add
                        // latency.
                        let _ = socket.set_nodelay(true);
                        self.start(access.stream(socket), Caller::of_connection(peer, port));
                        // A connection that lost its place closes its file before the next is opened.
                        tokio::task::yield_now().await;
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// Serves a stream on a task of its own, or closes it if there are too many.
    pub(super) fn start<S>(&mut self, stream: S, caller: Caller)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Removes the tasks that have ended.
        while self.tasks.try_join_next().is_some() {}
        match self.admitted.admit(caller.peer, self.metrics.open.clone()) {
            Ok(place) => {
                let context = Arc::clone(&self.context);
                self.tasks.spawn(connection::serve(context, self.builder.clone(), stream, caller, place));
            }
            Err(reason) => self.metrics.refused(reason.name()),
        }
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
