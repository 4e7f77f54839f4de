//! The gRPC service: requests of `proto/` in, candidates out, by way of the [`Engine`].
//!
//! What flows in: HTTP/2 calls of `shortlist.v1`, `grpc.health.v1` and reflection, and HTTP/1 `GET
//! /metrics` and `GET /healthz`, all on one port. What flows out: answers, or canonical codes with `google.rpc` details.
//! The service knows nothing of graphs and nothing of files.
//!
//! ```text
//!  connection ─► deadline ─► retrieval ─► convert ─► admission ─► engine pool ─► convert ─► answer
//!  (server)      grpc-timeout             proto to   a permit     search under    domain to
//!                                         domain     or shed      a budget        proto
//!                 ├────────► catalog ─► convert ─► admission ─► blocking thread, which waits for the disk
//!                 ├────────► admin         on blocking threads
//!                 ├────────► health        per index, and "" for the server
//!                 └────────► GET /metrics, GET /healthz
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `server.rs`    | connections: accept, serve, drain |
//! | `deadline.rs`  | the `grpc-timeout` header |
//! | `undecodable.rs` | requests that are no messages of their kind |
//! | `incoming.rs`  | the requests of a stream, a bounded number at a time |
//! | `retrieval.rs` | `Retrieval`: one search, a batch, a stream |
//! | `catalog.rs`   | `Catalog`: batches of writes, and videos one by one |
//! | `write_stream.rs` | `Catalog.StreamUpsert` |
//! | `admin.rs`     | `Admin` |
//! | `health.rs`    | `grpc.health.v1` |
//! | `convert/`     | proto ↔ domain, with the paths of fields that cannot be used |
//! | `status.rs`    | errors → codes and details |
//! | `admission.rs` | how many searches and writes are in flight |
//! | `metrics.rs`   | what Prometheus scrapes |
//! | `watch.rs`     | asks the engine to finish its start and to look for new publications |

mod admin;
mod admission;
mod catalog;
mod convert;
mod deadline;
mod health;
mod incoming;
mod metrics;
mod retrieval;
mod server;
mod status;
mod undecodable;
mod watch;
mod write_stream;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch as watch_channel};
use tokio::task::JoinSet;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

use self::admission::{Admission, Work};
use self::health::Health;
use self::metrics::Metrics;
use self::proto::admin_server::AdminServer;
use self::proto::catalog_server::CatalogServer;
use self::proto::retrieval_server::RetrievalServer;
use crate::engine::Engine;

pub(crate) use self::metrics::code_name;

/// How long connections wait for the first look at the indexes.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// The messages, clients and servers of `shortlist.v1`, generated from `proto/`.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod proto {
    tonic::include_proto!("shortlist.v1");

    /// The descriptors of the package and of what it imports, as reflection answers with them.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// How a server is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// How often the engine looks for new publications.
    pub poll_interval: Duration,
    /// How long calls in flight may go on once the server is to shut down.
    pub drain_timeout: Duration,
    /// What callers may take.
    pub limits: ServiceLimits,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
            limits: ServiceLimits::default(),
        }
    }
}

/// What callers may take, besides what the engine limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Most searches in one batch.
    pub max_batch: usize,
    /// Most searches queued or computing at a time; one more is shed.
    pub max_in_flight: usize,
    /// Largest message read, in bytes, after decompression.
    pub max_message_bytes: usize,
    /// Largest message sent, in bytes.
    pub max_response_bytes: usize,
    /// Most requests of one stream in flight; no more are read from it.
    pub max_stream_window: usize,
    /// Most videos in one batch of writes, and asked for at a time.
    pub max_batch_writes: usize,
    /// Most batches of writes in flight; one more is shed.
    pub max_concurrent_writes: usize,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            max_batch: 256,
            max_in_flight: 1024,
            max_message_bytes: 4 << 20,
            max_response_bytes: 64 << 20,
            max_stream_window: 16,
            max_batch_writes: 1000,
            max_concurrent_writes: 256,
        }
    }
}

/// What every call needs.
struct Shared {
    engine: Arc<Engine>,
    admission: Admission,
    write_admission: Admission,
    metrics: Arc<Metrics>,
    health: Health,
    limits: ServiceLimits,
    /// True once the server is to shut down.
    draining: watch_channel::Receiver<bool>,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered.
    Complete,
    /// The drain timeout passed; what was left was cut off.
    TimedOut,
}

/// Serves `engine` on `listener` until `shutdown` is done, then drains: health turns to `NOT_SERVING`,
/// nothing more is accepted, streams end after what they have in flight, and calls in flight are
/// answered, for at most [`ServiceOptions::drain_timeout`].
///
/// # Errors
/// If the listener has no address or the descriptors in this binary cannot be read.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    options: ServiceOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Drained> {
    let address = listener.local_addr()?;
    let (drain, draining) = watch_channel::channel(false);
    let metrics = Arc::new(Metrics::new(engine.index_names()));
    let admission = Admission::new(Work::Searches, options.limits.max_in_flight, Arc::clone(&metrics));
    let write_admission =
        Admission::new(Work::Writes, options.limits.max_concurrent_writes, Arc::clone(&metrics));
    let health = Health::new(&engine).await;
    let shared = Arc::new(Shared {
        engine: Arc::clone(&engine),
        admission: admission.clone(),
        write_admission: write_admission.clone(),
        metrics: Arc::clone(&metrics),
        health: health.clone(),
        limits: options.limits,
        draining: draining.clone(),
    });
    let router = router(Arc::clone(&shared)).map_err(io::Error::other)?;

    metrics::observe_indexes(&engine, &metrics).await;
    // A set, so that the watcher ends also when this future is dropped.
    let mut watcher = JoinSet::new();
    let (looked, first_look) = oneshot::channel();
    watcher.spawn(watch::run(shared, options.poll_interval, looked));
    // Where warming is quick, whoever connects finds an index that is ready; where not, one that says so.
    let _ = tokio::time::timeout(FIRST_LOOK, first_look).await;
    let mut connections = server::Connections::new(router, draining);
    tracing::info!(%address, "serving");
    connections.accept_until(listener, shutdown).await;

    tracing::info!(drain_timeout = ?options.drain_timeout, "draining");
    watcher.abort_all();
    health.not_serving().await;
    drain.send_replace(true);
    let answered = async {
        admission.idle().await;
        write_admission.idle().await;
        // Health watches never end by themselves, so they end once there is nothing else to wait for.
        health.end_watches().await;
        connections.closed().await;
    };
    let drained = match tokio::time::timeout(options.drain_timeout, answered).await {
        Ok(()) => Drained::Complete,
        Err(_) => Drained::TimedOut,
    };
    connections.abort().await;
    tracing::info!(?drained, "stopped");
    Ok(drained)
}

/// Every service of the port.
fn router(shared: Arc<Shared>) -> Result<axum::Router, tonic_reflection::server::Error> {
    let limits = shared.limits;
    // Requests may come compressed; answers go uncompressed, because clients announce gzip by default
    // and would pay for it in latency.
    let retrieval = RetrievalServer::new(retrieval::RetrievalService::new(Arc::clone(&shared)))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(limits.max_response_bytes);
    let catalog = CatalogServer::new(catalog::CatalogService::new(Arc::clone(&shared)))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(limits.max_response_bytes);
    let admin = AdminServer::new(admin::AdminService::new(Arc::clone(&shared)))
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(limits.max_response_bytes);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(retrieval)
        .add_service(catalog)
        .add_service(admin)
        .add_service(shared.health.service())
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let metrics = Arc::clone(&shared.metrics);
    let scrape = axum::routing::get(move || async move { metrics.scrape() });
    let undecodable = axum::middleware::from_fn_with_state(Arc::clone(&shared), undecodable::refuse);
    let healthz = axum::routing::get(move || healthz(shared));
    Ok(routes
        .into_axum_router()
        .layer(undecodable)
        .route("/metrics", scrape)
        .route("/healthz", healthz)
        .fallback(not_found)
        .layer(axum::middleware::from_fn(deadline::enforce)))
}

/// Whether the server should be asked, in words.
async fn healthz(shared: Arc<Shared>) -> Response {
    let (is_serving, text) = shared.health.page(&shared.engine).await;
    (if is_serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

/// What a path that nobody serves answers, in the language of the caller.
async fn not_found(headers: HeaderMap) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(b"application/grpc") {
        return tonic::Status::unimplemented("no such service").into_http::<axum::body::Body>();
    }
    (StatusCode::NOT_FOUND, "not found: this server speaks gRPC, and HTTP/1 at /metrics and /healthz\n")
        .into_response()
}
