//! Settings of indexes that several servers serve: their generations in a bucket, their log in a stream.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::ConfigError;
use crate::base::partition::{Shard, ShardError};
#[cfg(feature = "cluster")]
use crate::nats::NatsOptions;

/// Settings of indexes that several servers serve.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// The folder for the generations of indexes in buckets, each in a folder with the name of the index.
    pub cache: PathBuf,
    /// Which shard of each index in a bucket this server has, such as `0/4`.
    pub shard: String,
    /// The servers of NATS whose JetStream has the logs; none if each log is a file of this server.
    pub nats: Vec<String>,
    /// A file of credentials for NATS; empty for none.
    pub nats_credentials: PathBuf,
    /// The certificates of the authorities of NATS, in addition to those of the system; empty for none.
    pub nats_ca: PathBuf,
    /// How many servers of NATS keep a stream that has yet to be created.
    pub nats_replicas: usize,
    /// Host and port at which routers reach this server; if empty, it does not announce itself.
    pub advertise: String,
    /// The name of this server among those of its shard; the name of the host if empty.
    pub replica: String,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            cache: PathBuf::new(),
            shard: Shard::WHOLE.to_string(),
            nats: Vec::new(),
            nats_credentials: PathBuf::new(),
            nats_ca: PathBuf::new(),
            nats_replicas: 3,
            advertise: String::new(),
            replica: String::new(),
        }
    }
}

impl ClusterConfig {
    /// The most servers that NATS keeps a stream on.
    const MOST_REPLICAS: usize = 5;

    /// Which shard this server has.
    ///
    /// # Errors
    /// If `shard` is malformed.
    pub fn shard(&self) -> Result<Shard, ConfigError> {
        self.shard.parse().map_err(|error: ShardError| ConfigError::Value {
            key: "cluster.shard",
            expected: "a shard such as 0/4".to_owned(),
            found: format!("{:?}: {error}", self.shard),
        })
    }

    /// Where the servers of NATS are.
    #[cfg(feature = "cluster")]
    pub fn nats_options(&self) -> NatsOptions {
        NatsOptions::of(&self.nats, &self.nats_credentials, &self.nats_ca)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// If one is malformed.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let value = |key, expected: &str, found: &dyn std::fmt::Debug| {
            Err(ConfigError::Value { key, expected: expected.to_owned(), found: format!("{found:?}") })
        };
        self.shard()?;
        if !(1..=Self::MOST_REPLICAS).contains(&self.nats_replicas) {
            return value("cluster.nats_replicas", "1 to 5", &self.nats_replicas);
        }
        if !self.advertise.is_empty() && self.nats.is_empty() {
            return value("cluster.nats", "servers where routers find cluster.advertise", &self.nats);
        }
        Ok(())
    }
}
