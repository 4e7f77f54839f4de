//! The logs of `serve` that other servers write to, too: streams of NATS JetStream.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bucket::Location;
use crate::config::ServeConfig;
use crate::live::OpenSharedLog;

/// The logs that other servers write to, too, by the name of the index.
pub type SharedLogs = BTreeMap<String, Arc<dyn OpenSharedLog>>;

/// Returns what opens the log of each index, if the logs are in NATS. `roots`: where each index in a bucket is, with all its
/// shards.
///
/// # Errors
/// If a setting is invalid, or a bucket cannot be opened.
#[cfg(feature = "cluster")]
pub fn shared_logs(config: &ServeConfig, roots: &BTreeMap<String, Location>) -> anyhow::Result<SharedLogs> {
    use crate::bucket::{Bucket, TakedownObjects};
    use crate::live::{StreamOpener, StreamOptions, TakedownRecords};

    let cluster = &config.cluster;
    if cluster.nats.is_empty() {
        return Ok(SharedLogs::new());
    }
    let nats = cluster.nats_options();
    let mut logs = SharedLogs::new();
    for name in config.indexes.keys() {
        let takedowns = match roots.get(name) {
            Some(root) => {
                let objects = TakedownObjects::of(&Bucket::open(root)?);
                Some(Arc::new(objects) as Arc<dyn TakedownRecords>)
            }
            None => None,
        };
        let options = StreamOptions {
            nats: nats.clone(),
            index: name.clone(),
            replicas: cluster.nats_replicas,
            shard: cluster.shard()?,
            takedowns,
        };
        logs.insert(name.clone(), Arc::new(StreamOpener::new(options)?));
    }
    Ok(logs)
}

/// No log is in NATS.
///
/// # Errors
/// If the configuration names servers of NATS.
#[cfg(not(feature = "cluster"))]
pub fn shared_logs(config: &ServeConfig, _: &BTreeMap<String, Location>) -> anyhow::Result<SharedLogs> {
    anyhow::ensure!(
        config.cluster.nats.is_empty(),
        "cluster.nats: this program was built without the feature cluster"
    );
    Ok(SharedLogs::new())
}
