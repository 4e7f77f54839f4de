//! The metrics of a router, in addition to those of every server.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IndexLabels {
    index: String,
}

/// The metrics of a router. Names of indexes and replicas are those of its configuration.
#[derive(Clone)]
pub(crate) struct RouterMetrics {
    seconds: Family<ShardLabels, Histogram, fn() -> Histogram>,
    hedged: Family<ShardLabels, Counter>,
    retried: Family<ShardLabels, Counter>,
    lost: Family<ShardLabels, Counter>,
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
}

impl ShardMetrics {
    /// Records a call that was answered.
    pub(super) fn answered(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
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
        let metrics = self;
        registry.register(
            "shard_call_seconds",
            "Seconds from a call of a shard to its answer, hedges and retries included",
            metrics.seconds.clone(),
        );
        registry.register(
            "hedged_calls",
            "Calls that a second replica was asked for because the first was slower than usual",
            metrics.hedged.clone(),
        );
        registry.register(
            "retried_calls",
            "Calls that another replica was asked for because one failed",
            metrics.retried.clone(),
        );
        registry.register("lost_calls", "Calls that no replica of the shard answered", metrics.lost.clone());
        registry.register(
            "replica_up",
            "1 if the replica is asked, 0 while it rests or its health says that it does not serve",
            metrics.up.clone(),
        );
        registry.register(
            "replica_rests",
            "Times that a replica began to rest after failures in a row",
            metrics.rests.clone(),
        );
        registry.register(
            "further_rounds",
            "Times that shards were asked again because more of the best could be there",
            metrics.rounds.clone(),
        );
        registry.register(
            "coverage_ratio",
            "Share of the videos of the index that an answer was chosen from",
            metrics.coverage.clone(),
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
        }
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

    /// Gives every metric a value.
    pub(super) fn set_example(&self, index: &str) {
        drop(self.of_shard(index, 0));
        let labels =
            ReplicaLabels { index: index.to_owned(), shard: 0, replica: "10.0.0.1:50051".to_owned() };
        self.up(&labels, true);
        self.rested(&labels);
        self.asked_again(index);
        self.covered(index, 1.0);
    }
}
