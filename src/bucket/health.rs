//! Whether a bucket is in reach, for metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whether a bucket is in reach, and how often something in it or on the way to it failed.
#[derive(Debug)]
pub struct BucketHealth {
    is_up: AtomicBool,
    failures: AtomicU64,
}

impl Default for BucketHealth {
    fn default() -> Self {
        Self { is_up: AtomicBool::new(true), failures: AtomicU64::new(0) }
    }
}

impl BucketHealth {
    /// Sets whether it is in reach, and returns whether it was.
    pub fn set_up(&self, is_up: bool) -> bool {
        self.is_up.swap(is_up, Ordering::Relaxed)
    }

    /// Counts failures.
    pub fn add_failures(&self, count: u64) {
        self.failures.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether it is in reach.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// How often something failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
