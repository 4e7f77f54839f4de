//! The indexes of `serve` that are in buckets: each is mirrored to a folder of the cache, before the start and while the server
//! runs.
//!
//! What flows in: the configuration, in which the location of such an index is replaced by its folder. What flows out: files for
//! the engine, log lines, and whether each bucket is in reach.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use crate::base::partition::Shard;
use crate::bucket::{BucketHealth, Location};
use crate::config::ServeConfig;
use crate::engine::Engine;

#[cfg(feature = "cluster")]
use self::follow::Follower;
pub use self::follow::Following;

/// The indexes in buckets.
#[derive(Debug, Default)]
pub struct Mirrors {
    /// Where each index is, all its shards.
    roots: BTreeMap<String, Location>,
    locations: BTreeMap<String, String>,
    health: Vec<(String, Arc<BucketHealth>)>,
    #[cfg(feature = "cluster")]
    followers: Vec<Follower>,
}

impl Mirrors {
    /// Brings the newest generation of each index in a bucket into the cache, and lets `config` name its folder there.
    ///
    /// # Errors
    /// If a location or the cache folder is missing or invalid, a store lets two creators win, or no index has a generation.
    pub fn open(config: &mut ServeConfig) -> anyhow::Result<Self> {
        let mut mirrors = Self::default();
        let shard = config.cluster.shard()?;
        let mut places = Vec::new();
        for (name, path) in &config.indexes {
            let root = Location::parse(path)?;
            let location = root.of_shard(shard);
            if location.is_bucket() {
                mirrors.roots.insert(name.clone(), root);
                let dir = folder(&config.cluster.cache, name, shard, &location)?;
                places.push((name.clone(), location, dir));
            }
        }
        for (name, location, dir) in &places {
            config.indexes.insert(name.clone(), dir.clone());
            mirrors.locations.insert(name.clone(), location.to_string());
            mirrors.health.push((name.clone(), Arc::default()));
        }
        #[cfg(feature = "cluster")]
        mirrors.bring(places, config.indexes.len())?;
        Ok(mirrors)
    }

    /// Where each of these indexes is, with all its shards.
    pub fn roots(&self) -> &BTreeMap<String, Location> {
        &self.roots
    }

    /// Where the generations of each of these indexes are.
    pub fn locations(&self) -> BTreeMap<String, String> {
        self.locations.clone()
    }

    /// Whether each bucket is in reach.
    pub fn health(&self) -> Vec<(String, Arc<BucketHealth>)> {
        self.health.clone()
    }

    /// Looks for new publications every `interval`, but at most once per second, until the result is stopped or dropped.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn follow(self, engine: &Arc<Engine>, interval: Duration) -> anyhow::Result<Following> {
        #[cfg(feature = "cluster")]
        return Ok(Following::start(self.followers, engine, interval)?);
        #[cfg(not(feature = "cluster"))]
        {
            let _ = (engine, interval);
            Ok(Following::default())
        }
    }

    #[cfg(feature = "cluster")]
    fn bring(&mut self, places: Vec<(String, Location, PathBuf)>, indexes: usize) -> anyhow::Result<()> {
        let mut failures = Vec::new();
        for ((name, location, dir), (_, health)) in places.into_iter().zip(&self.health) {
            let mut follower = Follower::open(name, &location, dir, Arc::clone(health))?;
            if let Some(error) = follower.bring_first()? {
                failures.push(error);
            }
            self.followers.push(follower);
        }
        // The others serve.
        if failures.len() == indexes
            && let Some(error) = failures.into_iter().next()
        {
            return Err(error.into());
        }
        Ok(())
    }
}

/// Returns the folder of a shard of an index in the cache. Shards have folders of their own: their logs differ.
fn folder(cache: &Path, name: &str, shard: Shard, location: &Location) -> anyhow::Result<PathBuf> {
    if cache.as_os_str().is_empty() {
        bail!(
            "index {name:?} is in {location}: set --cache DIR, or `cache` in [cluster], to the folder for its generations"
        );
    }
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => {
            Ok(Location::Folder(cache.join(name)).of_shard(shard).folder()?.to_owned())
        }
        _ => bail!(
            "index {name:?} is in {location}: expected a name that can be that of a folder in the cache"
        ),
    }
}

#[cfg(not(feature = "cluster"))]
mod follow {
    /// Nothing is in a bucket.
    #[derive(Debug, Default)]
    pub struct Following;

    impl Following {
        /// Does nothing.
        pub fn stop(&self) {}
    }
}

#[cfg(feature = "cluster")]
mod follow;
