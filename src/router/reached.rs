//! The replicas of one index that are reached, kept while who serves what changes.
//!
//! What flows in: the addresses of the replicas of each shard, as they announce them. What flows out: the shards with these replicas.
//! A replica keeps its connection, its load and its rests, and a shard its latencies and budgets, for as long as they are there. An
//! address that cannot be used is left out, so that one bad announcement does not take an index away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::metrics::{ReplicaLabels, RouterMetrics};
use super::options::RouteError;
use super::replica::Replica;
use super::shard::ShardCalls;
use super::topology::ShardMap;
use super::transport::Transport;
use crate::base::partition::{Shard, ShardError};
use crate::base::text::shortened;

/// The longest text of an announcement or its problem in the log.
const MAX_LOGGED: usize = 200;

/// The replicas of one index.
pub(super) struct Reached {
    index: String,
    metrics: RouterMetrics,
    replicas: HashMap<(Shard, String), Arc<Replica>>,
    shards: HashMap<Shard, Arc<ShardCalls>>,
    /// By address: why it cannot be used, which was logged.
    refused: BTreeMap<String, String>,
}

impl Reached {
    pub(super) fn new(index: &str, metrics: &RouterMetrics) -> Self {
        Self {
            index: index.to_owned(),
            metrics: metrics.clone(),
            replicas: HashMap::new(),
            shards: HashMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Whether all addresses of the last map can be used. Otherwise it may help to try again: a file may have been missing.
    pub(super) fn is_whole(&self) -> bool {
        self.refused.is_empty()
    }

    /// The shards of an index with replicas at these addresses, by shard. `connect`: the way to an address.
    ///
    /// # Errors
    /// If an index cannot have this many shards.
    pub(super) fn map(
        &mut self,
        addresses: &[Vec<String>],
        connect: impl Fn(&str) -> Result<Arc<dyn Transport>, RouteError>,
    ) -> Result<ShardMap, ShardError> {
        let of = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let all: Vec<Shard> = Shard::all(of)?.collect();
        let replicas_before = std::mem::take(&mut self.replicas);
        let mut shards_before = std::mem::take(&mut self.shards);
        let refused_before = std::mem::take(&mut self.refused);
        for (shard, addresses) in all.iter().copied().zip(addresses) {
            let mut replicas = Vec::new();
            for address in addresses {
                let key = (shard, address.clone());
                let replica = match replicas_before.get(&key) {
                    Some(replica) => Arc::clone(replica),
                    None => match connect(address) {
                        Ok(transport) => Arc::new(Replica::new(address.clone(), transport)),
                        Err(error) => {
                            self.refuse(address, &error, &refused_before);
                            continue;
                        }
                    },
                };
                self.replicas.insert(key, Arc::clone(&replica));
                replicas.push(replica);
            }
            let calls = match shards_before.remove(&shard) {
                Some(calls) => calls.with_replicas(replicas),
                None => ShardCalls::new(&self.index, shard, replicas, &self.metrics).with_shared_log(),
            };
            calls.observe_up();
            self.shards.insert(shard, Arc::new(calls));
        }
        // By number, which the shards of another division may have, too.
        for gone in shards_before.keys().map(|shard| shard.index()).filter(|index| *index >= of) {
            self.metrics.forget_shard(&self.index, gone);
        }
        for key in replicas_before.into_keys().filter(|key| !self.replicas.contains_key(key)) {
            let (shard, replica) = (key.0.index(), key.1);
            self.metrics.forget_replica(&ReplicaLabels { index: self.index.clone(), shard, replica });
        }
        let shards = all.iter().map(|shard| Arc::clone(&self.shards[shard])).collect();
        Ok(ShardMap { shards, has_shared_log: true })
    }

    /// Remembers an address that cannot be used, and logs it once.
    fn refuse(&mut self, address: &str, error: &RouteError, before: &BTreeMap<String, String>) {
        let problem = shortened(error, MAX_LOGGED);
        if before.get(address) != Some(&problem) && self.refused.get(address) != Some(&problem) {
            let (index, address) = (&self.index, shortened(address, MAX_LOGGED));
            tracing::error!(index, address, problem, "cannot route to a replica; the others are routed to");
        }
        self.refused.insert(address.to_owned(), problem);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tonic::Status;

    use super::super::all::Boxed;
    use super::super::transport::{Call, Reply};
    use super::*;
    use crate::service::proto::SearchRequest;

    struct Silent;

    impl Transport for Silent {
        fn call(&self, _: Call, _: Duration) -> Boxed<'static, Result<Reply, Status>> {
            Box::pin(std::future::ready(Err(Status::unavailable("gone"))))
        }
    }

    fn connect(address: &str) -> Result<Arc<dyn Transport>, RouteError> {
        match address {
            "bad" => Err(RouteError::NoIndex),
            _ => Ok(Arc::new(Silent)),
        }
    }

    fn addresses(shards: &[&[&str]]) -> Vec<Vec<String>> {
        let owned = |shard: &&[&str]| shard.iter().map(|address| (*address).to_owned()).collect();
        shards.iter().map(owned).collect()
    }

    fn found(map: &ShardMap) -> Vec<Vec<&str>> {
        map.shards
            .iter()
            .map(|shard| shard.replicas.iter().map(|one| one.address.as_str()).collect())
            .collect()
    }

    #[test]
    fn an_address_that_cannot_be_used_is_left_out() {
        let mut reached = Reached::new("videos", &RouterMetrics::default());
        let map = reached.map(&addresses(&[&["a", "bad"], &["bad"]]), connect).unwrap();
        assert_eq!(found(&map), [vec!["a"], vec![]]);
        assert!(!reached.is_whole());
        assert_eq!(reached.refused.keys().collect::<Vec<_>>(), ["bad"]);
        // Another one announces itself, and the bad one is gone.
        let map = reached.map(&addresses(&[&["a"], &["b"]]), connect).unwrap();
        assert_eq!(found(&map), [vec!["a"], vec!["b"]]);
        assert!(reached.is_whole());
        assert!(reached.map(&addresses(&[&["a"], &["b"], &["c"]]), connect).is_err());
    }

    #[tokio::test]
    async fn replicas_and_shards_keep_what_was_measured() {
        let mut reached = Reached::new("videos", &RouterMetrics::default());
        let before = reached.map(&addresses(&[&["a"], &["b"]]), connect).unwrap();
        before.shards[0].set_videos(7);
        let until = Instant::now() + Duration::from_secs(5);
        // More often than retries are saved up, and often enough for a rest.
        for _ in 0..50 {
            let search = Call::Search(SearchRequest::default());
            assert!(before.shards[0].call(&search, until).await.is_err());
        }
        assert!(before.shards[0].replicas[0].rests());
        let after = reached.map(&addresses(&[&["a", "c"], &["d"]]), connect).unwrap();
        assert_eq!(found(&after), [vec!["a", "c"], vec!["d"]]);
        assert!(Arc::ptr_eq(&before.shards[0].replicas[0], &after.shards[0].replicas[0]));
        assert!(after.shards[0].replicas[0].rests());
        assert_eq!((after.shards[0].videos(), after.shards[1].videos()), (Some(7), None));
        assert!(after.shards[0].measures_with(&before.shards[0]));
        // Other shards are others.
        let whole = reached.map(&addresses(&[&["a"]]), connect).unwrap();
        assert_eq!(whole.shards[0].videos(), None);
    }

    #[test]
    fn metrics_of_replicas_and_shards_that_are_gone_are_forgotten() {
        let metrics = RouterMetrics::default();
        let mut reached = Reached::new("videos", &metrics);
        for round in 0..3 {
            let (one, other) = (format!("a{round}"), format!("b{round}"));
            let map = reached.map(&addresses(&[&[&one], &[&other]]), connect).unwrap();
            for shard in &map.shards {
                shard.replicas.iter().for_each(|replica| metrics.up(&shard.labels(replica), true));
            }
        }
        let text = metrics.text();
        let up = |text: &str| text.lines().filter(|line| line.starts_with("router_replica_up{")).count();
        assert_eq!(up(&text), 2, "{text}");
        reached.map(&addresses(&[&["a2"]]), connect).unwrap();
        let text = metrics.text();
        let counts: Vec<&str> =
            text.lines().filter(|line| line.starts_with("router_shard_replicas_up{")).collect();
        assert_eq!(counts, [r#"router_shard_replicas_up{index="videos",shard="0"} 1"#]);
    }
}
