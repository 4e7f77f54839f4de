//! The configuration of `shortlist serve`: file, environment and flags.
//!
//! What flows in: a TOML file, environment variables such as `SHORTLIST_SERVE_LIMITS__MAX_K`, and flags. Variables
//! override the file, and flags override both. What flows out: the options of the engine and of the service. Unknown
//! keys are errors: they are typing errors, or settings of another release.
//!
//! | file | duty |
//! |---|---|
//! | `access.rs`    | keys, tokens, certificates, the audit record |
//! | `connections.rs` | the limits on connections |
//! | `duration.rs`  | durations |
//! | `key_file.rs`  | the keys, read again when the file changes |
//! | `limits.rs`    | the limits on requests |
//! | `own_limits.rs` | the limits of a key or role |
//! | `telemetry.rs` | logs |
//!
//! ```toml
//! listen = "127.0.0.1:50051"      # host and port; port 0 picks a free port
//! admin_listen = ""               # another address for Admin; default: that of listen
//! metrics_listen = ""             # another address for /metrics; default: that of listen
//! insecure = false                # listen on addresses that other machines reach without TLS and keys
//! allowed_hosts = []              # names of this server, in addition to localhost, for calls without a key
//! audit = ""                      # record of changes and refusals: a file, "stderr" or "off"; default: "stderr" with
//!                                 # keys or tokens, else "off"
//! threads = 0                     # threads of the compute pool; 0 for one per core
//! memory = "mapped"               # or "resident": search a copy in memory, on huge pages
//! poll_interval = "1s"            # interval at which to look for new publications
//! drain_timeout = "10s"           # how long calls in flight may continue at shutdown
//! log = "info"                    # which events to log, in the syntax of RUST_LOG
//! log_format = "text"             # or "json"
//! scrub_bytes_per_second = 8388608 # bytes of what serves whose checksums are compared in the background; 0 for none
//! recall_sample = 0.01            # share of searches whose recall is measured, while the server is idle
//!
//! [indexes]                       # name = folder
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
//! max_cost_ms_per_second = 0      # milliseconds of one thread that the searches of one client may be expected
//!                                 # to take per second; 0 for any
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
mod connections;
mod duration;
mod key_file;
mod limits;
mod own_limits;
pub mod telemetry;
mod whole;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Environment, File, FileFormat, Source};
use serde::Deserialize;

use crate::engine::{EngineOptions, GateOptions, RebuildOptions, SampleOptions};
use crate::index::MemoryMode;
use crate::service::{Access, AccessOptions, Audit, KeyOptions, ServiceLimits, ServiceOptions};

pub use self::access::{JwtConfig, TlsConfig};
pub use self::connections::ConnectionsConfig;
use self::duration::duration;
pub use self::key_file::key_file;
pub use self::limits::LimitsConfig;
use self::telemetry::LogFormat;

/// The prefix of the environment variables. `__` separates the names of nested keys.
pub const ENVIRONMENT_PREFIX: &str = "SHORTLIST_SERVE_";

/// Why the configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or the environment has an unknown key or an invalid value.
    #[error("{origin}: {problem}")]
    Source {
        /// The path of the file, or `environment` and the variable.
        origin: String,
        /// The key and the problem.
        problem: String,
    },
    /// A value is out of range, or contradicts another value.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// The key.
        key: &'static str,
        /// The valid values.
        expected: String,
        /// The actual value.
        found: String,
    },
    /// A port would be open to other machines without protection.
    #[error(
        "{key}: other machines reach {address}, so it needs {lacks}: set `certificate` and `key` in [tls], and [[keys]] \
         (`shortlist key` makes one) or [jwt]. Otherwise listen on 127.0.0.1, or set `insecure = true` if nobody but \
         your own clients reaches this address"
    )]
    Exposed {
        /// The setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What is missing.
        lacks: &'static str,
    },
}

/// The most threads of a pool.
const MOST_THREADS: usize = 4096;

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
    /// Where changes and refusals are recorded: a file, `stderr` or `off`. If empty, `stderr` with keys or tokens.
    pub audit: String,
    /// Encryption.
    pub tls: TlsConfig,
    /// Static keys.
    #[serde(deserialize_with = "access::keys")]
    pub keys: Vec<KeyOptions>,
    /// Signed tokens.
    pub jwt: JwtConfig,
    /// The folder of each index, by name.
    pub indexes: BTreeMap<String, PathBuf>,
    /// Threads of the compute pool; 0 for one per core.
    #[serde(deserialize_with = "whole::whole")]
    pub threads: usize,
    /// The memory that searches read.
    pub memory: MemoryMode,
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
    /// The share of searches whose recall is measured.
    pub recall_sample: f64,
    /// Bytes per second of what serves whose checksums are compared in the background; 0 for none.
    #[serde(deserialize_with = "whole::whole")]
    pub scrub_bytes_per_second: usize,
    /// The limits on requests.
    pub limits: LimitsConfig,
    /// The limits on connections.
    pub connections: ConnectionsConfig,
    /// When and how generations are rebuilt.
    pub rebuild: RebuildOptions,
    /// The requirements on a generation before it may serve.
    pub gate: GateOptions,
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
            audit: String::new(),
            tls: TlsConfig::default(),
            keys: Vec::new(),
            jwt: JwtConfig::default(),
            indexes: BTreeMap::new(),
            threads: 0,
            memory: MemoryMode::default(),
            poll_interval: service.poll_interval,
            drain_timeout: service.drain_timeout,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            recall_sample: SampleOptions::default().share,
            scrub_bytes_per_second: 8 << 20,
            limits: LimitsConfig::default(),
            connections: ConnectionsConfig::default(),
            rebuild: RebuildOptions::default(),
            gate: GateOptions::default(),
        }
    }
}

impl ServeConfig {
    /// Loads the configuration: the defaults, overridden by `file` if given, overridden by the environment.
    ///
    /// # Errors
    /// [`ConfigError`], with the file or the environment, and the key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut variables = HashMap::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| is_setting(name)) else { continue };
            let value = value.into_string().map_err(|value| ConfigError::Source {
                origin: origin_of(name),
                problem: format!("expected UTF-8, found {}", value.display()),
            })?;
            variables.insert(name.to_owned(), value);
        }
        Self::from_sources(file, variables)
    }

    fn from_sources(file: Option<&Path>, variables: HashMap<String, String>) -> Result<Self, ConfigError> {
        let mut merged = Config::builder();
        if let Some(path) = file {
            let source = File::from(path).format(FileFormat::Toml).required(true);
            // The file is first read on its own, because an error in the merged configuration would not name its origin.
            Self::from_one(source.clone(), path.display().to_string())?;
            merged = merged.add_source(source);
        }
        // So is each variable.
        for (name, value) in variables.iter().filter(|(name, _)| is_setting(name)) {
            let only = HashMap::from([(name.clone(), value.clone())]);
            Self::from_one(environment(only), origin_of(name))?;
        }
        let config =
            merged.add_source(environment(variables)).build().and_then(Config::try_deserialize::<Self>);
        let config = config.map_err(|error| ConfigError::Source {
            origin: "configuration".to_owned(),
            problem: error.to_string(),
        })?;
        config.check()?;
        Ok(config)
    }

    fn from_one(source: impl Source + Send + Sync + 'static, origin: String) -> Result<Self, ConfigError> {
        let config = Config::builder().add_source(source).build().and_then(Config::try_deserialize);
        config.map_err(|error| ConfigError::Source { origin, problem: error.to_string() })
    }

    /// Checks the ranges of the values, and that they fit together.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first that is invalid.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, expected: &str, found: &dyn std::fmt::Debug| {
            Err(ConfigError::Value { key, expected: expected.to_owned(), found: format!("{found:?}") })
        };
        if self.poll_interval.is_zero() {
            return value("poll_interval", "more than 0s", &self.poll_interval);
        }
        // More are a mistake, and each takes memory.
        let threads = [("threads", self.threads), ("rebuild.threads", self.rebuild.threads)];
        if let Some((key, found)) = threads.into_iter().find(|(_, threads)| *threads > MOST_THREADS) {
            return value(key, &format!("at most {MOST_THREADS}"), &found);
        }
        if self.indexes.keys().any(String::is_empty) {
            return value("indexes", "a name for each folder", &"");
        }
        self.check_access()?;
        self.check_own_limits()?;
        if self.limits.service.caller.max_deadline.is_zero() {
            return value("limits.max_deadline", "more than 0s", &self.limits.service.caller.max_deadline);
        }
        let counts = [("rebuild.keep_generations", self.rebuild.keep_generations), ("gate.k", self.gate.k)];
        let rebuild = &self.rebuild;
        let gate = &self.gate;
        for (key, most, found) in [
            ("rebuild.delta_share", f64::MAX, rebuild.delta_share),
            ("rebuild.deleted_share", 1.0, rebuild.deleted_share),
            ("recall_sample", 1.0, self.recall_sample),
            ("gate.min_recall", 1.0, gate.min_recall),
            ("gate.max_recall_loss", 1.0, gate.max_recall_loss),
            ("gate.min_overlap", 1.0, gate.min_overlap),
            ("gate.min_videos_share", 1.0, gate.min_videos_share),
            ("gate.max_p99_ratio", f64::MAX, gate.max_p99_ratio),
        ] {
            // NaN is in no range.
            if !(0.0..=most).contains(&found) {
                let expected = if most == 1.0 { "0 to 1" } else { "0 or more" };
                return value(key, expected, &found);
            }
        }
        let at_least_one = self.limits.counts().into_iter().chain(counts);
        if let Some((key, found)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return value(key, "at least 1", &found);
        }
        if let Some(key) = self.connections.zero() {
            return value(key, "more than 0", &0);
        }
        let ServiceLimits { max_batch, max_in_flight, .. } = self.limits.service;
        if max_in_flight < max_batch {
            let expected = format!("at least limits.max_batch, {max_batch}, to admit a full batch");
            return value("limits.max_in_flight", &expected, &max_in_flight);
        }
        Ok(())
    }

    /// Returns the options of the engine.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            indexes: self.indexes.iter().map(|(name, dir)| (name.clone(), dir.clone())).collect(),
            threads: self.threads,
            limits: self.limits.engine,
            memory: self.memory,
            is_writable: true,
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
            audit,
        })
    }

    /// Returns the options of the service.
    pub fn service_options(&self, access: Access) -> ServiceOptions {
        ServiceOptions {
            access,
            poll_interval: self.poll_interval,
            drain_timeout: self.drain_timeout,
            limits: self.limits.service,
            connections: self.connections.options(),
        }
    }
}

/// Returns whether a variable of this name is a setting. Letter case does not count.
fn is_setting(name: &str) -> bool {
    name.to_uppercase().starts_with(ENVIRONMENT_PREFIX)
}

fn origin_of(variable: &str) -> String {
    format!("environment: {variable}")
}

/// Returns the settings among environment variables.
fn environment(variables: HashMap<String, String>) -> Environment {
    let prefixed = Environment::with_prefix(ENVIRONMENT_PREFIX).prefix_separator("").separator("__");
    prefixed.source(Some(variables))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::service::{OwnLimits, Role};

    fn variables(of: &[(&str, &str)]) -> HashMap<String, String> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn load(text: &str, of: &[(&str, &str)]) -> Result<ServeConfig, ConfigError> {
        ServeConfig::from_sources(Some(file(text).path()), variables(of))
    }

    #[test]
    fn counts_are_whole_numbers_that_make_sense() {
        for (text, expected) in [
            ("[limits]\nmax_k = 1.5\n", "1.5"),
            ("[limits]\nmax_k = -1\n", "-1"),
            ("threads = 0.5\n", "0.5"),
            ("threads = 100000\n", "threads: expected at most 4096, found 100000"),
        ] {
            let error = load(text, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let config = load(
            "threads = 3\nmemory = 'resident'\npoll_interval = '250ms'\nlog_format = 'json'\n[indexes]\nVideos = 'a/b'\n[limits]\nmax_k = 10\nmax_seeds = 5\n",
            &[("SHORTLIST_SERVE_LIMITS__MAX_K", "20"), ("SHORTLIST_SERVE_DRAIN_TIMEOUT", "2s"), ("OTHER", "x")],
        )
        .unwrap();
        let mut expected = ServeConfig {
            threads: 3,
            memory: MemoryMode::Resident,
            poll_interval: Duration::from_millis(250),
            drain_timeout: Duration::from_secs(2),
            log_format: LogFormat::Json,
            indexes: BTreeMap::from([("Videos".to_owned(), PathBuf::from("a/b"))]),
            ..ServeConfig::default()
        };
        expected.limits.engine.max_k = 20;
        expected.limits.engine.max_seeds = 5;
        assert_eq!(config, expected);
        assert_eq!(config.engine_options().limits.max_k, 20);
        assert_eq!(config.engine_options().memory, MemoryMode::Resident);
        assert_eq!(config.service_options(Access::default()).drain_timeout, Duration::from_secs(2));
    }

    #[test]
    fn the_documented_settings_are_the_defaults() {
        let block = include_str!("mod.rs").lines().skip_while(|line| *line != "//! ```toml").skip(1);
        let lines =
            block.take_while(|line| *line != "//! ```").map(|line| line.trim_start_matches("//!").trim());
        let documented = load(&lines.collect::<Vec<_>>().join("\n"), &[]).unwrap();
        let indexes = BTreeMap::from([("videos".to_owned(), PathBuf::from("index-data/videos"))]);
        assert_eq!(documented, ServeConfig { indexes, ..ServeConfig::default() });
    }

    #[test]
    fn refuses_unknown_keys_naming_key_and_file() {
        let text = "thread = 3\n";
        let path = file(text);
        let error = ServeConfig::from_sources(Some(path.path()), variables(&[])).unwrap_err().to_string();
        assert!(error.starts_with(&path.path().display().to_string()), "{error}");
        assert!(error.contains("unknown field `thread`"), "{error}");
        let error = load("[limits]\nmax_kk = 3\n", &[]).unwrap_err().to_string();
        assert!(error.contains("unknown field `max_kk`"), "{error}");
        let error = load("", &[("SHORTLIST_SERVE_LISTN", "x")]).unwrap_err().to_string();
        assert!(error.starts_with("environment: SHORTLIST_SERVE_LISTN: unknown field `listn`"), "{error}");
        let both = [("SHORTLIST_SERVE_THREADS", "2"), ("SHORTLIST_SERVE_LIMITS__MAX_K", "many")];
        let error = load("", &both).unwrap_err().to_string();
        assert!(error.starts_with("environment: SHORTLIST_SERVE_LIMITS__MAX_K: "), "{error}");
        let error = load("", &[("SHORTLIST_SERVE_POLL_INTERVAL", "soon")]).unwrap_err().to_string();
        assert!(error.starts_with("environment: SHORTLIST_SERVE_POLL_INTERVAL: "), "{error}");
    }

    #[test]
    fn refuses_values_that_cannot_be_used_naming_the_key() {
        let error = load("[limits]\nmax_k = 'many'\n", &[]).unwrap_err().to_string();
        assert!(error.contains("limits.max_k") && error.contains("many"), "{error}");
        let error = load("poll_interval = 'soon'\n", &[]).unwrap_err().to_string();
        assert!(error.contains("poll_interval") && error.contains("\"soon\""), "{error}");
        let error = load("memory = 'huge'\n", &[]).unwrap_err().to_string();
        assert!(error.contains("memory") && error.contains("huge"), "{error}");
        let error = load("drain_timeout = '-1s'\n", &[]).unwrap_err().to_string();
        assert!(error.contains("drain_timeout") && error.contains("\"-1s\""), "{error}");
        let error = load("poll_interval = '0s'\n", &[]).unwrap_err().to_string();
        assert_eq!(error, "poll_interval: expected more than 0s, found 0ns");
        let error = load("[limits]\nmax_seeds = 0\n", &[]).unwrap_err().to_string();
        assert_eq!(error, "limits.max_seeds: expected at least 1, found 0");
        let error = load("[rebuild]\ndeleted_share = 1.5\n", &[]).unwrap_err().to_string();
        assert_eq!(error, "rebuild.deleted_share: expected 0 to 1, found 1.5");
        let error = load("[gate]\nmin_recall = nan\n", &[]).unwrap_err().to_string();
        assert_eq!(error, "gate.min_recall: expected 0 to 1, found NaN");
        let error = load("[gate]\nmin_videos_share = 1.01\n", &[]).unwrap_err().to_string();
        assert_eq!(error, "gate.min_videos_share: expected 0 to 1, found 1.01");
        let error = load("[gate]\nmax_p99_ratio = -1.0\n", &[]).unwrap_err().to_string();
        assert_eq!(error, "gate.max_p99_ratio: expected 0 or more, found -1.0");
        let error = load("[limits]\nmax_in_flight = 8\n", &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Value { key: "limits.max_in_flight", .. }), "{error}");
    }

    #[test]
    fn keys_and_roles_have_limits_of_their_own() {
        let key = |limits: &str| {
            let hash = "0".repeat(64);
            format!("[[keys]]\nname = 'a'\nsha256 = '{hash}'\nroles = ['read']\nlimits = {{ {limits} }}\n")
        };
        let role =
            "[limits.roles.read]\nallow_exact = false\nmax_searches_per_second = 0\nmax_deadline = '2s'\n";
        let variables = [("SHORTLIST_SERVE_LIMITS__ROLES__ADMIN__MAX_OFFSET", "7")];
        let config = load(&format!("{}{role}", key("max_k = 5, max_batch = 2")), &variables).unwrap();
        let expected = OwnLimits { max_k: Some(5), max_batch: Some(2), ..OwnLimits::default() };
        assert_eq!(config.keys[0].limits, expected);
        let of_read = OwnLimits {
            allow_exact: Some(false),
            max_searches_per_second: Some(0),
            max_deadline: Some(Duration::from_secs(2)),
            ..OwnLimits::default()
        };
        let of_admin = OwnLimits { max_offset: Some(7), ..OwnLimits::default() };
        assert_eq!(config.limits.roles, [(Role::Read, of_read), (Role::Admin, of_admin)].into());
        for (text, problem) in [
            (key("max_k = 1.5"), "1.5"),
            (key("max_k = -1"), "-1"),
            (key("max_message_bytes = 5"), "unknown field `max_message_bytes`"),
            (key("max_k = 0"), "max_k: expected 1 to 10000, which holds for all, found 0 for the key \"a\""),
            (key("max_interests = 0"), "max_interests: expected at least 1, found 0 for the key \"a\""),
            ("[limits.roles.root]\nmax_k = 5\n".to_owned(), "unknown role \"root\""),
            ("[limits.roles.read]\nmax_kk = 5\n".to_owned(), "unknown field `max_kk`"),
            ("[limits.roles.read]\nmax_deadline = 'soon'\n".to_owned(), "\"soon\""),
            ("[limits.roles.read]\nmax_deadline = '0s'\n".to_owned(), "max_deadline: expected more than 0s"),
            (
                "[limits]\nmax_ef_search = 50\n[limits.roles.read]\nmax_ef_search = 51\n".to_owned(),
                "max_ef_search: expected 1 to 50, which holds for all, found 51 for the role read",
            ),
        ] {
            let error = load(&text, &[]).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn refuses_a_file_that_is_not_there_or_not_toml() {
        let missing = Path::new("/nonexistent/serve.toml");
        let error = ServeConfig::from_sources(Some(missing), variables(&[])).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/serve.toml: "), "{error}");
        let error = load("listen = \n", &[]).unwrap_err().to_string();
        assert!(error.contains("TOML"), "{error}");
    }
}
