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
//! | `aliases/`        | names that stand for indexes |
//! | `reloaded.rs`     | files that are read again when they change |
//! | `file_error.rs`   | why such a file cannot be used |
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
//! | `alias.rs`        | the methods of `Admin` for aliases |
//! | `incoming.rs`     | the requests of a stream, a bounded number at a time |
//! | `inspect.rs`      | what people look at |
//! | `history.rs`      | the last hour of the searches of each index |
//! | `health.rs`       | `grpc.health.v1` |
//! | `metrics/`        | Prometheus metrics |
//! | `watch.rs`        | polls each index for new publications; updates health and metrics |
//! | `convert/`        | proto ↔ domain, with the paths of invalid fields |
//! | `traces/`         | OpenTelemetry traces of calls |
//! | `slow_search.rs`  | the log of slow searches |
//! | `shadow/`         | repeats searches on a candidate, and compares the answers |
//! | `follow.rs`       | what traces and that log record of one request |
//! | `per_second.rs`   | a number of events per second that pass |
//! | `error.rs`        | why a call fails |
//! | `filter_texts.rs` | which filters of a search are texts |
//! | `field.rs`        | the fields of engine errors → paths in the proto |
//! | `states.rs`       | the state of the indexes, as one caller may know it |
//! | `status.rs`       | errors → codes and details |
//! | `admission/`      | which calls are computed, in which order, and which are refused |
//! | `run.rs`          | serves until shutdown, then drains |
//! | `shell.rs`        | the state around the services: access, bounds, health, metrics, traces |
//! | `indexes.rs`      | what the shell asks of the services: their indexes |
//! | `shared.rs`       | the state that the services of one engine share |
//! | `parts.rs`        | the parts that a router uses, too |
//! | `page/`           | the web page |
//! | `page_token.rs`   | tokens of pages |
//! | `options.rs`      | options and limits |
//! | `proto.rs`        | the messages of `clients/rust`, and the generated servers |

mod access;
mod admin;
mod admission;
pub(crate) mod alias;
mod aliases;
mod answer;
mod bounds;
mod caller;
mod catalog;
pub(crate) mod convert;
pub(crate) mod deadline;
mod error;
mod field;
mod file_error;
mod filter_texts;
mod follow;
mod health;
mod history;
mod incoming;
mod indexes;
pub(crate) mod inspect;
mod json;
mod listeners;
mod metrics;
mod options;
mod page;
mod page_token;
#[cfg(feature = "cluster")]
pub(crate) mod parts;
mod per_second;
pub mod proto;
mod read;
mod reloaded;
mod retrieval;
mod routes;
mod run;
mod server;
mod shadow;
mod shared;
mod shell;
mod slow_search;
mod states;
pub(crate) mod status;
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

use prometheus_client::registry::Registry;

use self::admin::AdminService;
use self::catalog::CatalogService;
use self::metrics::{EngineMetrics, Metrics, ShadowMetrics};
use self::retrieval::RetrievalService;
use self::run::{Server, Services};
use self::shadow::Shadows;
use self::shared::Shared;
use self::shell::Shell;
use self::slow_search::SlowSearches;
use crate::engine::Engine;

pub use self::access::{
    Access, AccessOptions, Audit, Digest, KeyFile, KeyOptions, OwnLimits, Role, RoleLimits, TlsOptions,
    TokenOptions, new_key,
};
pub use self::aliases::Aliases;
#[cfg(feature = "cli")]
pub(crate) use self::convert::plan_from_proto;
pub use self::file_error::FileError;
#[cfg(feature = "cli")]
pub(crate) use self::json::message_of_proto;
pub use self::listeners::Listeners;
#[cfg(feature = "cli")]
pub(crate) use self::listeners::is_loopback;
pub use self::options::{CallerLimits, ConnectionOptions, ServiceLimits, ServiceOptions};
pub use self::page::PageOptions;
pub use self::run::Drained;
pub use self::shadow::ShadowOptions;
pub use self::slow_search::SlowSearchOptions;
pub use self::traces::TraceOptions;

/// How long the server waits for the first poll of the engine before it accepts connections.
const FIRST_POLL_WAIT: Duration = Duration::from_millis(20);

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
    let (drain, draining) = watch_channel::channel(false);
    let slow_searches = SlowSearches::new(options.slow_searches);
    let names = engine.index_names();
    let own = |registry: &mut Registry| {
        (Arc::new(EngineMetrics::new(registry, &names)), Arc::new(ShadowMetrics::new(registry)))
    };
    let indexes = Arc::clone(&engine);
    let (shell, (engine_metrics, shadow_metrics)) =
        Shell::new(indexes, &options, slow_searches.is_on(), draining, own).await?;
    let shell = Arc::new(shell);
    let shadows = Arc::new(Shadows::new(Arc::clone(&engine), options.shadow.clone(), shadow_metrics));
    let shared = Arc::new(Shared::new(Arc::clone(&shell), engine, engine_metrics, slow_searches, shadows));
    let services = Services {
        retrieval: RetrievalService::new(Arc::clone(&shared)),
        catalog: CatalogService::new(Arc::clone(&shared)),
        admin: AdminService::new(Arc::clone(&shared)),
    };

    metrics::observe_indexes(&shared.engine, &shared.engine_metrics, shared.engine.index_names()).await;
    // A JoinSet, so that the poller also ends when this future is dropped.
    let mut poller = JoinSet::new();
    let polled = Arc::new(Semaphore::new(0));
    poller.spawn(watch::run(Arc::clone(&shared), options.poll_interval, Arc::clone(&polled)));
    // If warming is quick, the first connection finds a ready index. Otherwise health reports that it is not ready.
    let indexes = shared.engine.index_names().len() as u32;
    let _ = tokio::time::timeout(FIRST_POLL_WAIT, polled.acquire_many(indexes)).await;
    let answered = async {
        shared.admission.close().await;
        shared.write_admission.close().await;
    };
    let server = Server { shell, services, background: poller, drain, answered };
    server.run(listeners.into(), &options, shutdown).await
}

/// The text of a `GET /metrics` in which every metric has a value. The reference page of metrics is made from it.
#[doc(hidden)]
pub fn example_scrape() -> String {
    Metrics::example()
}
