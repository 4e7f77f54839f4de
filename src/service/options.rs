//! The options of a server and their defaults.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::access::{Access, OwnLimits};
use super::aliases::Aliases;
use super::page::PageOptions;
use super::shadow::ShadowOptions;
use super::slow_search::SlowSearchOptions;
use super::traces::TraceOptions;
use crate::base::duration::duration;
use crate::bucket::BucketHealth;
use crate::engine::Limits;

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
    /// The limits on connections.
    pub connections: ConnectionOptions,
    /// Where traces go to.
    pub traces: TraceOptions,
    /// The buckets that indexes come from, by the name of the index.
    pub buckets: Vec<(String, Arc<BucketHealth>)>,
    /// Which searches are logged as slow.
    pub slow_searches: SlowSearchOptions,
    /// Names that stand for indexes.
    pub aliases: Arc<Aliases>,
    /// How searches may be repeated on a candidate.
    pub shadow: ShadowOptions,
    /// The web page at `/`; `None` for none.
    pub page: Option<PageOptions>,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
            limits: ServiceLimits::default(),
            access: Access::default(),
            connections: ConnectionOptions::default(),
            traces: TraceOptions::default(),
            buckets: Vec::new(),
            slow_searches: SlowSearchOptions::default(),
            aliases: Arc::default(),
            shadow: ShadowOptions::default(),
            page: Some(PageOptions::default()),
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
    /// Maximum memory of all requests and answers in flight, in bytes. Further ones are rejected.
    pub max_bytes_in_flight: usize,
    /// The same for one connection.
    pub max_connection_bytes: usize,
    /// What one caller may ask for.
    pub caller: CallerLimits,
}

/// Limits on what one caller may ask for. The defaults allow whatever the engine allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// Whether every video may be scored: searches with exact effort, and explanations.
    pub allow_exact: bool,
    /// Largest offset of a page.
    pub max_offset: usize,
    /// Most interests in one query.
    pub max_interests: usize,
    /// Maximum number of searches of one client that wait for the compute pool. Further searches are rejected.
    pub max_queued_per_client: usize,
    /// Searches of one client per second; 0 for any number.
    pub max_searches_per_second: usize,
    /// Expected cost of the searches and lookups of one client per second, in milliseconds of one thread; 0 for any.
    pub max_cost_ms_per_second: usize,
    /// Longest time for one search. It is also the deadline of a search without one.
    pub max_deadline: Duration,
}

impl CallerLimits {
    /// Returns the limits of a caller who has some of its own.
    pub(crate) fn with(&self, own: &OwnLimits) -> Self {
        Self {
            allow_exact: own.allow_exact.unwrap_or(self.allow_exact),
            max_offset: own.max_offset.unwrap_or(self.max_offset),
            max_interests: own.max_interests.unwrap_or(self.max_interests),
            max_queued_per_client: own.max_queued_per_client.unwrap_or(self.max_queued_per_client),
            max_searches_per_second: own.max_searches_per_second.unwrap_or(self.max_searches_per_second),
            max_cost_ms_per_second: own.max_cost_ms_per_second.unwrap_or(self.max_cost_ms_per_second),
            max_deadline: own.max_deadline.unwrap_or(self.max_deadline),
        }
    }
}

impl Default for CallerLimits {
    fn default() -> Self {
        Self {
            allow_exact: true,
            max_offset: 1_000_000,
            max_interests: Limits::MAX_INTERESTS,
            max_queued_per_client: 1024,
            max_searches_per_second: 0,
            max_cost_ms_per_second: 0,
            max_deadline: Duration::from_secs(60),
        }
    }
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
            caller: CallerLimits::default(),
            max_bytes_in_flight: 64 << 20,
            max_connection_bytes: 48 << 20,
        }
    }
}

/// Limits on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(expecting = "struct ConnectionsConfig", deny_unknown_fields, default)]
pub struct ConnectionOptions {
    /// Maximum number of connections. If all are taken, the oldest one that made no call makes room.
    pub max_connections: usize,
    /// The same for the connections of one address.
    pub max_connections_per_peer: usize,
    /// Maximum number of open HTTP/2 streams, and so of calls, per connection.
    pub max_streams: u32,
    /// How long a connection may take to begin: the preface of HTTP/2, or the head of a request of HTTP/1.
    #[serde(deserialize_with = "duration")]
    pub handshake_timeout: Duration,
    /// How long a request may take to arrive.
    #[serde(deserialize_with = "duration")]
    pub message_timeout: Duration,
    /// How long a part of an answer may wait for the client to take it.
    #[serde(deserialize_with = "duration")]
    pub stall_timeout: Duration,
    /// Age at which a connection is closed once its calls are answered; zero for never.
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
    /// How long calls in flight may continue on a connection of that age.
    #[serde(deserialize_with = "duration")]
    pub max_age_grace: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_peer: 512,
            // A full window of a busy client; what one connection can hold back is limited by this number.
            max_streams: 256,
            handshake_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            max_age: Duration::ZERO,
            max_age_grace: Duration::from_secs(30),
        }
    }
}
