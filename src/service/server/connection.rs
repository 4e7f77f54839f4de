//! One connection, from its first byte to its end.
//!
//! What flows in: a stream. What flows out: its requests, until the peer or a limit ends it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::address_list::AddressLists;
use super::admitted::Place;
use super::counted::Counted;
use super::executor::CallExecutor;
use super::reading::Reading;
use crate::service::bounds::{ConnectionMemory, ServerMemory, Stall, Watched};
use crate::service::caller::Caller;
use crate::service::metrics::ClosedConnections;
use crate::service::options::ConnectionOptions;
use crate::service::proto::retrieval_server::Retrieval;
use crate::service::routes::Routes;

/// Bytes of the preface of HTTP/2. No request of HTTP/1 that ends in time is shorter and unanswered.
const PREFACE_BYTES: u64 = 24;
/// A connection without a call is closed this long after it began to close.
const CLOSE_GRACE: Duration = Duration::from_millis(500);
/// Interval at which a connection that closes looks for calls in flight.
const CLOSE_INTERVAL: Duration = Duration::from_millis(50);

/// What all connections of one server share.
pub(super) struct Context<R> {
    pub(super) routes: Arc<Routes<R>>,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) options: ConnectionOptions,
    pub(super) memory: Arc<ServerMemory>,
    pub(super) stall: Stall,
    pub(super) closed: ClosedConnections,
}

/// Serves one stream until it ends.
pub(super) async fn serve<R, S>(
    context: Arc<Context<R>>,
    builder: Builder<CallExecutor>,
    stream: S,
    caller: Caller,
    place: Place,
) where
    R: Retrieval,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = caller.peer;
    let options = context.options;
    let memory = ConnectionMemory::new(&context.memory, place.has_called());
    let read = Arc::<AtomicU64>::default();
    let stream = Reading::new(stream, Counted(Arc::clone(&read)));
    let stream = Reading::new(stream, AddressLists::new());
    let service = service_fn(|request: Request<Incoming>| {
        let (context, caller, memory) = (Arc::clone(&context), caller.clone(), Arc::clone(&memory));
        // A future of some kilobytes, which the connection moves several times.
        Box::pin(async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(memory);
            Ok::<_, Infallible>(context.routes.answer(request).await)
        })
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(Watched::new(connection, context.stall.clone()));
    let mut draining = context.draining.clone();
    let drain = async { _ = draining.wait_for(|draining| *draining).await };
    let silent = async {
        tokio::time::sleep(options.handshake_timeout).await;
        if memory.has_called() || read.load(Ordering::Relaxed) >= PREFACE_BYTES {
            std::future::pending().await
        }
    };
    let closed = tokio::select! {
        ended = &mut connection => {
            match &ended {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(%peer, error, "connection ended"),
                None => tracing::debug!(%peer, "the peer did not take an answer"),
            }
            return context.closed.count(if ended.is_some() { "ended" } else { "stalled" });
        }
        () = silent => return context.closed.count("silent"),
        () = place.evicted() => return context.closed.count("evicted"),
        () = age(options.max_age) => "age",
        () = drain => "drained",
    };
    connection.as_mut().task().graceful_shutdown();
    let grace = async {
        match closed {
            "age" => tokio::time::sleep(options.max_age_grace).await,
            _ => std::future::pending().await,
        }
    };
    // Some peers do not answer when the connection is to close.
    let idle = async {
        tokio::time::sleep(CLOSE_GRACE).await;
        while memory.is_calling() {
            tokio::time::sleep(CLOSE_INTERVAL).await;
        }
    };
    tokio::select! {
        _ = &mut connection => {}
        () = grace => {}
        () = idle => {}
    }
    context.closed.count(closed);
}

/// Waits until a connection is this old; forever if `max_age` is zero.
async fn age(max_age: Duration) {
    if max_age.is_zero() { std::future::pending().await } else { tokio::time::sleep(max_age).await }
}
