//! The health of the indexes of a router, and of their replicas.
//!
//! What flows in: what replicas say of their health. What flows out: whether an index can be searched. It can if enough shards have a
//! replica that serves: as many as an answer needs by default.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::replica::Health;
use super::response::suffices;
use super::state::Router;
use super::topology::Topology;
use super::transport::{Call, Reply};
use crate::engine::Readiness;
use crate::service::parts::Indexes;
use crate::service::proto::GetRequest;

/// How long a replica may take to say how it is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

impl Indexes for Topology {
    fn names(&self) -> Vec<String> {
        Topology::names(self).map(str::to_owned).collect()
    }

    fn resolve(&self, name: &str) -> Option<&str> {
        Topology::resolve(self, name)
    }

    fn embedding_model(&self, name: &str) -> Option<String> {
        self.model(name)
    }

    fn readiness(&self, name: &str) -> Readiness {
        let Some(map) = self.shards(name) else { return Readiness::NotYet("no such index".to_owned()) };
        let is_serving =
            |replica: &&Arc<super::replica::Replica>| replica.health() == Health::Serving && !replica.rests();
        let up = map.shards.iter().filter(|shard| shard.replicas.iter().any(|one| is_serving(&one)));
        // A hash spreads the videos, so all shards have about as many.
        let (up, all) = (up.count() as u32, map.count());
        if suffices(up, all, f64::from(up) / f64::from(all.max(1))) {
            return Readiness::Ready;
        }
        Readiness::NotYet(format!("{up} of {all} shards have a replica that serves"))
    }
}

/// Asks every replica for its health, at once and then every `interval`, until dropped.
pub(super) async fn watch(router: Arc<Router>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        probe(&router).await;
        ask_models(&router).await;
        let shell = Arc::clone(&router.shell);
        // Fails only if the runtime shuts down, or if a reader panicked, which is logged.
        let _ = tokio::task::spawn_blocking(move || shell.aliases.refresh()).await;
        router.shell.metrics.aliases.observe(&router.shell.aliases.current());
        router.shell.sample_history(|_| None);
        router.shell.health.observe(&*router.topology).await;
        router.shell.metrics.access.reloads(&router.shell.reloads());
    }
}

/// Asks one shard of every index for the model of its embeddings, if an alias stands for several indexes.
pub(super) async fn ask_models(router: &Router) {
    if !router.shell.aliases.current().iter().any(|(_, indexes)| indexes.len() > 1) {
        return;
    }
    for name in router.topology.names() {
        let Some(map) = router.topology.shards(name) else { continue };
        let get = Call::Get(GetRequest { index: name.to_owned(), ..GetRequest::default() });
        for shard in &map.shards {
            let until = Instant::now() + PROBE_TIMEOUT;
            if let Ok(Reply::Get(found)) = shard.call(&get, until).await {
                let model = found.embedding_model;
                router.topology.set_model(name, (!model.is_empty()).then_some(model));
                break;
            }
        }
    }
}

/// Asks every replica for its health, all at once.
pub(super) async fn probe(router: &Router) {
    let mut probes = JoinSet::new();
    for name in router.topology.names() {
        let Some(map) = router.topology.shards(name) else { continue };
        for shard in &map.shards {
            for replica in &shard.replicas {
                let (shard, replica, name) = (shard.shard, Arc::clone(replica), name.to_owned());
                probes.spawn(async move {
                    let call = replica.transport.call(Call::Health(name), PROBE_TIMEOUT);
                    let health = match tokio::time::timeout(PROBE_TIMEOUT, call).await {
                        Ok(Ok(Reply::Health(true))) => Health::Serving,
                        _ => Health::NotServing,
                    };
                    if health != replica.health() {
                        tracing::info!(%shard, replica = replica.address, ?health, "the health of a replica changed");
                    }
                    replica.set_health(health);
                });
            }
        }
    }
    while probes.join_next().await.is_some() {}
    // Of the replicas that are there now: others have come and gone in the meantime.
    for map in router.topology.names().filter_map(|name| router.topology.shards(name)) {
        for shard in &map.shards {
            let up = |replica: &Arc<_>| router.metrics.up(&shard.labels(replica), replica.is_up());
            shard.replicas.iter().for_each(up);
            shard.observe_up();
        }
    }
}
