//! Who serves which shard, from the maps of indexes and from what replicas say of themselves.
//!
//! What flows in: maps in buckets, and the records of replicas in NATS. What flows out: the shards of each index, replaced whenever
//! these change. The newest map counts of which every shard has a ready replica; without one, the newest map.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::metrics::RouterMetrics;
use super::options::{RouteError, RouteOptions};
use super::replica::Replica;
use super::shard::ShardCalls;
use super::topology::{ShardMap, Topology};
use super::transport::Remote;
use crate::base::partition::Shard;
use crate::bucket::{Bucket, ClusterMap, Location};
use crate::nats::presence::{self, Watcher};

/// The interval between two looks at the maps.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many of the newest maps are looked at.
const MAPS: usize = 4;
/// How long a router waits for the first replicas before it accepts connections.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// The indexes that are found.
pub(super) struct Discovery {
    options: RouteOptions,
    metrics: RouterMetrics,
    max_answer_bytes: usize,
    indexes: Vec<Found>,
    changed: Arc<Notify>,
}

/// One index.
struct Found {
    name: String,
    root: Bucket,
    watcher: Watcher,
    maps: Vec<ClusterMap>,
    /// The replicas that were reached before, by shard and address.
    known: HashMap<(Shard, String), Arc<Replica>>,
    /// What is routed to now.
    chosen: Option<Division>,
}

/// The shards of an index, and the addresses of their replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Division {
    epoch: u64,
    shards: Vec<Vec<String>>,
}

impl Discovery {
    /// Begins to find the replicas of the indexes in `options.maps`.
    ///
    /// # Errors
    /// If a location cannot be used, or NATS is configured wrongly.
    pub(super) fn start(
        options: &RouteOptions,
        max_answer_bytes: usize,
        metrics: &RouterMetrics,
    ) -> Result<Self, RouteError> {
        let changed = Arc::<Notify>::default();
        let mut indexes = Vec::new();
        for (name, location) in &options.maps {
            let problem = |problem: String| RouteError::Map { index: name.clone(), problem };
            let location =
                Location::parse(Path::new(location)).map_err(|error| problem(error.to_string()))?;
            let root = Bucket::open(&location).map_err(|error| problem(error.to_string()))?;
            let notified = Arc::clone(&changed);
            let watcher = Watcher::start(&options.nats_options(), name, move |_| notified.notify_one());
            let watcher = watcher.map_err(problem)?;
            let (maps, known) = (Vec::new(), HashMap::new());
            indexes.push(Found { name: name.clone(), root, watcher, maps, known, chosen: None });
        }
        let (options, metrics) = (options.clone(), metrics.clone());
        Ok(Self { options, metrics, max_answer_bytes, indexes, changed })
    }

    /// Finds each index once, or waits for a moment.
    pub(super) async fn find_first(&mut self, topology: &Topology) {
        let until = Instant::now() + FIRST_WAIT;
        self.read_maps().await;
        loop {
            self.choose(topology);
            let is_found = |found: &Found| {
                let chosen = found.chosen.as_ref();
                chosen.is_some_and(|chosen| chosen.shards.iter().all(|replicas| !replicas.is_empty()))
            };
            let left = until.saturating_duration_since(Instant::now());
            if self.indexes.iter().all(is_found) || left.is_zero() {
                return;
            }
            let _ = timeout(left, self.changed.notified()).await;
        }
    }

    /// Follows maps and replicas for ever.
    pub(super) async fn follow(mut self, topology: Arc<Topology>) {
        loop {
            if timeout(INTERVAL, self.changed.notified()).await.is_err() {
                self.read_maps().await;
            }
            self.choose(&topology);
        }
    }

    async fn read_maps(&mut self) {
        for found in &mut self.indexes {
            let root = found.root.clone();
            let read = tokio::task::spawn_blocking(move || ClusterMap::recent(&root, MAPS)).await;
            match read {
                Ok(Ok((maps, passed_over))) => {
                    if let Some(error) = passed_over.first() {
                        tracing::warn!(index = found.name, %error, "passed over a map");
                    }
                    found.maps = maps;
                }
                // Those that were read last stay.
                Ok(Err(error)) => tracing::warn!(index = found.name, %error, "cannot read the map"),
                Err(_) => tracing::error!(index = found.name, "reading the map panicked"),
            }
        }
    }

    fn choose(&mut self, topology: &Topology) {
        for found in &mut self.indexes {
            let division = division(&found.maps, &found.watcher.replicas());
            if found.chosen.as_ref() == Some(&division) {
                continue;
            }
            let shards = division.shards.len();
            tracing::info!(index = found.name, epoch = division.epoch, shards, "routes to other replicas");
            match found.map(&division, &self.options, self.max_answer_bytes, &self.metrics) {
                Ok(map) => topology.replace(&found.name, map),
                Err(error) => tracing::error!(index = found.name, %error, "cannot route to a replica"),
            }
            found.chosen = Some(division);
        }
    }
}

impl Found {
    fn map(
        &mut self,
        division: &Division,
        options: &RouteOptions,
        max_answer_bytes: usize,
        metrics: &RouterMetrics,
    ) -> Result<ShardMap, RouteError> {
        let before = std::mem::take(&mut self.known);
        let of = division.shards.len() as u32;
        let problem = |problem| RouteError::Shards { index: self.name.clone(), problem };
        let mut shards = Vec::new();
        for (shard, addresses) in Shard::all(of).map_err(problem)?.zip(&division.shards) {
            let mut replicas = Vec::new();
            for address in addresses {
                let key = (shard, address.clone());
                let replica = match before.get(&key) {
                    Some(replica) => Arc::clone(replica),
                    None => {
                        let remote = Remote::new(options.connection(address)?, max_answer_bytes);
                        Arc::new(Replica::new(address.clone(), Arc::new(remote)))
                    }
                };
                self.known.insert(key, Arc::clone(&replica));
                replicas.push(replica);
            }
            let calls = ShardCalls::new(&self.name, shard, replicas, metrics);
            shards.push(Arc::new(calls.with_shared_log()));
        }
        Ok(ShardMap { shards, has_shared_log: true })
    }
}

/// The newest map of which every shard has a ready replica, or else the newest one; `maps` are newest first. Without a map, the
/// index is not divided.
fn division(maps: &[ClusterMap], replicas: &[presence::Replica]) -> Division {
    let of = |epoch: u64, shards: u32| {
        let on = |index: u32| -> Vec<&presence::Replica> {
            let shard = format!("{index}/{shards}");
            replicas.iter().filter(|replica| replica.shard == shard).collect()
        };
        let replicas: Vec<Vec<&presence::Replica>> = (0..shards).map(on).collect();
        let is_ready = replicas.iter().all(|shard| shard.iter().any(|replica| replica.is_ready));
        let addresses = |shard: &Vec<&presence::Replica>| {
            let mut addresses: Vec<String> = shard.iter().map(|replica| replica.address.clone()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses
        };
        (is_ready, Division { epoch, shards: replicas.iter().map(addresses).collect() })
    };
    let mut divisions =
        maps.iter().map(|map| of(map.epoch, map.shards)).chain(maps.is_empty().then(|| of(0, 1)));
    let newest = divisions.next().expect("there is one without a map");
    if newest.0 {
        return newest.1;
    }
    divisions.find(|(is_ready, _)| *is_ready).unwrap_or(newest).1
}
