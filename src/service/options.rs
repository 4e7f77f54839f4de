//! The options of a server and their defaults.

use std::time::Duration;

use super::access::Access;

/// The options of a server.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// The interval at which the engine looks for new publications.
    pub poll_interval: Duration,
    /// How long calls in flight may continue once the server shuts down.
    pub drain_timeout: Duration,
    /// The limits on requests.
    pub limits: ServiceLimits,
    /// Who may do what.
    pub access: Access,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
            limits: ServiceLimits::default(),
            access: Access::default(),
        }
    }
}

/// Limits on requests, in addition to those of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Maximum number of searches in one batch.
    pub max_batch: usize,
    /// Maximum number of searches queued or computing at a time. Further searches are rejected.
    pub max_in_flight: usize,
    /// Size of the largest message that the server reads, in bytes, after decompression.
    pub max_message_bytes: usize,
    /// Size of the largest message that the server sends, in bytes.
    pub max_response_bytes: usize,
    /// Maximum number of requests of one stream in flight. The server reads no further until one is answered.
    pub max_stream_window: usize,
    /// Maximum number of videos in one batch of writes, and in one Get.
    pub max_batch_writes: usize,
    /// Maximum number of batches of writes in flight. Further batches are rejected.
    pub max_concurrent_writes: usize,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            max_batch: 256,
            max_in_flight: 1024,
            max_message_bytes: 4 << 20,
            max_response_bytes: 64 << 20,
            max_stream_window: 16,
            max_batch_writes: 1000,
            max_concurrent_writes: 256,
        }
    }
}
