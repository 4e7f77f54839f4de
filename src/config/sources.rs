//! Merges the file and the environment.
//!
//! What flows in: a TOML file and environment variables. What flows out: the configuration, or an error with its origin.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use config::{Config, Environment, File, FileFormat, Source};

use super::{ConfigError, ServeConfig};

/// The prefix of the environment variables. `__` separates the names of nested keys.
pub const ENVIRONMENT_PREFIX: &str = "SHORTLIST_SERVE_";

impl ServeConfig {
    /// Loads the configuration: the defaults, overridden by `file` if given, overridden by the environment.
    ///
    /// # Errors
    /// [`ConfigError`], with the file or the environment, and the key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut variables = HashMap::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| is_setting(name)) else { continue };
            if value.to_str().is_some_and(|value| is_of_service(name, value)) {
                continue;
            }
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
}

/// Returns whether a variable of this name is a setting. Letter case does not count.
fn is_setting(name: &str) -> bool {
    name.to_uppercase().starts_with(ENVIRONMENT_PREFIX)
}

/// Returns whether a variable is one of those that Kubernetes and Docker set in every container for a service, such as
/// `SHORTLIST_SERVE_PORT=tcp://10.0.0.1:50051` for one that is called `shortlist-serve`. No setting has such a name.
fn is_of_service(name: &str, value: &str) -> bool {
    let name = name.to_uppercase();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    // `PORT`, `SERVICE_HOST`, `SERVICE_PORT`, `SERVICE_PORT_GRPC`, `PORT_50051_TCP` and `PORT_50051_TCP_ADDR` after the name.
    let words: Vec<&str> = name.split('_').collect();
    match words.as_slice() {
        [.., "PORT", port, protocol] if is_number(port) && is_protocol(protocol) => is_url,
        [.., "PORT", port, protocol, "ADDR" | "PORT" | "PROTO"] if is_number(port) => is_protocol(protocol),
        [.., "SERVICE", "HOST"] => value.parse::<IpAddr>().is_ok(),
        [.., last, "PORT"] if *last != "SERVICE" => is_url,
        words => words.windows(2).any(|two| two == ["SERVICE", "PORT"]) && is_number(value),
    }
}

fn is_protocol(word: &str) -> bool {
    matches!(word, "TCP" | "UDP" | "SCTP")
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
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::telemetry::LogFormat;
    use crate::engine::MemoryPolicy;
    use crate::service::{Access, OwnLimits, Role};

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
            memory: MemoryPolicy::Resident,
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
        assert_eq!(config.engine_options().memory, MemoryPolicy::Resident);
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

    proptest! {
        /// Those that Kubernetes sets for a service, by its documentation.
        #[test]
        fn variables_of_a_service_are_no_settings(
            service in "(_[A-Z0-9]{1,6}){0,2}",
            port in 1_u16..,
            port_name in "[A-Z0-9]{1,5}(_[A-Z0-9]{1,5})?",
            protocol in prop_oneof![Just("tcp"), Just("udp"), Just("sctp")],
            address in prop_oneof![
                any::<std::net::Ipv4Addr>().prop_map(IpAddr::from),
                any::<std::net::Ipv6Addr>().prop_map(IpAddr::from),
            ],
        ) {
            let url = format!("{protocol}://{}", SocketAddr::new(address, port));
            let port = port.to_string();
            let of_port = format!("PORT_{port}_{}", protocol.to_uppercase());
            for (name, value) in [
                ("SERVICE_HOST".to_owned(), address.to_string()),
                ("SERVICE_PORT".to_owned(), port.clone()),
                (format!("SERVICE_PORT_{port_name}"), port.clone()),
                ("PORT".to_owned(), url.clone()),
                (of_port.clone(), url),
                (format!("{of_port}_PROTO"), protocol.to_owned()),
                (format!("{of_port}_PORT"), port),
                (format!("{of_port}_ADDR"), address.to_string()),
            ] {
                let name = format!("SHORTLIST_SERVE{service}_{name}");
                prop_assert!(is_of_service(&name, &value), "{name}={value}");
            }
        }
    }

    #[test]
    fn no_setting_is_taken_for_a_variable_of_a_service() {
        let block = include_str!("mod.rs").lines().skip_while(|line| *line != "//! ```toml").skip(1);
        let lines = block.take_while(|line| *line != "//! ```").map(|line| line.trim_start_matches("//! "));
        let (mut section, mut settings) = (String::new(), 0);
        for line in lines.map(|line| line.trim_start_matches("# ")) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.split(']').next().unwrap().trim_start_matches('[').replace('.', "__") + "__";
            } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
                let name = format!("{ENVIRONMENT_PREFIX}{section}{}", key.to_uppercase());
                for value in ["1", "tcp", "10.0.0.1", "tcp://10.0.0.1:1"] {
                    assert!(!is_of_service(&name, value), "{name}={value}");
                }
                settings += 1;
            }
        }
        assert!(settings > 40, "only {settings} settings found");
        // Mistakes of operators are still named.
        for (name, value) in [
            ("PORT", "50051"),
            ("SERVICE_HOST", "search.example"),
            ("LISTEN", "tcp://10.0.0.1:1"),
            ("LIMITS__MAX_K", "9"),
            ("PORT_X_TCP", "tcp://10.0.0.1:1"),
        ] {
            assert!(!is_of_service(&format!("{ENVIRONMENT_PREFIX}{name}"), value), "{name}");
        }
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
        for (text, expected) in [
            ("[traces]\nsample = 1.5\n", "traces.sample: expected 0 to 1, found 1.5"),
            ("[traces]\nmax_per_second = 0\n", "traces.max_per_second: expected at least 1, found 0"),
            ("[traces]\nservice_name = ''\n", "traces.service_name: expected a name, found \"\""),
            ("[traces]\nendpoint = '127.0.0.1:4317'\n", "traces.endpoint: expected a URL of http or https"),
            ("[traces]\nendpoint = 'ftp://a'\n", "traces.endpoint: expected a URL of http or https"),
            ("slow_search_per_second = 0\n", "slow_search_per_second: expected at least 1, found 0"),
            ("slow_search_threshold = '-1s'\n", "\"-1s\""),
        ] {
            let error = load(text, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
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
