//! The configuration of `shortlist serve`: file, environment and flags.
//!
//! What flows in: a TOML file, environment variables such as `SHORTLIST_SERVE_LIMITS__MAX_K`, and flags. Variables
//! override the file, and flags override both. What flows out: the options of the engine and of the service. Unknown
//! keys are errors: they are typing errors, or settings of another release.
//!
//! | file | duty |
//! |---|---|
//! | `sources.rs`   | merges the file and the environment |
//! | `check.rs`     | the ranges of the values |
//! | `access.rs`    | keys, tokens, certificates, the audit record |
//! | `key_file.rs`  | the keys, read again when the file changes |
//! | `own_limits.rs` | the ranges of the limits of a key or role |
//! | `cluster.rs`   | indexes that several servers serve |
//! | `telemetry.rs` | logs |
//! | `error.rs`     | why the configuration cannot be loaded |
//!
//! ```toml
//! listen = "127.0.0.1:50051"      # host and port; port 0 picks a free port
//! admin_listen = ""               # another address for Admin; default: that of listen
//! metrics_listen = ""             # another address for /metrics; default: that of listen
//! insecure = false                # listen on addresses that other machines reach without TLS and keys
//! allowed_hosts = []              # names of this server, in addition to localhost, for calls without a key
//! allowed_origins = []            # origins of web pages that may call in JSON, such as "https://console.example"
//! web_page = true                 # a web page at `/` that shows the indexes; it calls in JSON, with the key that is typed in
//! web_page_images = []            # origins that it may load pictures of videos from, such as "https://img.example"
//! audit = ""                      # record of changes and refusals: a file, "stderr" or "off"; default: "stderr" with
//!                                 # keys or tokens, else "off"
//! aliases = ""                    # file of names that stand for indexes, which `shortlist alias` sets, such as
//!                                 # "aliases.json"; read again when it changes; "": no such names
//! threads = 0                     # threads of the compute pool; 0 for one per core
//! memory = "auto"                 # search a copy in memory, on huge pages, while there is enough memory, else the mapped
//!                                 # file; "mapped": always the file; "resident": always the copy
//! poll_interval = "1s"            # interval at which to look for new publications
//! follow = false                  # follow the log of another server that writes the indexes, and take no writes
//! drain_timeout = "10s"           # how long calls in flight may continue at shutdown
//! log = "info"                    # which events to log, in the syntax of RUST_LOG
//! log_format = "text"             # or "json"
//! slow_search_threshold = "0s"    # searches that take longer are logged, target shortlist::slow_search; 0s for none
//! slow_search_per_second = 10     # of them, logged per second; the next line says how many were left out
//! slow_search_embeddings = false  # log the embeddings of their queries, too
//! scrub_bytes_per_second = 8388608 # bytes of what serves whose checksums are compared in the background; 0 for none
//! recall_sample = 0.01            # share of searches whose recall is measured, while the server is idle
//!
//! [indexes]                       # name = folder, or a bucket: "s3://bucket/prefix" or "file:///folder"
//! videos = "index-data/videos"
//!
//! [limits]
//! max_k = 10000
//! max_ef_search = 20000
//! max_seeds = 100
//! max_batch = 256                 # searches in one BatchSearch
//! max_in_flight = 1024            # searches queued or computing; further searches are rejected
//! max_message_bytes = 4194304     # largest message to read
//! max_response_bytes = 67108864   # largest message to send
//! max_stream_window = 16          # requests of one stream in flight
//! max_batch_writes = 1000         # videos in one batch of writes, and in one Get
//! max_concurrent_writes = 256     # batches of writes in flight; further batches are rejected
//! allow_exact = true              # whether searches may score every video
//! max_offset = 1000000            # largest offset of a page; offset + k is at most max_k in any case
//! max_interests = 16              # interests in one query
//! max_queued_per_client = 1024    # searches of one client that wait; further searches are rejected
//! max_searches_per_second = 0     # searches of one client per second; 0 for any number
//! max_cost_ms_per_second = 0      # milliseconds of one thread that the searches and lookups of one client may be
//!                                 # expected to take per second; 0 for any
//! max_deadline = "60s"            # longest time for one search, and for one without a deadline
//! max_bytes_in_flight = 67108864  # memory of all requests and answers in flight; further ones are rejected
//! max_connection_bytes = 50331648 # the same for one connection
//!
//! # [limits.roles.read]           # limits of the callers with this role, in place of those above: allow_exact, max_k,
//! # max_offset = 500              # max_ef_search, max_batch, max_offset, max_interests, max_queued_per_client,
//!                                 # max_searches_per_second, max_cost_ms_per_second, max_deadline. Of several roles, the
//!                                 # most generous limit that one of them sets
//!
//! [connections]
//! max_connections = 1024          # if all are taken, the oldest connection without a call makes room
//! max_connections_per_peer = 512  # the same for the connections of one address
//! max_streams = 256               # calls at a time on one connection
//! handshake_timeout = "10s"       # for the preface of HTTP/2, or the head of a request of HTTP/1
//! message_timeout = "30s"         # for a request to arrive
//! stall_timeout = "30s"           # for the client to take a part of an answer
//! max_age = "0s"                  # age at which a connection is closed; 0s for never
//! max_age_grace = "30s"           # for the calls in flight on a connection of that age
//!
//! [rebuild]
//! threads = 0                     # threads that build while the server searches; 0 for half of the cores
//! delta_share = 0.1               # rebuild once the delta is this share of the generation, or the log is as
//!                                 # large as the generation; 0 for never
//! deleted_share = 0.1             # rebuild once this share of the generation has a tombstone; 0 for never
//! min_changes = 10000             # do not rebuild for fewer changes than this
//! keep_generations = 2            # generations to keep of an index that is written to
//! keep_writes = 100000            # writes that the log keeps after all generations contain them, for batch builds
//!                                 # that lag behind; at most a quarter of the number of videos
//!
//! [rebuild.training_queries]      # name = file of user embeddings; default: the users of the previous build
//!
//! [gate]                          # quality gate: requirements on a generation before it may serve
//! queries = 500                   # most queries to measure with; 0 disables the measurements
//! k = 100
//! min_recall = 0.8                # at the default effort; a lower one passes if that of the previous generation is as low
//! max_recall_loss = 0.05          # compared with the previous generation
//! min_overlap = 0.0               # share of the previous answers; not checked if the embedding model changed
//! max_p99_ratio = 3.0             # p99 time as a multiple of the previous one; 0 for no limit
//! min_videos_share = 0.5          # share of the videos that serve; fewer are refused; 0 for any number
//! verify = false                  # check every section of a new generation, as `shortlist verify` does
//!
//! [gate.query_files]              # name = file of user embeddings; default: sampled queries, or held-out users
//!
//! [cluster]                       # indexes that several servers serve
//! cache = ""                      # folder for the generations of indexes in buckets, in folders with their names
//! shard = "0/1"                   # which shard of each index in a bucket this server has, from 0, and of how many
//! nats = []                       # servers of NATS whose JetStream has the logs; none if each log is a file here
//! nats_credentials = ""           # file of credentials for them
//! nats_ca = ""                    # certificates of their authorities, in addition to those of the system
//! nats_replicas = 3               # how many of them keep a stream that has yet to be created
//! advertise = ""                  # host and port at which routers reach this server; "" to not announce it
//! replica = ""                    # name of this server in that; default: the host name
//!
//! [shadow]                        # of `shortlist shadow`, which repeats searches on a candidate
//! cpu_share = 0.1                 # processor time that it takes, as a share of one core: greater than 0, at most 1
//! servers = []                    # addresses of servers that may be candidates; queries of users are sent to them
//! # key_file = "shadow.key"       # a file with the key that they want
//! # ca = "ca.pem"                 # the authorities of their certificates; default: those of the system
//! # insecure = false              # send the key to other machines without encryption
//!
//! [route]                         # of `route`: how to reach the servers of shards. A router checks the limits of each caller,
//!                                 # and the servers check those of the key of the router. It does not queue searches
//!                                 # and does not know their cost, so of its own limits, max_queued_per_client and
//!                                 # max_cost_ms_per_second have no effect; max_ef_search limits what a request names
//! # key_file = "route.key"        # a file with the key that they want
//! # ca = "ca.pem"                 # the authorities of their certificates; without it, connections are not encrypted
//! # certificate = "route.pem"     # the certificate of the router, if they require one
//! # certificate_key = "route.key.pem"
//! # domain = "shortlist.internal" # the name in their certificates; default: the host of the address
//! # insecure = false              # send the key to other machines without encryption
//! # nats = []                     # servers of NATS, where the replicas of maps announce themselves
//! # nats_credentials = ""         # file of credentials for them
//! # nats_ca = ""                  # certificates of their authorities, in addition to those of the system
//!
//! [route.maps]                    # name = where the map of the index is
//! # videos = "s3://bucket/videos"
//!
//! [route.shards]                  # name = replicas joined by +, shards by comma
//! # videos = "10.0.0.1:50051+10.0.0.2:50051,10.0.0.3:50051+10.0.0.4:50051"
//!
//! [traces]                        # OpenTelemetry traces of calls
//! endpoint = ""                   # collector of OTLP over gRPC, such as "http://127.0.0.1:4317"; "" for no traces
//! sample = 0.01                   # share of the calls without a traceparent that are traced; others follow its flag
//! max_per_second = 100            # traces of each of the two kinds per second; further calls are not traced
//! service_name = "shortlist"
//!
//! [tls]                           # encrypts every port; the files are read again when they change
//! # certificate = "server.pem"    # certificate and those that lead to its authority
//! # key = "server.key"
//! # client_ca = "clients.pem"     # clients need a certificate of this authority, in addition to a key
//!
//! # [[keys]]                      # one of many; without keys and tokens, everybody may do everything. Read again when
//!                                 # this file changes, as no other setting in it
//! # name = "ranking"              # for the audit
//! # sha256 = "…"                  # `shortlist key` makes a key and its hash
//! # roles = ["read"]              # read, write, takedown, admin; none implies another
//! # indexes = ["videos"]          # default: all
//! # limits = { max_offset = 500 } # limits of this key, in place of those of its roles
//!
//! [jwt]                           # tokens signed with HS256, RS256 or ES256
//! # jwks = "jwks.json"            # the keys; read again when the file changes
//! # issuer = "https://id.example"
//! # audience = "shortlist"
//! ```

mod access;
mod check;
mod cluster;
mod error;
mod key_file;
mod limits;
mod own_limits;
mod sources;
pub mod telemetry;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::base::duration::duration;
use crate::base::whole::whole;
use crate::engine::{EngineOptions, GateOptions, MemoryGauge, MemoryPolicy, RebuildOptions, SampleOptions};
#[cfg(feature = "cluster")]
use crate::router::RouteOptions;
use crate::service::{
    Access, AccessOptions, Audit, ConnectionOptions, KeyOptions, PageOptions, ServiceOptions, ShadowOptions,
    SlowSearchOptions, TraceOptions,
};

pub use self::access::{JwtConfig, TlsConfig};
pub use self::cluster::ClusterConfig;
pub use self::error::ConfigError;
pub use self::key_file::key_file;
pub use self::limits::LimitsConfig;
pub use self::sources::ENVIRONMENT_PREFIX;
use self::telemetry::LogFormat;

/// The configuration of `shortlist serve`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Host and port to listen on; port 0 picks a free port.
    pub listen: String,
    /// Another host and port for `Admin`; that of `listen` if empty.
    pub admin_listen: String,
    /// Another host and port for `GET /metrics`; that of `listen` if empty.
    pub metrics_listen: String,
    /// Whether to listen on addresses that other machines reach, without TLS and keys.
    pub insecure: bool,
    /// Names of this server, in addition to those of loopback, for calls without a key.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call in JSON, in addition to that of this server.
    pub allowed_origins: Vec<String>,
    /// Whether there is a web page at `/`.
    pub web_page: bool,
    /// The origins that it may load pictures of videos from.
    pub web_page_images: Vec<String>,
    /// Where changes and refusals are recorded: a file, `stderr` or `off`. If empty, `stderr` with keys or tokens.
    pub audit: String,
    /// Encryption.
    pub tls: TlsConfig,
    /// Static keys.
    pub keys: Vec<KeyOptions>,
    /// Signed tokens.
    pub jwt: JwtConfig,
    /// The folder or the bucket of each index, by name.
    pub indexes: BTreeMap<String, PathBuf>,
    /// The file that keeps names that stand for indexes; without it, there are none.
    pub aliases: PathBuf,
    /// Threads of the compute pool; 0 for one per core.
    #[serde(deserialize_with = "whole")]
    pub threads: usize,
    /// The memory that searches read.
    pub memory: MemoryPolicy,
    /// Whether another server writes the indexes: its writes are returned, and none is taken.
    pub follow: bool,
    /// The interval at which to look for new publications.
    #[serde(deserialize_with = "duration")]
    pub poll_interval: Duration,
    /// How long calls in flight may continue at shutdown.
    #[serde(deserialize_with = "duration")]
    pub drain_timeout: Duration,
    /// Which events are logged, in the syntax of `RUST_LOG`.
    pub log: String,
    /// The format of a log line.
    pub log_format: LogFormat,
    /// Searches that take longer are logged; zero for none.
    #[serde(deserialize_with = "duration")]
    pub slow_search_threshold: Duration,
    /// How many of them are logged per second.
    #[serde(deserialize_with = "whole")]
    pub slow_search_per_second: usize,
    /// Whether the log has the embeddings of their queries.
    pub slow_search_embeddings: bool,
    /// Where traces go to, and how many.
    pub traces: TraceOptions,
    /// The share of searches whose recall is measured.
    pub recall_sample: f64,
    /// Bytes per second of what serves whose checksums are compared in the background; 0 for none.
    #[serde(deserialize_with = "whole")]
    pub scrub_bytes_per_second: usize,
    /// The limits on requests.
    pub limits: LimitsConfig,
    /// The limits on connections.
    pub connections: ConnectionOptions,
    /// When and how generations are rebuilt.
    pub rebuild: RebuildOptions,
    /// The requirements on a generation before it may serve.
    pub gate: GateOptions,
    /// Indexes that several servers serve.
    pub cluster: ClusterConfig,
    /// How searches may be repeated on a candidate.
    pub shadow: ShadowOptions,
    /// How `route` reaches the servers of shards.
    #[cfg(feature = "cluster")]
    pub route: RouteOptions,
}

impl Default for ServeConfig {
    fn default() -> Self {
        let service = ServiceOptions::default();
        Self {
            listen: "127.0.0.1:50051".to_owned(),
            admin_listen: String::new(),
            metrics_listen: String::new(),
            insecure: false,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            web_page: true,
            web_page_images: Vec::new(),
            audit: String::new(),
            tls: TlsConfig::default(),
            keys: Vec::new(),
            jwt: JwtConfig::default(),
            indexes: BTreeMap::new(),
            aliases: PathBuf::new(),
            threads: 0,
            memory: MemoryPolicy::Auto,
            follow: false,
            poll_interval: service.poll_interval,
            drain_timeout: service.drain_timeout,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            slow_search_threshold: service.slow_searches.threshold,
            slow_search_per_second: service.slow_searches.max_per_second,
            slow_search_embeddings: service.slow_searches.embeddings,
            traces: service.traces,
            recall_sample: SampleOptions::default().share,
            scrub_bytes_per_second: 8 << 20,
            limits: LimitsConfig::default(),
            connections: ConnectionOptions::default(),
            rebuild: RebuildOptions::default(),
            gate: GateOptions::default(),
            cluster: ClusterConfig::default(),
            shadow: ShadowOptions::default(),
            #[cfg(feature = "cluster")]
            route: RouteOptions::default(),
        }
    }
}

impl ServeConfig {
    /// Returns the options of the engine.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            indexes: self.indexes.iter().map(|(name, dir)| (name.clone(), dir.clone())).collect(),
            threads: self.threads,
            built_at: BTreeMap::new(),
            limits: self.limits.engine,
            memory: self.memory,
            memory_gauge: MemoryGauge::default(),
            is_writable: true,
            follows: self.follow,
            shared_logs: BTreeMap::new(),
            rebuild: self.rebuild.clone(),
            gate: self.gate.clone(),
            sample: SampleOptions { share: self.recall_sample },
            scrub_bytes_per_second: self.scrub_bytes_per_second as u64,
        }
    }

    /// Returns the options of access, with this record.
    ///
    /// # Errors
    /// If settings are missing.
    pub fn access_options(&self, audit: Audit) -> Result<AccessOptions, ConfigError> {
        Ok(AccessOptions {
            keys: self.keys.clone(),
            key_file: None,
            role_limits: self.limits.roles.clone(),
            tokens: self.jwt.options()?,
            tls: self.tls.options()?,
            allowed_hosts: self.allowed_hosts.clone(),
            allowed_origins: self.allowed_origins.clone(),
            audit,
        })
    }

    /// Returns the options of the service, without aliases.
    pub fn service_options(&self, access: Access) -> ServiceOptions {
        ServiceOptions {
            access,
            poll_interval: self.poll_interval,
            drain_timeout: self.drain_timeout,
            limits: self.limits.service,
            connections: self.connections,
            traces: self.traces.clone(),
            buckets: Vec::new(),
            aliases: Arc::default(),
            shadow: self.shadow.clone(),
            page: self.web_page.then(|| PageOptions { image_origins: self.web_page_images.clone() }),
            slow_searches: SlowSearchOptions {
                threshold: self.slow_search_threshold,
                max_per_second: self.slow_search_per_second,
                embeddings: self.slow_search_embeddings,
            },
        }
    }
}
