//! Who serves which shard, from the maps of indexes and from what replicas say of themselves.
//!
//! What flows in: maps in buckets, and the records of replicas in NATS. What flows out: the shards of each index, replaced whenever
//! these change. The newest map of which every shard has a ready replica is used, or else the newest one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::metrics::RouterMetrics;
use super::options::{RouteError, RouteOptions};
use super::reached::Reached;
use super::topology::Topology;
use super::transport::{Remote, Transport};
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
    reached: Reached,
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
            let (maps, reached) = (Vec::new(), Reached::new(name, metrics));
            indexes.push(Found { name: name.clone(), root, watcher, maps, reached, chosen: None });
        }
        Ok(Self { options: options.clone(), max_answer_bytes, indexes, changed })
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
        let mut due = Instant::now() + INTERVAL;
        loop {
            if is_due(&self.changed, due).await {
                self.read_maps().await;
                due = Instant::now() + INTERVAL;
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
            let is_new = found.chosen.as_ref() != Some(&division);
            if !is_new && found.reached.is_whole() {
                continue;
            }
            if is_new {
                let shards = division.shards.len();
                tracing::info!(
                    index = found.name,
                    epoch = division.epoch,
                    shards,
                    "routes to other replicas"
                );
            }
            let (options, max) = (&self.options, self.max_answer_bytes);
            let connect = |address: &str| -> Result<Arc<dyn Transport>, RouteError> {
                Ok(Arc::new(Remote::new(options.connection(address)?, max)))
            };
            match found.reached.map(&division.shards, connect) {
                Ok(map) => topology.replace(&found.name, map),
                Err(error) => tracing::error!(index = found.name, %error, "cannot route by this map"),
            }
            found.chosen = Some(division);
        }
    }
}

/// Waits until replicas change, or until `due`. Returns whether it is past `due`: announcements change with every write, and must not
/// delay the reading of maps.
async fn is_due(changed: &Notify, due: Instant) -> bool {
    let _ = timeout_at(due, changed.notified()).await;
    Instant::now() >= due
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

#[cfg(test)]
mod tests {
    use super::*;

    fn map(epoch: u64, shards: u32) -> ClusterMap {
        ClusterMap {
            format_version: 1,
            epoch,
            shards,
            generations: Vec::new(),
            log_sequences: Vec::new(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn replica(shard: &str, address: &str, is_ready: bool) -> presence::Replica {
        presence::Replica {
            name: format!("{address}-{shard}"),
            address: address.to_owned(),
            shard: shard.to_owned(),
            is_ready,
            generation: 1,
            sequence: 1,
            digest_sequence: 0,
            digest: 0,
        }
    }

    fn found(maps: &[(u64, u32)], replicas: &[(&str, &str, bool)]) -> (u64, Vec<Vec<String>>) {
        let maps: Vec<ClusterMap> = maps.iter().map(|(epoch, shards)| map(*epoch, *shards)).collect();
        let replicas: Vec<_> =
            replicas.iter().map(|(shard, address, is_ready)| replica(shard, address, *is_ready)).collect();
        let Division { epoch, shards } = division(&maps, &replicas);
        (epoch, shards)
    }

    #[test]
    fn the_newest_map_counts_of_which_every_shard_is_ready() {
        let maps = [(3, 4), (2, 2), (1, 1)];
        let two = [("0/2", "a:1", true), ("1/2", "b:1", true)];
        assert_eq!(found(&maps, &two).0, 2);
        let four = [("0/4", "c:1", true), ("1/4", "d:1", true), ("2/4", "e:1", true)];
        assert_eq!(found(&maps, &[&two[..], &four].concat()).0, 2);
        let last = |is_ready| [&two[..], &four, &[("3/4", "f:1", is_ready)]].concat();
        assert_eq!(found(&maps, &last(false)).0, 2);
        assert_eq!(found(&maps, &last(true)).0, 3);
        // No map has a ready replica of every shard: the newest counts, with the replicas that are there.
        let (epoch, shards) = found(&maps, &[("1/4", "d:1", false)]);
        assert_eq!((epoch, shards.len(), &shards[1]), (3, 4, &vec!["d:1".to_owned()]));
    }

    #[test]
    fn replicas_of_one_shard_are_there_once_each_and_others_are_left_out() {
        let replicas = [
            ("0/1", "b:1", true),
            ("0/1", "a:1", false),
            ("0/1", "b:1", true),
            ("0/2", "c:1", true),
            ("1/1", "d:1", true),
            ("noise", "e:1", true),
        ];
        assert_eq!(found(&[], &replicas), (0, vec![vec!["a:1".to_owned(), "b:1".to_owned()]]));
        assert_eq!(found(&[(7, 1)], &replicas).0, 7);
        assert_eq!(found(&[], &[]), (0, vec![Vec::new()]));
    }

    #[tokio::test]
    async fn maps_are_read_while_replicas_change_without_end() {
        let (changed, due) = (Notify::new(), Instant::now() + Duration::from_millis(50));
        let mut changes = 0;
        while Instant::now() < due + Duration::from_secs(5) {
            changed.notify_one();
            changes += 1;
            if is_due(&changed, due).await {
                break;
            }
        }
        assert!(changes > 1 && Instant::now() < due + Duration::from_secs(5), "{changes} changes");
        // Nothing changes.
        assert!(is_due(&Notify::new(), Instant::now() + Duration::from_millis(5)).await);
    }
}
