//! Prometheus metrics.
//!
//! What flows in: requests begun and finished, the state of each index. What flows out: the text of `GET /metrics`.
//! Each server has its own registry, so the metrics of several servers in one process stay separate. Label values are
//! constants of this program, names of served indexes and of keys in the configuration, never text from a caller.
//!
//! | file | duty |
//! |---|---|
//! | `requests.rs`    | requests: how many, how long, how their answers came about |
//! | `load.rs`        | work and memory in flight, and what is refused for it |
//! | `engine.rs`      | the state of each index, and background tasks |
//! | `clients.rs`     | searches by client and class |
//! | `access.rs`      | calls refused for what their caller is; files read again |
//! | `buckets.rs`     | the buckets that indexes come from |
//! | `process.rs`     | the process and the program |
//! | `connections.rs` | connections, and why they are refused and closed |
//! | `families.rs`    | registers a metric; the labels and buckets that several files use |

mod access;
mod buckets;
mod clients;
mod connections;
mod engine;
mod families;
mod load;
mod process;
mod requests;

use std::fmt::Write;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::registry::Registry;

use self::access::AccessMetrics;
use self::buckets::BucketMetrics;
use self::engine::EngineMetrics;
use self::requests::RequestMetrics;
use crate::bucket::BucketHealth;

pub(super) use self::clients::Class;
pub(super) use self::connections::{ClosedConnections, ConnectionMetrics};
pub(super) use self::engine::observe_indexes;
pub(super) use self::load::LoadMetrics;
pub(super) use self::requests::{Observation, reason_of};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one server.
pub(super) struct Metrics {
    registry: Registry,
    pub(super) requests: Arc<RequestMetrics>,
    pub(super) load: LoadMetrics,
    pub(super) engine: Arc<EngineMetrics>,
    pub(super) connections: ConnectionMetrics,
    pub(super) access: AccessMetrics,
    buckets: BucketMetrics,
}

impl Metrics {
    /// Creates the metrics of a server of these indexes, some of which come from buckets. The distance histograms exist from the start.
    pub(super) fn new(index_names: Vec<String>, buckets: Vec<(String, Arc<BucketHealth>)>) -> Self {
        let mut all = Registry::default();
        process::register_process(&mut all);
        let registry = all.sub_registry_with_prefix("shortlist");
        process::register_build(registry);
        let engine = Arc::new(EngineMetrics::new(registry, &index_names));
        let requests = Arc::new(RequestMetrics::new(registry, index_names));
        let load = LoadMetrics::new(registry);
        let connections = ConnectionMetrics::new(registry);
        let access = AccessMetrics::new(registry);
        let buckets = BucketMetrics::new(registry, buckets);
        Self { requests, load, engine, connections, access, buckets, registry: all }
    }

    /// The text of a scrape in which every metric has a value: the source of the reference page.
    pub(super) fn example() -> String {
        let index = "videos";
        let metrics = Self::new(vec![index.to_owned()], vec![(index.to_owned(), Arc::default())]);
        metrics.requests.set_example(index);
        metrics.load.set_example();
        metrics.engine.set_example(index);
        metrics.connections.set_example();
        metrics.access.set_example();
        metrics.buckets.observe();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry)
            .expect("a string takes any text");
        text
    }

    /// Answers a scrape.
    pub(super) fn scrape(&self) -> Response {
        self.buckets.observe();
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                text.clear();
                let _ = writeln!(text, "{error}");
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        }
    }
}
