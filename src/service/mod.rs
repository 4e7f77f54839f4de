//! The gRPC service over the [`Engine`]: `shortlist.v1`, health, reflection and metrics on one port.
//!
//! What flows in: HTTP/2 calls of `shortlist.v1`, `grpc.health.v1` and server reflection, JSON over HTTP for the methods
//! without streams, and `GET /metrics` and `GET /healthz`. What flows out: answers, or canonical gRPC codes with
//! `google.rpc` details. The service does not know graphs or files.
//!
//! ```text
//!  connection ─► access,
//!                deadline ─► retrieval ─► convert ─► admission ─► queue ─► engine pool ─► convert ─► answer
//!  (server)      grpc-timeout             proto to   permit or    fair by  search with    domain to
//!                                         domain     rejection    cost     a budget       proto
//!                 │          lookups of catalog, in the same way
//!                 ├────────► catalog ─► convert ─► admission ─► blocking thread, which waits for the disk
//!                 ├────────► admin         on blocking threads
//!                 ├────────► health        per index, and "" for the server
//!                 └────────► GET /metrics, GET /healthz
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `server/`         | connections: accept, serve, limit, close, drain |
//! | `listeners.rs`    | the ports of the server |
//! | `stream.rs`       | the bytes of a connection, decrypted |
//! | `caller.rs`       | who makes a call, and on which port |
//! | `access/`         | who may do what: credentials, rights, browsers, audit |
//! | `bounds/`         | counts and limits the memory of every call |
//! | `routes.rs`       | the routes of the port |
//! | `json/`           | JSON over HTTP, as calls of gRPC |
//! | `deadline.rs`     | the `grpc-timeout` header |
//! | `undecodable.rs`  | requests that cannot be decoded |
//! | `retrieval.rs`    | `Retrieval`: single searches, batches, streams, explanations |
//! | `catalog.rs`      | `Catalog`: writes and lookups of single videos |
//! | `read.rs`         | one search or lookup, from admission to answer |
//! | `answer.rs`      | answers to searches, encoded by the threads that compute them |
//! | `write.rs`        | one batch of writes, from admission to answer |
//! | `write_stream.rs` | `Catalog.StreamUpsert` |
//! | `admin.rs`        | `Admin` |
//! | `incoming.rs`     | the requests of a stream, a bounded number at a time |
//! | `health.rs`       | `grpc.health.v1` |
//! | `metrics/`        | Prometheus metrics |
//! | `watch.rs`        | polls each index for new publications; updates health and metrics |
//! | `convert/`        | proto ↔ domain, with the paths of invalid fields |
//! | `traces/`         | OpenTelemetry traces of calls |
//! | `slow_search.rs`  | the log of slow searches |
//! | `follow.rs`       | what traces and that log record of one request |
//! | `per_second.rs`   | a number of events per second that pass |
//! | `error.rs`        | why a call fails |
//! | `field.rs`        | the fields of engine errors → paths in the proto |
//! | `status.rs`       | errors → codes and details |
//! | `admission/`      | which calls are computed, in which order, and which are refused |
//! | `shared.rs`       | the state that all calls share |
//! | `options.rs`      | options and limits |
//! | `proto.rs`        | the messages of `clients/rust`, and the generated servers |

mod access;
mod admin;
mod admission;
mod answer;
mod bounds;
mod caller;
mod catalog;
pub(crate) mod convert;
mod deadline;
mod error;
mod field;
mod follow;
mod health;
mod incoming;
mod json;
mod listeners;
mod metrics;
mod options;
mod per_second;
pub mod proto;
mod read;
mod retrieval;
mod routes;
mod server;
mod shared;
mod slow_search;
mod status;
mod stream;
mod traces;
mod undecodable;
mod watch;
mod write;
mod write_stream;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch as watch_channel};
use tokio::task::JoinSet;

use self::admission::{Admission, Dispatcher, Quota, Work};
use self::bounds::ServerMemory;
use self::health::Health;
use self::metrics::Metrics;
use self::routes::Routes;
use self::shared::Shared;
use self::slow_search::SlowSearches;
use self::traces::Traces;
use crate::engine::Engine;

pub use self::access::{
    Access, AccessError, AccessOptions, Audit, Digest, KeyFile, KeyOptions, OwnLimits, Role, RoleLimits,
    TlsOptions, TokenOptions, new_key,
};
#[cfg(feature = "cli")]
pub(crate) use self::convert::plan_from_proto;
#[cfg(feature = "cli")]
pub(crate) use self::json::message_of_proto;
pub use self::listeners::Listeners;
#[cfg(feature = "cli")]
pub(crate) use self::listeners::is_loopback;
pub use self::options::{CallerLimits, ConnectionOptions, ServiceLimits, ServiceOptions};
pub use self::slow_search::SlowSearchOptions;
pub use self::traces::TraceOptions;

/// How long the server waits for the first poll of the engine before it accepts connections.
const FIRST_POLL_WAIT: Duration = Duration::from_millis(20);

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

/// Serves `engine` on `listeners` until `shutdown` completes, then drains: health turns to `NOT_SERVING`, the listeners
/// close, streams end after their requests in flight, and calls in flight are answered, for at most
/// [`ServiceOptions::drain_timeout`].
///
/// # Errors
/// If a listener has no address, the endpoint of traces is malformed, or the descriptors in this binary cannot be read.
pub async fn serve(
    listeners: impl Into<Listeners>,
    engine: Arc<Engine>,
    options: ServiceOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Drained> {
    let listeners = listeners.into();
    let address = listeners.address()?;
    let limits = options.limits;
    let (drain, draining) = watch_channel::channel(false);
    let metrics = Arc::new(Metrics::new(engine.index_names(), options.buckets));
    let traces = Traces::start(&options.traces).map_err(io::Error::other)?;
    let slow_searches = SlowSearches::new(options.slow_searches);
    let shared = Arc::new(Shared {
        engine: Arc::clone(&engine),
        access: options.access.clone(),
        admission: Admission::new(Work::Searches, limits.max_in_flight, metrics.load.in_flight.clone()),
        write_admission: Admission::new(
            Work::Writes,
            limits.max_concurrent_writes,
            metrics.load.writes_in_flight.clone(),
        ),
        dispatcher: Arc::new(Dispatcher::new(
            engine.threads(),
            {
                let engine = Arc::clone(&engine);
                Box::new(move |work| engine.spawn(work))
            },
            metrics.load.clone(),
        )),
        quota: Quota::default(),
        memory: ServerMemory::new(
            limits.max_bytes_in_flight,
            limits.max_connection_bytes,
            metrics.load.refused_for_memory("connection"),
            metrics.load.refused_for_memory("server"),
        ),
        metrics: Arc::clone(&metrics),
        health: Health::new(&engine).await,
        limits,
        connections: options.connections,
        is_following: traces.is_on() || slow_searches.is_on(),
        traces: traces.clone(),
        slow_searches,
        draining: draining.clone(),
    });
    let routes = Arc::new(Routes::new(Arc::clone(&shared)).map_err(io::Error::other)?);

    metrics::observe_indexes(&engine, &metrics.engine, engine.index_names()).await;
    // A JoinSet, so that the poller also ends when this future is dropped.
    let mut poller = JoinSet::new();
    let polled = Arc::new(Semaphore::new(0));
    poller.spawn(watch::run(Arc::clone(&shared), options.poll_interval, Arc::clone(&polled)));
    poller.spawn(options.access.clone().watch(options.poll_interval));
    // If warming is quick, the first connection finds a ready index. Otherwise health reports that it is not ready.
    let indexes = engine.index_names().len() as u32;
    let _ = tokio::time::timeout(FIRST_POLL_WAIT, polled.acquire_many(indexes)).await;
    let mut connections = server::Connections::new(
        routes,
        draining,
        options.connections,
        Arc::clone(&shared.memory),
        metrics.connections.clone(),
    );
    tracing::info!(%address, "serving");
    connections.accept_until(listeners, &options.access, shutdown).await;

    tracing::info!(timeout_seconds = options.drain_timeout.as_secs_f64(), "draining");
    poller.abort_all();
    shared.health.not_serving().await;
    drain.send_replace(true);
    let answered = async {
        shared.admission.close().await;
        shared.write_admission.close().await;
        // Health watches never end by themselves, so the server ends them once all other calls are answered.
        shared.health.end_watches().await;
        connections.closed().await;
    };
    let drained = match tokio::time::timeout(options.drain_timeout, answered).await {
        Ok(()) => Drained::Complete,
        Err(_) => Drained::TimedOut,
    };
    connections.abort().await;
    traces.stop().await;
    tracing::info!(drained = drained.name(), "stopped");
    Ok(drained)
}

/// The text of a `GET /metrics` in which every metric has a value. The reference page of metrics is made from it.
#[doc(hidden)]
pub fn example_scrape() -> String {
    Metrics::example()
}
