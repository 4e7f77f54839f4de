//! Which replicas serve which shards.
//!
//! What flows in: a static list, or maps and announcements of replicas. What flows out: the shards of an index, as they are at
//! the time of a call. The shards of an index can be replaced while calls run: a call goes on with those that it began with.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::shard::ShardCalls;
use crate::base::id::VideoId;
use crate::base::partition::Shard;

/// The shards of one index, in their order.
pub(super) struct ShardMap {
    pub(super) shards: Vec<Arc<ShardCalls>>,
    /// Whether all shards have one log, so that any replica of any shard takes writes of all videos.
    pub(super) has_shared_log: bool,
}

impl ShardMap {
    /// The number of shards.
    pub(super) fn count(&self) -> u32 {
        self.shards.len() as u32
    }

    /// The position of the shard of a video.
    pub(super) fn owner(&self, video: VideoId) -> usize {
        Shard::of_video(video, self.count()) as usize
    }

    /// The shard that a write for the shard at `owner` is sent to if all shards have one log: `owner` itself if one of its replicas is
    /// up, or else the next shard that has such a replica.
    pub(super) fn writer(&self, owner: usize) -> usize {
        let count = self.shards.len();
        let mut others = (0..count).map(|step| (owner + step) % count);
        others.find(|at| self.shards[*at].replicas.iter().any(|one| one.is_up())).unwrap_or(owner)
    }

    /// Videos in the index: those of shards that were not reached yet are taken to be as many as in the others.
    pub(super) fn videos(&self) -> u64 {
        let known: Vec<u64> = self.shards.iter().filter_map(|shard| shard.videos()).collect();
        // Saturating: a replica may say anything.
        let sum = known.iter().fold(0u64, |sum, videos| sum.saturating_add(*videos));
        match known.len() as u64 {
            0 => 0,
            reached => {
                let missing = (self.shards.len() as u64).saturating_sub(reached);
                sum.saturating_add((sum / reached).saturating_mul(missing))
            }
        }
    }
}

/// All indexes of a router. Their names never change.
pub(super) struct Topology {
    indexes: BTreeMap<String, IndexEntry>,
}

struct IndexEntry {
    map: ArcSwap<ShardMap>,
    /// The model of its embeddings, once a replica has said it; `None` if it has none.
    model: ArcSwapOption<String>,
}

impl Topology {
    pub(super) fn new(indexes: impl IntoIterator<Item = (String, ShardMap)>) -> Self {
        let index = |(name, map)| {
            (name, IndexEntry { map: ArcSwap::from_pointee(map), model: ArcSwapOption::empty() })
        };
        Self { indexes: indexes.into_iter().map(index).collect() }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.indexes.keys().map(String::as_str)
    }

    /// The full name of an index; an empty name means the only one.
    pub(super) fn resolve(&self, name: &str) -> Option<&str> {
        match name {
            "" if self.indexes.len() == 1 => self.names().next(),
            name => self.indexes.get_key_value(name).map(|(name, _)| name.as_str()),
        }
    }

    /// The shards of an index by its full name.
    pub(super) fn shards(&self, name: &str) -> Option<Arc<ShardMap>> {
        self.indexes.get(name).map(|index| index.map.load_full())
    }

    /// Replaces the shards of an index. Calls that have begun keep theirs.
    pub(super) fn replace(&self, name: &str, map: ShardMap) {
        if let Some(index) = self.indexes.get(name) {
            index.map.store(Arc::new(map));
        }
    }

    /// The model of the embeddings of an index; `None` if it has none, or no replica has said it yet.
    pub(super) fn model(&self, name: &str) -> Option<String> {
        self.indexes.get(name)?.model.load().as_deref().cloned()
    }

    /// Sets what a replica says of the model of an index.
    pub(super) fn set_model(&self, name: &str, model: Option<String>) {
        if let Some(index) = self.indexes.get(name) {
            index.model.store(model.map(Arc::new));
        }
    }
}
