//! The metrics of a router, in addition to those of every server.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::service::parts::{IndexLabels, register};

/// Histogram buckets for the calls of shards.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Histogram buckets for the share of videos that was searched.
const SHARES: [f64; 8] = [0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ShardLabels {
    pub(super) index: String,
    pub(super) shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReplicaLabels {
    pub(super) index: String,
    pub(super) shard: u32,
    pub(super) replica: String,
}

/// The metrics of a router. Names of indexes and replicas are those of its configuration.
#[derive(Clone)]
pub(super) struct RouterMetrics {
    seconds: Family<ShardLabels, Histogram, fn() -> Histogram>,
    hedged: Family<ShardLabels, Counter>,
    retried: Family<ShardLabels, Counter>,
    lost: Family<ShardLabels, Counter>,
    replicas_up: Family<ShardLabels, Gauge>,
    up: Family<ReplicaLabels, Gauge>,
    rests: Family<ReplicaLabels, Counter>,
    rounds: Family<IndexLabels, Counter>,
    coverage: Family<IndexLabels, Histogram, fn() -> Histogram>,
}

/// The counters of one shard.
#[derive(Clone)]
pub(super) struct ShardMetrics {
    seconds: Histogram,
    pub(super) hedged: Counter,
    pub(super) retried: Counter,
    pub(super) lost: Counter,
    replicas_up: Gauge,
}

impl ShardMetrics {
    /// Records a call that was answered.
    pub(super) fn answered(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    /// Records how many replicas may be asked.
    pub(super) fn replicas_up(&self, count: usize) {
        self.replicas_up.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl Default for RouterMetrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let shares: fn() -> Histogram = || Histogram::new(SHARES);
        Self {
            seconds: Family::new_with_constructor(seconds),
            hedged: Family::default(),
            retried: Family::default(),
            lost: Family::default(),
            replicas_up: Family::default(),
            up: Family::default(),
            rests: Family::default(),
            rounds: Family::default(),
            coverage: Family::new_with_constructor(shares),
        }
    }
}

impl RouterMetrics {
    /// Registers the metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("router");
        register(
            registry,
            "shard_call_seconds",
            "Seconds from a call of a shard to its answer, hedges and retries included",
            self.seconds.clone(),
        );
        register(
            registry,
            "hedged_calls",
            "Calls sent to a second replica because the first was slower than usual",
            self.hedged.clone(),
        );
        register(
            registry,
            "retried_calls",
            "Calls sent to another replica because one failed or did not answer for long",
            self.retried.clone(),
        );
        register(registry, "lost_calls", "Calls that no replica of the shard answered", self.lost.clone());
        register(
            registry,
            "shard_replicas_up",
            "Replicas of the shard that are asked. If 0, answers lack the videos of the shard",
            self.replicas_up.clone(),
        );
        register(
            registry,
            "replica_up",
            "1 if the replica is asked, 0 while it rests or its health says that it does not serve",
            self.up.clone(),
        );
        register(
            registry,
            "replica_rests",
            "Times that a replica began to rest after failures in a row",
            self.rests.clone(),
        );
        register(
            registry,
            "further_rounds",
            "Times that shards were asked again because they could have more of the best candidates",
            self.rounds.clone(),
        );
        register(
            registry,
            "coverage_ratio",
            "Share of the videos of the index that an answer was chosen from",
            self.coverage.clone(),
        );
    }

    /// The metrics of one shard, which exist from now on.
    pub(super) fn of_shard(&self, index: &str, shard: u32) -> ShardMetrics {
        let labels = ShardLabels { index: index.to_owned(), shard };
        ShardMetrics {
            seconds: self.seconds.get_or_create(&labels).clone(),
            hedged: self.hedged.get_or_create(&labels).clone(),
            retried: self.retried.get_or_create(&labels).clone(),
            lost: self.lost.get_or_create(&labels).clone(),
            replicas_up: self.replicas_up.get_or_create(&labels).clone(),
        }
    }

    /// Removes the gauge of a shard that the index no longer has.
    pub(super) fn forget_shard(&self, index: &str, shard: u32) {
        self.replicas_up.remove(&ShardLabels { index: index.to_owned(), shard });
    }

    /// Removes the metrics of a replica that is gone, whose address may never come back.
    pub(super) fn forget_replica(&self, labels: &ReplicaLabels) {
        self.up.remove(labels);
        self.rests.remove(labels);
    }

    /// Says whether a replica is asked.
    pub(super) fn up(&self, labels: &ReplicaLabels, is_up: bool) {
        self.up.get_or_create(labels).set(is_up.into());
    }

    /// Counts a rest.
    pub(super) fn rested(&self, labels: &ReplicaLabels) {
        self.rests.get_or_create(labels).inc();
    }

    /// Counts a further round of calls.
    pub(super) fn asked_again(&self, index: &str) {
        self.rounds.get_or_create(&IndexLabels { index: index.to_owned() }).inc();
    }

    /// Records the share of the videos that an answer was chosen from.
    pub(super) fn covered(&self, index: &str, share: f64) {
        self.coverage.get_or_create(&IndexLabels { index: index.to_owned() }).observe(share);
    }

    /// The text of a scrape of these metrics alone.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes any text");
        text
    }

    /// Gives every metric a value.
    pub(super) fn set_example(&self, index: &str) {
        self.of_shard(index, 0).replicas_up(2);
        let labels =
            ReplicaLabels { index: index.to_owned(), shard: 0, replica: "10.0.0.1:50051".to_owned() };
        self.up(&labels, true);
        self.rested(&labels);
        self.asked_again(index);
        self.covered(index, 1.0);
    }
}
