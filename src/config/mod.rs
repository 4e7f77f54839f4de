//! The set-up of `shortlist serve`: file, then environment, then flags.
//!
//! What flows in: a TOML file, variables such as `SHORTLIST_SERVE_LIMITS__MAX_K`, and flags, each of
//! which wins over the ones before. What flows out: the options of the engine and of the service. A key
//! that nobody knows is refused: it is a typing error, or a setting of another release.
//!
//! ```toml
//! listen = "127.0.0.1:50051"      # host and port; port 0 takes a free one
//! threads = 0                     # of the compute pool; 0 for one per core
//! memory = "mapped"               # or "resident": copied onto huge pages, in memory of the server
//! poll_interval = "1s"            # how often to look for new publications
//! drain_timeout = "10s"           # how long calls in flight may go on at shutdown
//! log = "info"                    # which events, as in RUST_LOG
//! log_format = "text"             # or "json"
//! recall_sample = 0.01            # share of searches that recall is measured with, in idle time
//!
//! [indexes]                       # name = folder
//! videos = "index-data/videos"
//!
//! [limits]
//! max_k = 10000
//! max_ef_search = 20000
//! max_seeds = 100
//! max_batch = 256                 # searches in one BatchSearch
//! max_in_flight = 1024            # searches queued or computing; one more is shed
//! max_message_bytes = 4194304     # read
//! max_response_bytes = 67108864   # sent
//! max_stream_window = 16          # requests of one stream in flight
//! max_batch_writes = 1000         # videos in one batch of writes, and in one Get
//! max_concurrent_writes = 256     # batches of writes in flight; one more is shed
//!
//! [rebuild]
//! threads = 0                     # that build beside the searches; 0 for half of the cores
//! delta_share = 0.1               # rebuild once so much of the generation was written since; 0 for never
//! deleted_share = 0.1             # rebuild once so much of it is gone; 0 for never
//! min_changes = 10000             # but not before so many videos are
//! keep_generations = 2            # of an index that is written to
//! keep_writes = 100000            # in the log although every generation knows of them, for batch builds; at most
//!                                 # a quarter as many as there are videos
//!
//! [rebuild.training_queries]      # name = file of user embeddings; else users of before teach
//!
//! [gate]                          # what a generation must be like to answer
//! queries = 500                   # users that are asked for; 0 lets every sound generation answer
//! k = 100
//! min_recall = 0.8                # at the default effort
//! max_recall_loss = 0.05          # against the generation before
//! min_overlap = 0.0               # of its answers; not asked of another embedding model
//! max_p99_ratio = 3.0             # of its time; 0 for any
//!
//! [gate.query_files]              # name = file of user embeddings; else users that asked, or were held out
//! ```

pub mod telemetry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Environment, File, FileFormat, Source};
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

use crate::config::telemetry::LogFormat;
use crate::engine::{EngineOptions, GateOptions, Limits, RebuildOptions, SampleOptions};
use crate::index::MemoryMode;
use crate::service::{ServiceLimits, ServiceOptions};

/// What the variables begin with; `__` stands between the names of nested keys.
pub const ENVIRONMENT_PREFIX: &str = "SHORTLIST_SERVE_";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or the environment has an unknown key or a value that cannot be used.
    #[error("{origin}: {problem}")]
    Source {
        /// The path of the file, or `environment`.
        origin: String,
        /// The key and what is wrong with it.
        problem: String,
    },
    /// The values contradict each other.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
}

/// The set-up of `shortlist serve`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Host and port to listen on; port 0 takes a free one.
    pub listen: String,
    /// The folder of each index, by name.
    pub indexes: BTreeMap<String, PathBuf>,
    /// Threads of the compute pool; 0 for one per core.
    pub threads: usize,
    /// Where indexes are searched.
    pub memory: MemoryMode,
    /// How often to look for new publications.
    #[serde(deserialize_with = "duration")]
    pub poll_interval: Duration,
    /// How long calls in flight may go on at shutdown.
    #[serde(deserialize_with = "duration")]
    pub drain_timeout: Duration,
    /// Which events are logged, as in `RUST_LOG`.
    pub log: String,
    /// The form of a log line.
    pub log_format: LogFormat,
    /// The share of searches that recall is measured with.
    pub recall_sample: f64,
    /// What callers may ask for.
    pub limits: LimitsConfig,
    /// When and how generations are built.
    pub rebuild: RebuildOptions,
    /// What a generation must be like to answer.
    pub gate: GateOptions,
}

impl Default for ServeConfig {
    fn default() -> Self {
        let service = ServiceOptions::default();
        Self {
            listen: "127.0.0.1:50051".to_owned(),
            indexes: BTreeMap::new(),
            threads: 0,
            memory: MemoryMode::default(),
            poll_interval: service.poll_interval,
            drain_timeout: service.drain_timeout,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            recall_sample: SampleOptions::default().share,
            limits: LimitsConfig::default(),
            rebuild: RebuildOptions::default(),
            gate: GateOptions::default(),
        }
    }
}

/// What callers may ask for: [`Limits`] and [`ServiceLimits`] under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // named and described there
pub struct LimitsConfig {
    pub max_k: usize,
    pub max_ef_search: usize,
    pub max_seeds: usize,
    pub max_batch: usize,
    pub max_in_flight: usize,
    pub max_message_bytes: usize,
    pub max_response_bytes: usize,
    pub max_stream_window: usize,
    pub max_batch_writes: usize,
    pub max_concurrent_writes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Limits { max_k, max_ef_search, max_seeds } = Limits::default();
        let ServiceLimits {
            max_batch,
            max_in_flight,
            max_message_bytes,
            max_response_bytes,
            max_stream_window,
            max_batch_writes,
            max_concurrent_writes,
        } = ServiceLimits::default();
        Self {
            max_k,
            max_ef_search,
            max_seeds,
            max_batch,
            max_in_flight,
            max_message_bytes,
            max_response_bytes,
            max_stream_window,
            max_batch_writes,
            max_concurrent_writes,
        }
    }
}

impl ServeConfig {
    /// The defaults, overridden by `file` if there is one, overridden by the environment.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file or the environment and the key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = Environment::with_prefix(ENVIRONMENT_PREFIX).prefix_separator("").separator("__");
        Self::from_sources(file, environment)
    }

    fn from_sources(file: Option<&Path>, environment: Environment) -> Result<Self, ConfigError> {
        let mut merged = Config::builder();
        if let Some(path) = file {
            let source = File::from(path).format(FileFormat::Toml).required(true);
            // On its own first: an error in the merged whole would not name where it comes from.
            Self::from_one(source.clone(), path.display().to_string())?;
            merged = merged.add_source(source);
        }
        Self::from_one(environment.clone(), "environment".to_owned())?;
        let config = merged.add_source(environment).build().and_then(Config::try_deserialize::<Self>);
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

    /// Whether the values go together.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, expected: &str, found: &dyn std::fmt::Debug| {
            Err(ConfigError::Value { key, expected: expected.to_owned(), found: format!("{found:?}") })
        };
        if self.poll_interval.is_zero() {
            return value("poll_interval", "more than 0s", &self.poll_interval);
        }
        if self.indexes.keys().any(String::is_empty) {
            return value("indexes", "a name for each folder", &"");
        }
        let limits = &self.limits;
        let at_least_one = [
            ("limits.max_k", limits.max_k),
            ("limits.max_ef_search", limits.max_ef_search),
            ("limits.max_seeds", limits.max_seeds),
            ("limits.max_batch", limits.max_batch),
            ("limits.max_message_bytes", limits.max_message_bytes),
            ("limits.max_response_bytes", limits.max_response_bytes),
            ("limits.max_stream_window", limits.max_stream_window),
            ("limits.max_batch_writes", limits.max_batch_writes),
            ("limits.max_concurrent_writes", limits.max_concurrent_writes),
            ("rebuild.keep_generations", self.rebuild.keep_generations),
            ("gate.k", self.gate.k),
        ];
        let rebuild = &self.rebuild;
        let gate = &self.gate;
        for (key, most, found) in [
            ("rebuild.delta_share", f64::MAX, rebuild.delta_share),
            ("rebuild.deleted_share", 1.0, rebuild.deleted_share),
            ("recall_sample", 1.0, self.recall_sample),
            ("gate.min_recall", 1.0, gate.min_recall),
            ("gate.max_recall_loss", 1.0, gate.max_recall_loss),
            ("gate.min_overlap", 1.0, gate.min_overlap),
            ("gate.max_p99_ratio", f64::MAX, gate.max_p99_ratio),
        ] {
            // Not a number is in no range.
            if !(0.0..=most).contains(&found) {
                let expected = if most == 1.0 { "0 to 1" } else { "0 or more" };
                return value(key, expected, &found);
            }
        }
        if let Some((key, found)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return value(key, "at least 1", &found);
        }
        if limits.max_in_flight < limits.max_batch {
            let expected =
                format!("at least limits.max_batch, {}, or no full batch would be taken", limits.max_batch);
            return value("limits.max_in_flight", &expected, &limits.max_in_flight);
        }
        Ok(())
    }

    /// What the engine is to open.
    pub fn engine_options(&self) -> EngineOptions {
        let LimitsConfig { max_k, max_ef_search, max_seeds, .. } = self.limits;
        EngineOptions {
            indexes: self.indexes.iter().map(|(name, dir)| (name.clone(), dir.clone())).collect(),
            threads: self.threads,
            limits: Limits { max_k, max_ef_search, max_seeds },
            memory: self.memory,
            is_writable: true,
            rebuild: self.rebuild.clone(),
            gate: self.gate.clone(),
            sample: SampleOptions { share: self.recall_sample },
        }
    }

    /// How the service is to serve it.
    pub fn service_options(&self) -> ServiceOptions {
        let LimitsConfig {
            max_batch,
            max_in_flight,
            max_message_bytes,
            max_response_bytes,
            max_stream_window,
            max_batch_writes,
            max_concurrent_writes,
            ..
        } = self.limits;
        ServiceOptions {
            poll_interval: self.poll_interval,
            drain_timeout: self.drain_timeout,
            limits: ServiceLimits {
                max_batch,
                max_in_flight,
                max_message_bytes,
                max_response_bytes,
                max_stream_window,
                max_batch_writes,
                max_concurrent_writes,
            },
        }
    }
}

/// `"1s"`, `"250ms"`, `"1m 30s"`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok()).ok_or_else(
        || {
            serde::de::Error::custom(format!(
                "invalid duration {text:?}: expected one such as \"1s\" or \"250ms\""
            ))
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment::with_prefix(ENVIRONMENT_PREFIX)
            .prefix_separator("")
            .separator("__")
            .source(Some(variables.into_iter().collect()))
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<ServeConfig, ConfigError> {
        ServeConfig::from_sources(Some(file(text).path()), environment(variables))
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
        expected.limits.max_k = 20;
        expected.limits.max_seeds = 5;
        assert_eq!(config, expected);
        assert_eq!(config.engine_options().limits.max_k, 20);
        assert_eq!(config.engine_options().memory, MemoryMode::Resident);
        assert_eq!(config.service_options().drain_timeout, Duration::from_secs(2));
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
        let error = ServeConfig::from_sources(Some(path.path()), environment(&[])).unwrap_err().to_string();
        assert!(error.starts_with(&path.path().display().to_string()), "{error}");
        assert!(error.contains("unknown field `thread`"), "{error}");
        let error = load("[limits]\nmax_kk = 3\n", &[]).unwrap_err().to_string();
        assert!(error.contains("unknown field `max_kk`"), "{error}");
        let error = load("", &[("SHORTLIST_SERVE_LISTN", "x")]).unwrap_err().to_string();
        assert!(error.starts_with("environment: ") && error.contains("unknown field `listn`"), "{error}");
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
        let error = load("[gate]\nmax_p99_ratio = -1.0\n", &[]).unwrap_err().to_string();
        assert_eq!(error, "gate.max_p99_ratio: expected 0 or more, found -1.0");
        let error = load("[limits]\nmax_in_flight = 8\n", &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Value { key: "limits.max_in_flight", .. }), "{error}");
    }

    #[test]
    fn refuses_a_file_that_is_not_there_or_not_toml() {
        let missing = Path::new("/nonexistent/serve.toml");
        let error = ServeConfig::from_sources(Some(missing), environment(&[])).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/serve.toml: "), "{error}");
        let error = load("listen = \n", &[]).unwrap_err().to_string();
        assert!(error.contains("TOML"), "{error}");
    }
}
