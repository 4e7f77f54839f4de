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
//! | `aliases.rs`     | what each alias stands for |
//! | `buckets.rs`     | the buckets that indexes come from |
//! | `shadows.rs`     | searches that are repeated on candidates |
//! | `process.rs`     | the process and the program |
//! | `connections.rs` | connections, and why they are refused and closed |
//! | `families.rs`    | registers a metric; the labels and buckets that several files use |

mod access;
mod aliases;
mod buckets;
mod clients;
mod connections;
mod engine;
mod families;
mod load;
mod process;
mod requests;
mod shadows;

use std::fmt;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::registry::Registry;

use self::access::AccessMetrics;
use self::aliases::AliasMetrics;
use self::buckets::BucketMetrics;
use self::requests::RequestMetrics;
use crate::bucket::BucketHealth;

pub(crate) use self::clients::Class;
pub(crate) use self::connections::{ClosedConnections, ConnectionMetrics};
pub(crate) use self::engine::{EngineMetrics, observe_indexes};
pub(crate) use self::families::{IndexLabels, register};
pub(crate) use self::load::LoadMetrics;
pub(crate) use self::process::resident_memory;
pub(crate) use self::requests::{Observation, reason_of};
pub(crate) use self::shadows::ShadowMetrics;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one server, without those of its services.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Arc<RequestMetrics>,
    pub(crate) load: LoadMetrics,
    pub(crate) connections: ConnectionMetrics,
    pub(crate) access: AccessMetrics,
    pub(crate) aliases: AliasMetrics,
    buckets: BucketMetrics,
}

impl Metrics {
    /// Creates the metrics of a server of these indexes, some of which come from buckets. The distance histograms exist from the
    /// start. `own` registers the metrics of its services.
    pub(super) fn new<M>(
        index_names: Vec<String>,
        buckets: Vec<(String, Arc<BucketHealth>)>,
        own: impl FnOnce(&mut Registry) -> M,
    ) -> (Self, M) {
        let mut all = Registry::default();
        process::register_process(&mut all);
        let registry = all.sub_registry_with_prefix("shortlist");
        process::register_build(registry);
        let own = own(registry);
        let requests = Arc::new(RequestMetrics::new(registry, index_names));
        let load = LoadMetrics::new(registry);
        let connections = ConnectionMetrics::new(registry);
        let access = AccessMetrics::new(registry);
        let aliases = AliasMetrics::new(registry);
        let buckets = BucketMetrics::new(registry, buckets);
        (Self { requests, load, connections, access, aliases, buckets, registry: all }, own)
    }

    /// The text of a scrape of other services, of which every metric has a value.
    #[cfg(feature = "cluster")]
    pub(crate) fn example_of<M>(own: impl FnOnce(&mut Registry) -> M) -> String {
        Self::new(Vec::new(), Vec::new(), own).0.text().expect("a string takes any text")
    }

    /// The text of a scrape in which every metric has a value: the source of the reference page.
    pub(super) fn example() -> String {
        let index = "videos";
        let (names, buckets) = (vec![index.to_owned()], vec![(index.to_owned(), Arc::default())]);
        let own =
            |registry: &mut Registry| (EngineMetrics::new(registry, &names), ShadowMetrics::new(registry));
        let (metrics, (engine, shadows)) = Self::new(names.clone(), buckets, own);
        metrics.requests.set_example(index);
        metrics.load.set_example();
        engine.set_example(index);
        shadows.set_example(index);
        metrics.connections.set_example();
        metrics.access.set_example();
        metrics.aliases.set_example();
        metrics.text().expect("a string takes any text")
    }

    /// Answers a scrape.
    pub(super) fn scrape(&self) -> Response {
        match self.text() {
            Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    }

    fn text(&self) -> Result<String, fmt::Error> {
        self.buckets.observe();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
