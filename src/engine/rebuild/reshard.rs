//! Builds a generation of one shard from the generations of shards of another size.
//!
//! What flows in: the folders of the shards that have the videos. What flows out: a published generation. Writes since the oldest
//! of them are not in it: a server replays them from the log.

use std::sync::Arc;
use std::time::Instant;

use crate::base::partition::Shard;
use crate::build::Progress;
use crate::engine::options::{RebuildOptions, SampleOptions};
use crate::engine::rebuild::build::Source;
use crate::engine::rebuild::error::{PublishError, RebuildError};
use crate::engine::rebuild::sampled::QuerySample;
use crate::index::{Index, IndexStore, Manifest, StoreError};
use crate::live::delta::state::RebuildInput;
use crate::node_set::NodeSet;

/// Builds a generation of the videos of `shard` that the current generations of `sources` have, and publishes it in `store`. The
/// training queries and the parameters are those of the source with the oldest position in the log, unless `options` name others
/// for the index `name`.
///
/// # Errors
/// If a source cannot be opened or is damaged, the sources differ in metric, embedding model or dimension, no video belongs to the
/// shard, or the build fails or is cancelled.
pub(crate) fn reshard(
    name: &str,
    sources: &[IndexStore],
    shard: Shard,
    store: &IndexStore,
    options: &RebuildOptions,
    progress: &dyn Progress,
) -> Result<Manifest, RebuildError> {
    let started = Instant::now();
    progress.begin("gathering videos", 1);
    let mut kept = Vec::new();
    for source in sources {
        let (_, index, _) = source.open_current().map_err(PublishError::from)?;
        // Otherwise damaged bytes would be copied under new, valid checksums.
        index.check_checksums().map_err(StoreError::from).map_err(PublishError::from)?;
        let mut own = NodeSet::none(index.len());
        for (node, video) in (0..).zip(index.video_ids()) {
            if shard.contains(*video) {
                own.insert(node);
            }
        }
        kept.push((Arc::new(index), own));
    }
    check_alike(&kept)?;
    // What the oldest lacks is replayed on all of them. Of a video that changed twice, the later change counts.
    kept.sort_by_key(|(index, _): &(Arc<Index>, NodeSet)| index.metadata().log_sequence);
    let sequence = kept.first().map_or(0, |(index, _)| index.metadata().log_sequence);
    let held_after = kept.iter().map(|(index, _)| index.metadata().held_after()).min().unwrap_or(0);
    let sample = QuerySample::new(SampleOptions { share: 0.0 }, 0);
    let source = Source { name, store, sample: &sample, options };
    let built = source.build(RebuildInput { kept, sequence, held_after, parked: 0 }, progress, started)?;
    Ok(store.publish(built.staged, built.times, built.measured).map_err(PublishError::from)?)
}

/// Checks that all sources have the metric and the embedding model of the first: scores of others mean something else.
fn check_alike(sources: &[(Arc<Index>, NodeSet)]) -> Result<(), RebuildError> {
    let Some(((first, _), others)) = sources.split_first() else { return Ok(()) };
    let facts_of = |index: &Index| {
        let facts = index.metadata();
        let model = facts.embedding_model.as_deref().unwrap_or("none");
        [("metric", facts.metric.to_string()), ("embedding model", model.to_owned())]
    };
    for (other, _) in others {
        for ((what, expected), (_, found)) in facts_of(first).into_iter().zip(facts_of(other)) {
            if expected != found {
                return Err(RebuildError::Mixed { path: other.path().to_owned(), what, expected, found });
            }
        }
    }
    Ok(())
}
