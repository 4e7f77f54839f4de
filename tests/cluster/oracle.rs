//! What an index must answer: the catalog, and the log up to an entry, scored exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use shortlist::base::partition::Shard;
use shortlist::live::{Mutation, MutationLog as _, SharedLog as _, StreamLog, StreamOpener, StreamOptions};
use shortlist::nats::NatsOptions;
use shortlist_client::proto::Candidate;
use tokio::runtime::Handle;

use crate::place::{K, Place};

/// How long an acknowledged write may take to come while brokers are killed.
const PATIENCE: Duration = Duration::from_secs(40);
/// The largest difference of two sums of the same products.
const SLACK: f32 = 1e-4;

/// The catalog and the log of an index.
pub struct Oracle {
    log: StreamLog,
    brokers: Vec<String>,
    /// A connection of its own, which knows nothing of what the log received. `None` before the first use.
    jetstream: Option<Context>,
    /// The last entry that was applied.
    pub applied: u64,
    videos: BTreeMap<u64, Vec<f32>>,
    taken_down: BTreeSet<u64>,
    /// The entries that were applied, by number: the videos that they are about.
    pub entries: BTreeMap<u64, u64>,
}

impl Oracle {
    /// Reads the catalog, and begins to receive the log.
    pub fn new(place: &Place) -> Self {
        let options = StreamOptions {
            nats: NatsOptions { servers: place.brokers.urls(), ..NatsOptions::default() },
            index: "videos".to_owned(),
            replicas: place.brokers.replicas(),
            shard: Shard::WHOLE,
            takedowns: None,
        };
        let path: &Path = &place.folder.path().join("oracle.redb");
        let log = StreamOpener::new(options).unwrap().open_log(path, &[0]).unwrap();
        let videos = place.ids().into_iter().zip(place.rows("videos.npy")).collect();
        Self {
            log,
            brokers: place.brokers.urls(),
            jetstream: None,
            applied: 0,
            videos,
            taken_down: BTreeSet::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Applies all entries of the stream, at least up to `acknowledged`, and returns the last one. Blocks.
    pub fn catch_up(&mut self, acknowledged: u64) -> u64 {
        let began = Instant::now();
        loop {
            let to = match Handle::current().block_on(self.last_of_stream()) {
                Ok(last) => last.max(acknowledged),
                // There is no leader.
                Err(_) => u64::MAX,
            };
            // Fails while the brokers do not answer.
            let _ = self.log.receive(self.log.last_sequence(), Duration::from_millis(100));
            if self.log.last_sequence() >= to {
                break;
            }
            let last = self.log.last_sequence();
            assert!(
                began.elapsed() < PATIENCE,
                "{last} entries came, {acknowledged} writes were acknowledged"
            );
        }
        for entry in self.log.read(self.applied, usize::MAX).unwrap() {
            self.entries.insert(entry.sequence, entry.mutation.video_id().0);
            match entry.mutation {
                Mutation::Upsert(upsert) => _ = self.videos.insert(upsert.video_id.0, upsert.embedding),
                Mutation::Delete(video) => _ = self.videos.remove(&video.0),
                Mutation::Takedown(video) => _ = self.taken_down.insert(video.0),
                Mutation::Restore(video) => _ = self.taken_down.remove(&video.0),
            }
            self.applied = entry.sequence;
        }
        self.applied
    }

    /// The last entry of the stream, as its leader says.
    async fn last_of_stream(&mut self) -> Result<u64, async_nats::Error> {
        let context = match self.jetstream.take() {
            Some(context) => context,
            None => jetstream::new(async_nats::connect(&self.brokers).await?),
        };
        let stream = self.jetstream.insert(context).get_stream("shortlist-videos").await?;
        Ok(stream.cached_info().state.last_sequence)
    }

    /// Compares an answer with the exact one. Returns what is wrong with it.
    pub fn check(&self, query: &[f32], found: &[Candidate]) -> Option<String> {
        let score = |values: &[f32]| values.iter().zip(query).map(|(one, other)| one * other).sum::<f32>();
        let visible = self.videos.iter().filter(|(id, _)| !self.taken_down.contains(id));
        let mut scores: Vec<f32> = visible.map(|(_, values)| score(values)).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        if found.len() != K.min(scores.len()) {
            return Some(format!("expected {} candidates, found {}", K.min(scores.len()), found.len()));
        }
        let mut seen = BTreeSet::new();
        for (rank, Candidate { video_id, score: given, .. }) in found.iter().enumerate() {
            if self.taken_down.contains(video_id) {
                return Some(format!("video {video_id} is taken down"));
            }
            let Some(values) = self.videos.get(video_id) else {
                return Some(format!("video {video_id} is not in the index"));
            };
            let (own, expected) = (score(values), scores[rank]);
            if (given - own).abs() > SLACK || (given - expected).abs() > SLACK {
                return Some(format!(
                    "rank {rank}: expected a score of {expected}, found {given}; video {video_id} has {own}"
                ));
            }
            if !seen.insert(video_id) {
                return Some(format!("video {video_id} is there twice"));
            }
        }
        None
    }
}
