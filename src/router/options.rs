//! The options of a router.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use shortlist_client::{BuildError, Client, Connection, Tls};

use crate::base::partition::{Shard, ShardError};
use crate::nats::NatsOptions;

/// How a router reaches the replicas, as in `[route]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteOptions {
    /// The shards of each index by name: replicas joined by `+`, shards by `,`.
    pub shards: BTreeMap<String, String>,
    /// Where the maps of further indexes are, by name. Their replicas announce themselves in NATS.
    pub maps: BTreeMap<String, String>,
    /// The servers of NATS.
    pub nats: Vec<String>,
    /// A file of credentials for NATS; empty for none.
    pub nats_credentials: PathBuf,
    /// The certificates of the authorities of NATS, in addition to those of the system; empty for none.
    pub nats_ca: PathBuf,
    /// A file with the key that replicas want.
    pub key_file: PathBuf,
    /// A file with the authorities that the certificates of replicas are of, in PEM. If empty, connections are not encrypted.
    pub ca: PathBuf,
    /// A file with the certificate of the router for replicas that require one, in PEM.
    pub certificate: PathBuf,
    /// A file with its private key, in PEM.
    pub certificate_key: PathBuf,
    /// The name in the certificates of replicas, if it is not the host of their address.
    pub domain: String,
    /// Whether to send the key to other machines without encryption.
    pub insecure: bool,
}

/// Why the options of a router cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// There is no index.
    #[error(
        "expected the shards of at least one index, such as videos=10.0.0.1:50051+10.0.0.2:50051,10.0.0.3:50051"
    )]
    NoIndex,
    /// An index has another number of shards.
    #[error("index {index:?}: {problem}")]
    Shards {
        /// The name of the index.
        index: String,
        /// What is wrong.
        problem: ShardError,
    },
    /// A shard has no replica.
    #[error("index {index:?}, shard {shard}: expected an address, found none")]
    NoReplica {
        /// The name of the index.
        index: String,
        /// The position of the shard.
        shard: usize,
    },
    /// The map of an index cannot be followed.
    #[error("index {index:?}: {problem}")]
    Map {
        /// The name of the index.
        index: String,
        /// Why not.
        problem: String,
    },
    /// An index is there twice.
    #[error("index {0:?} is in a map and in a list of shards")]
    Twice(String),
    /// Nobody says where the replicas of a map are.
    #[error(
        "index {0:?} has a map: expected servers of NATS, where its replicas announce themselves, found none"
    )]
    NoNats(String),
    /// A file cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: std::io::Error,
    },
    /// A connection cannot be made.
    #[error(transparent)]
    Connection(#[from] BuildError),
}

/// The replicas of one shard.
pub(super) type Addresses = Vec<String>;

/// Reads the shards of an index: replicas joined by `+`, shards by `,`.
pub(super) fn addresses(index: &str, text: &str) -> Result<Vec<(Shard, Addresses)>, RouteError> {
    let shards: Vec<&str> = text.split(',').map(str::trim).collect();
    let of = u32::try_from(shards.len()).unwrap_or(u32::MAX);
    let all = Shard::all(of);
    let all = all.map_err(|problem| RouteError::Shards { index: index.to_owned(), problem })?;
    let replicas = |(shard, text): (Shard, &str)| {
        let replicas = text.split('+').map(str::trim).filter(|address| !address.is_empty());
        let replicas: Vec<String> = replicas.map(str::to_owned).collect();
        let none = || RouteError::NoReplica { index: index.to_owned(), shard: shard.index() as usize };
        if replicas.is_empty() { Err(none()) } else { Ok((shard, replicas)) }
    };
    all.zip(shards).map(replicas).collect()
}

impl RouteOptions {
    /// Where the servers of NATS are.
    pub(super) fn nats_options(&self) -> NatsOptions {
        NatsOptions::of(&self.nats, &self.nats_credentials, &self.nats_ca)
    }

    /// The connection to a replica. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If a file cannot be read, or the address or a certificate cannot be used.
    pub(super) fn connection(&self, address: &str) -> Result<Connection, RouteError> {
        let read = |path: &PathBuf| {
            let text = std::fs::read(path);
            text.map_err(|problem| RouteError::File { path: path.clone(), problem })
        };
        let mut builder = Client::builder(address);
        if !self.key_file.as_os_str().is_empty() {
            builder = builder.token(String::from_utf8_lossy(&read(&self.key_file)?).trim());
        }
        if self.insecure {
            builder = builder.insecure();
        }
        if !self.ca.as_os_str().is_empty() {
            let mut tls = Tls::system().authority(read(&self.ca)?);
            if !self.certificate.as_os_str().is_empty() {
                tls = tls.identity(read(&self.certificate)?, read(&self.certificate_key)?);
            }
            if !self.domain.is_empty() {
                tls = tls.domain(&self.domain);
            }
            builder = builder.tls(tls);
        }
        Ok(builder.connections()?.swap_remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_separated_by_commas_and_replicas_by_plus() {
        let found = addresses("videos", "a:1+b:1, c:1").unwrap();
        let of = |index| Shard::new(index, 2).unwrap();
        assert_eq!(found, [(of(0), vec!["a:1".into(), "b:1".into()]), (of(1), vec!["c:1".to_owned()])]);
        let problem = |text| addresses("videos", text).unwrap_err().to_string();
        assert_eq!(
            problem("a:1,b:1,c:1"),
            r#"index "videos": expected 1, 2, 4, 8, 16, 32 or 64 shards, found 3"#
        );
        assert_eq!(problem("a:1,"), r#"index "videos", shard 1: expected an address, found none"#);
    }
}
