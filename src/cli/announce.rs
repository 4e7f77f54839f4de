//! `serve` announces itself to routers.

use std::sync::Arc;

use crate::config::ServeConfig;
use crate::engine::Engine;

/// The announcements of a server, one per index; they end when this is dropped.
#[cfg(feature = "cluster")]
#[derive(Debug, Default)]
pub(super) struct Announcements(Vec<crate::nats::presence::Announcer>);

/// The announcements of a server: none.
#[cfg(not(feature = "cluster"))]
#[derive(Debug, Default)]
pub(super) struct Announcements;

#[cfg(feature = "cluster")]
impl Announcements {
    /// Begins to announce the server, if it is configured.
    ///
    /// # Errors
    /// If NATS is configured wrongly.
    pub fn start(config: &ServeConfig, engine: &Arc<Engine>) -> anyhow::Result<Self> {
        use crate::nats::presence::{Announcer, Replica};

        let cluster = &config.cluster;
        if cluster.advertise.is_empty() {
            return Ok(Self::default());
        }
        let name = match cluster.replica.as_str() {
            "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            name => name.to_owned(),
        };
        let mut announcers = Vec::new();
        for index in engine.index_names() {
            let (engine, index_name) = (Arc::downgrade(engine), index.clone());
            let (name, address, shard) =
                (name.clone(), cluster.advertise.clone(), cluster.shard()?.to_string());
            let replica = move || {
                let engine = engine.upgrade()?;
                let is_ready = engine.readiness(&index_name).is_ok_and(|readiness| readiness.is_serving());
                let status = engine.status(&index_name).ok();
                let live = status.as_ref().map(|status| &status.live);
                let digest = live.and_then(|live| live.shared_log.as_ref()?.digest).unwrap_or_default();
                Some(Replica {
                    name: name.clone(),
                    address: address.clone(),
                    shard: shard.clone(),
                    is_ready,
                    generation: status.as_ref().map_or(0, |status| status.generation),
                    sequence: live.map_or(0, |live| live.sequence),
                    digest_sequence: digest.sequence,
                    digest: digest.hash,
                })
            };
            let started = Announcer::start(&cluster.nats_options(), &index, cluster.nats_replicas, replica);
            announcers.push(started.map_err(anyhow::Error::msg)?);
        }
        Ok(Self(announcers))
    }

    /// Ends the announcements: routers send no more searches.
    pub fn end(&mut self) {
        self.0.iter_mut().for_each(crate::nats::presence::Announcer::end);
    }
}

#[cfg(not(feature = "cluster"))]
impl Announcements {
    /// Announces nothing.
    ///
    /// # Errors
    /// Never.
    pub fn start(_: &ServeConfig, _: &Arc<Engine>) -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// Does nothing.
    pub fn end(&mut self) {}
}
