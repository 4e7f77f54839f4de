//! Why the configuration cannot be loaded.

use std::net::SocketAddr;

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
