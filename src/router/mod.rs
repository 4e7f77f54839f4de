//! The router: one index over shards and replicas, with the contract of one server.
//!
//! What flows in: the calls of `shortlist.v1`. What flows out: calls of one replica of every shard, and answers that are merged from
//! theirs. Knows neither files nor graphs, and keeps no state but what it measures.
//!
//! ```text
//!  call ─► retrieval ─► search ─► seeds ─► ranked or places ─► gather ─► shard ─► replica ─► transport
//!          admission    checks    sum of   which rows are on   all       hedge    load,       gRPC
//!                       request   vectors  the page, rounds    shards    retry    rests
//!                          └────────────► completeness, response ◄─┘
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `options.rs`      | the list of shards and replicas, and how they are reached |
//! | `topology.rs`     | who serves which shard, replaceable while calls run |
//! | `discovery.rs`    | who serves which shard, from maps and announcements |
//! | `reached.rs`      | the replicas that are reached, kept while others come and go |
//! | `transport.rs`    | the way to one replica |
//! | `replica.rs`      | one replica: load, speed, rests |
//! | `shard.rs`        | one call of a shard: choice, hedges, retries |
//! | `latency.rs`      | how long the calls of a shard took lately |
//! | `budget.rs`       | how many extra calls may be made |
//! | `all.rs`          | several futures at once |
//! | `failure.rs`      | what the status of a replica means |
//! | `wanted.rs`       | what a search wants, and what shards are asked for |
//! | `excluded.rs`     | the excluded videos of a search, by shard |
//! | `row.rs`          | candidates as rows for the rules |
//! | `value.rs`        | the values that caps count |
//! | `part.rs`         | the checked answer of one shard |
//! | `gather.rs`       | asks shards together |
//! | `share.rs`        | how many candidates each shard is asked for |
//! | `ranked.rs`       | the best of all shards |
//! | `places.rs`       | a page with kept places |
//! | `page.rs`         | the rows of a page |
//! | `stats.rs`        | the cost of a search, of several shards |
//! | `completeness.rs` | why a page is short |
//! | `response.rs`     | the answer, and how much of the index it was chosen from |
//! | `search.rs`       | one search |
//! | `seeds.rs`        | queries by example |
//! | `explain.rs`      | `Explain` |
//! | `positions.rs`    | items of a request that go to several shards |
//! | `write.rs`        | the way of writes |
//! | `retrieval.rs`    | `Retrieval` |
//! | `catalog.rs`      | `Catalog` |
//! | `admin.rs`        | `Admin` |
//! | `health.rs`       | the health of indexes and replicas |
//! | `metrics.rs`      | metrics |
//! | `state.rs`        | what the services share, and one call |

mod admin;
mod all;
mod budget;
mod catalog;
mod completeness;
mod discovery;
mod excluded;
mod explain;
mod failure;
mod gather;
mod health;
mod latency;
mod metrics;
mod options;
mod page;
mod part;
mod places;
mod positions;
mod ranked;
mod reached;
mod replica;
mod response;
mod retrieval;
mod row;
mod search;
mod seeds;
mod shard;
mod share;
#[cfg(test)]
mod simulated;
mod state;
mod stats;
#[cfg(test)]
mod tests;
mod topology;
mod transport;
mod value;
mod wanted;
mod write;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::admin::AdminService;
use self::catalog::CatalogService;
use self::discovery::Discovery;
use self::metrics::RouterMetrics;
use self::replica::Replica;
use self::retrieval::RetrievalService;
use self::shard::ShardCalls;
use self::state::Router;
use self::topology::{ShardMap, Topology};
use self::transport::Remote;
use crate::engine::Limits;
use crate::service::parts::{Admission, Metrics, Quota, Server, Services, Shell, Work};
use crate::service::{Drained, Listeners, ServiceOptions};

pub use self::options::{RouteError, RouteOptions};

/// How long a router waits for the health of its replicas before it accepts connections.
const FIRST_PROBE_WAIT: Duration = Duration::from_millis(500);

/// A router that is ready to serve.
pub struct Routing {
    topology: Arc<Topology>,
    discovery: Option<Discovery>,
    metrics: RouterMetrics,
}

impl Routing {
    /// Prepares the connections to replicas, which the first calls make. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the list of shards is malformed, or a file, an address or a certificate cannot be used.
    pub fn new(options: &RouteOptions, max_answer_bytes: usize) -> Result<Self, RouteError> {
        if options.shards.is_empty() && options.maps.is_empty() {
            return Err(RouteError::NoIndex);
        }
        for name in options.maps.keys() {
            if options.shards.contains_key(name) {
                return Err(RouteError::Twice(name.clone()));
            }
            if options.nats.is_empty() {
                return Err(RouteError::NoNats(name.clone()));
            }
        }
        let metrics = RouterMetrics::default();
        let mut indexes = Vec::new();
        for (name, text) in &options.shards {
            let mut shards = Vec::new();
            for (shard, addresses) in options::addresses(name, text)? {
                let mut replicas = Vec::new();
                for address in addresses {
                    let remote = Remote::new(options.connection(&address)?, max_answer_bytes);
                    replicas.push(Arc::new(Replica::new(address, Arc::new(remote))));
                }
                shards.push(Arc::new(ShardCalls::new(name, shard, replicas, &metrics)));
            }
            indexes.push((name.clone(), ShardMap { shards, has_shared_log: false }));
        }
        // Those of maps have no shards until replicas are found.
        let found = options
            .maps
            .keys()
            .map(|name| (name.clone(), ShardMap { shards: Vec::new(), has_shared_log: true }));
        let topology = Arc::new(Topology::new(indexes.into_iter().chain(found)));
        let discovery = match options.maps.is_empty() {
            true => None,
            false => Some(Discovery::start(options, max_answer_bytes, &metrics)?),
        };
        Ok(Self { topology, discovery, metrics })
    }

    /// Finds the replicas of indexes that have a map, or waits for a moment. More are found while the router serves.
    pub async fn find_replicas(&mut self) {
        if let Some(discovery) = &mut self.discovery {
            discovery.find_first(&self.topology).await;
        }
    }

    /// The name of each index, and the number of its shards.
    pub fn indexes(&self) -> Vec<(String, u32)> {
        let count = |name: &str| self.topology.shards(name).map_or(0, |map| map.count());
        self.topology.names().map(|name| (name.to_owned(), count(name))).collect()
    }

    /// Serves on `listeners` until `shutdown` completes, then drains as a server of an engine does. `limits`: of k, ef_search and seeds.
    ///
    /// # Errors
    /// If a listener has no address, the endpoint of traces is malformed, or the descriptors in this binary cannot be read.
    pub async fn serve(
        self,
        listeners: impl Into<Listeners>,
        limits: Limits,
        options: ServiceOptions,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<Drained> {
        let Self { topology, discovery, metrics } = self;
        let (drain, draining) = watch::channel(false);
        let indexes = Arc::clone(&topology);
        let own = |registry: &mut Registry| metrics.register(registry);
        let (shell, ()) = Shell::new(indexes, &options, false, draining, own).await?;
        let shell = Arc::new(shell);
        let load = &shell.metrics.load;
        let router = Arc::new(Router {
            admission: Admission::new(Work::Searches, shell.limits.max_in_flight, load.in_flight.clone()),
            write_admission: Admission::new(
                Work::Writes,
                shell.limits.max_concurrent_writes,
                load.writes_in_flight.clone(),
            ),
            quota: Quota::default(),
            topology,
            metrics,
            engine_limits: limits,
            started: Instant::now(),
            started_at: Timestamp::now(),
            shell: Arc::clone(&shell),
        });
        let services = Services {
            retrieval: RetrievalService::new(Arc::clone(&router)),
            catalog: CatalogService::new(Arc::clone(&router)),
            admin: AdminService::new(Arc::clone(&router)),
        };
        // If replicas answer quickly, the first connection finds indexes that are ready.
        let _ = tokio::time::timeout(FIRST_PROBE_WAIT, health::probe(&router)).await;
        router.shell.health.observe(&*router.topology).await;
        let mut background = JoinSet::new();
        background.spawn(health::watch(Arc::clone(&router), options.poll_interval));
        if let Some(discovery) = discovery {
            background.spawn(discovery.follow(Arc::clone(&router.topology)));
        }
        let answered = async {
            router.admission.close().await;
            router.write_admission.close().await;
        };
        let server = Server { shell, services, background, drain, answered };
        server.run(listeners.into(), &options, shutdown).await
    }
}

/// The text of a `GET /metrics` in which every metric of a router has a value.
#[doc(hidden)]
pub fn example_scrape() -> String {
    let metrics = RouterMetrics::default();
    metrics.set_example("videos");
    Metrics::example_of(|registry| metrics.register(registry))
}
