//! The buckets that indexes come from.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::{IndexLabels, register};
use crate::bucket::BucketHealth;

/// The metrics of buckets; without one, no series.
pub(super) struct BucketMetrics {
    buckets: Vec<(String, Arc<BucketHealth>)>,
    up: Family<IndexLabels, Gauge<u64, AtomicU64>>,
    failures: Family<IndexLabels, Counter>,
}

impl BucketMetrics {
    pub(super) fn new(registry: &mut Registry, buckets: Vec<(String, Arc<BucketHealth>)>) -> Self {
        let up = register(
            registry,
            "bucket_up",
            "1 if the last look at the bucket of the index succeeded, 0 if the bucket is out of reach or empty",
            Family::default(),
        );
        let failures = register(
            registry,
            "bucket_failures",
            "Looks at the bucket of the index that failed, and objects in it that were passed over",
            Family::default(),
        );
        Self { buckets, up, failures }
    }

    /// Takes over the state of each bucket.
    pub(super) fn observe(&self) {
        for (index, health) in &self.buckets {
            let labels = IndexLabels { index: index.clone() };
            self.up.get_or_create(&labels).set(health.is_up().into());
            let counter = self.failures.get_or_create(&labels);
            counter.inc_by(health.failures().saturating_sub(counter.get()));
        }
    }
}
