//! The delta of one generation: applies log entries to segments, and compacts them.
//!
//! ```text
//! write ─► checked ─► log, on disk ─► apply ─► delta segments ─► snapshot ─► acknowledged
//!                                      ▲
//! start, or swap to another generation ─► the log entries that the generation lacks
//! ```
//!
//! Upserted videos become a small index in memory, a delta segment; small segments are merged. Every node of a video
//! that was replaced by a newer segment, deleted, taken down or has expired gets a tombstone.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use crate::base::id::{NodeId, VideoId};
use crate::build::{BuildError, BuildParams, GRAPH_FROM, Silent, build_in_memory};
use crate::index::{Index, IndexError};
use crate::live::delta::fits::check_upsert;
use crate::live::delta::rows::{RowsError, dataset_of, gather};
use crate::live::delta::segments::{IndexSegment, Segments};
use crate::live::log::error::LogError;
use crate::live::log::mutation::{Entry, Mutation, Upsert};
use crate::live::log::mutation_log::MutationLog;
use crate::node_set::NodeSet;

/// A segment is merged with the later ones unless it is more than this many times larger than they are together: each
/// video is merged a few times, and there are few segments.
const TIMES_LARGER: usize = 3;
/// Writes merge the last segments as long as they have at most this many videos together: too few for a graph, so no
/// write waits for one. Earlier segments are compacted in the background.
pub(crate) const MERGED_BY_WRITES: usize = GRAPH_FROM - 1;

/// Why no segment can be built from log entries.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Rows(#[from] RowsError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The changes since one generation was built.
#[derive(Debug)]
pub(crate) struct LiveState {
    pub(crate) segments: Segments,
    /// Sequence number of the last entry that was applied.
    pub(crate) sequence: u64,
    /// Videos that are taken down and not restored.
    pub(crate) takedowns: HashSet<VideoId>,
    /// Videos that were deleted and not upserted again.
    deleted: HashSet<VideoId>,
    /// Upserts that do not fit the generation, with their sequence numbers: of another embedding model, or with
    /// attributes that it does not have. They wait for a generation that they fit, or for a later upsert.
    pub(crate) parked: HashMap<VideoId, u64>,
}

/// An entry and whether it is an upsert that does not fit the generation.
struct Checked<'a> {
    entry: &'a Entry,
    is_misfit: bool,
}

impl LiveState {
    /// Returns the state of a generation without changes.
    pub(crate) fn new(base: Arc<Index>) -> Self {
        Self {
            sequence: base.metadata().log_sequence,
            segments: Segments::expiring(base),
            takedowns: HashSet::new(),
            deleted: HashSet::new(),
            parked: HashMap::new(),
        }
    }

    /// Returns the state of a generation before the log is applied. Of the entries that the generation contains, only
    /// parked upserts and takedowns matter: a takedown applies to any generation, whether or not the log has its entry.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn before(base: Arc<Index>, log: &dyn MutationLog) -> Result<Self, LogError> {
        let mut state = Self::new(base);
        state.sequence = state.segments.base().index.metadata().held_after();
        // Also of those whose entries follow: not all takedowns have one.
        let taken_down: Vec<VideoId> = log.takedowns()?.into_iter().map(|(video, _)| video).collect();
        state.take_down(&taken_down);
        Ok(state)
    }

    /// Takes videos down without entries.
    pub(crate) fn take_down(&mut self, videos: &[VideoId]) {
        for video in videos {
            self.takedowns.insert(*video);
            self.segments.remove(*video);
        }
    }

    /// Applies entries that follow the earlier ones.
    ///
    /// # Errors
    /// If no segment can be built from them; then nothing changes.
    pub(crate) fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        // After a swap, entries arrive again that were already read from the log.
        let entries = &entries[entries.partition_point(|entry| entry.sequence <= self.sequence)..];
        let base = Arc::clone(&self.segments.base().index);
        let known = base.metadata().log_sequence;
        let check = |entry| Checked { entry, is_misfit: is_misfit(entry, &base) };
        let entries: Vec<Checked<'_>> = entries.iter().map(check).collect();
        let mut upserts: HashMap<VideoId, &Upsert> = HashMap::new();
        for Checked { entry, is_misfit } in entries.iter().filter(|checked| checked.entry.sequence > known) {
            match &entry.mutation {
                Mutation::Upsert(upsert) if !is_misfit => {
                    upserts.insert(upsert.video_id, upsert);
                }
                Mutation::Delete(video) => _ = upserts.remove(video),
                Mutation::Upsert(_) | Mutation::Takedown(_) | Mutation::Restore(_) => {}
            }
        }
        let segment = if upserts.is_empty() {
            None
        } else {
            let mut rows: Vec<&Upsert> = upserts.values().copied().collect();
            rows.sort_unstable_by_key(|upsert| upsert.video_id);
            let facts = base.metadata();
            let dataset = dataset_of(&rows, &facts.attributes, base.dim(), facts.dtype)?;
            Some(build_in_memory(&dataset, &params_of(&base)?, &Silent)?)
        };
        let mut segments = self.segments.clone();
        for entry in &entries {
            self.record(entry, known, &mut segments);
        }
        if let Some(segment) = segment {
            segments.push(Arc::new(segment));
        }
        for checked in &entries {
            self.update_newest(&mut segments, checked.entry.mutation.video_id());
        }
        self.segments = segments;
        self.sequence = entries.last().map_or(self.sequence, |checked| checked.entry.sequence);
        Ok(())
    }

    /// Records an entry, and tombstones the nodes of a video that it replaces or deletes. Entries up to `known` are in
    /// the generation.
    fn record(&mut self, Checked { entry, is_misfit }: &Checked<'_>, known: u64, segments: &mut Segments) {
        match &entry.mutation {
            // No segment can contain it together with the others.
            Mutation::Upsert(upsert) if *is_misfit => {
                self.parked.insert(upsert.video_id, entry.sequence);
            }
            Mutation::Upsert(Upsert { video_id, .. }) | Mutation::Delete(video_id) => {
                self.parked.remove(video_id);
                if entry.sequence <= known {
                    return;
                }
                match entry.mutation {
                    Mutation::Delete(_) => self.deleted.insert(*video_id),
                    _ => self.deleted.remove(video_id),
                };
                segments.remove(*video_id);
            }
            Mutation::Takedown(video) => _ = self.takedowns.insert(*video),
            Mutation::Restore(video) => _ = self.takedowns.remove(video),
        }
    }

    /// Returns whether a video with this node in a segment is taken down, deleted or expired.
    fn is_removed(&self, video: VideoId, segment: &IndexSegment, node: NodeId) -> bool {
        self.takedowns.contains(&video) || self.deleted.contains(&video) || segment.is_expired(node)
    }

    /// Sets or clears the tombstone of the newest node of a video. Its older nodes have tombstones already.
    fn update_newest(&self, segments: &mut Segments, video: VideoId) {
        let Some((at, node)) = segments.newest(video) else { return };
        if self.is_removed(video, segments.segment(at), node) {
            segments.remove_node(at, node);
        } else {
            segments.restore_node(at, node);
        }
    }

    /// Tombstones expired videos. Those that expired by a clock that was set back since are searched again.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let mut segments = self.segments.clone();
        for video in segments.unexpire(now.as_microsecond()) {
            self.update_newest(&mut segments, video);
        }
        segments.expire(now.as_microsecond());
        self.segments = segments;
    }

    /// Returns the segments that the next write should merge, without what expired until `settled`.
    pub(crate) fn small_compaction(&self, settled: Timestamp) -> Option<Compaction> {
        let sizes = self.sizes();
        Some(self.compaction(due(&sizes, first_open(&sizes)..sizes.len())?, settled))
    }

    /// Returns the segments that should be merged in the background, without what expired until `settled`. Writes do not
    /// merge these.
    pub(crate) fn large_compaction(&self, settled: Timestamp) -> Option<Compaction> {
        let sizes = self.sizes();
        Some(self.compaction(due(&sizes, 1..first_open(&sizes))?, settled))
    }

    /// Returns the number of videos in each segment, the generation first.
    fn sizes(&self) -> Vec<usize> {
        self.segments.iter().map(|segment| segment.index.len()).collect()
    }

    /// Returns all segments, for a build of the next generation, without what expired until `settled`.
    pub(crate) fn rebuild_input(&self, settled: Timestamp) -> RebuildInput {
        let Compaction { kept, .. } = self.compaction(0..self.segments.len(), settled);
        // Upserts that do not fit this generation may fit a later one, which then needs them.
        let held_after = match self.parked.is_empty() {
            true => self.sequence,
            false => self.segments.base().index.metadata().held_after(),
        };
        RebuildInput { kept, sequence: self.sequence, held_after, parked: self.parked.len() as u64 }
    }

    /// Returns the last sequence number whose entry, and all before it but the parked ones, the generation does not need.
    pub(crate) fn unneeded_to(&self) -> u64 {
        self.segments.base().index.metadata().log_sequence
    }

    /// Returns the sequence numbers of parked upserts, ascending.
    pub(crate) fn parked_sequences(&self) -> Vec<u64> {
        let mut sequences: Vec<u64> = self.parked.values().copied().collect();
        sequences.sort_unstable();
        sequences
    }

    /// Returns a range of segments, each with its nodes that may be returned: now, after a takedown is restored, or after the
    /// clock is set back to `settled`.
    fn compaction(&self, range: Range<usize>, settled: Timestamp) -> Compaction {
        let is_kept = |at: usize, segment: &IndexSegment, node: NodeId| {
            let video = segment.index.video_ids()[node.index()];
            segment.allows(node)
                || !self.deleted.contains(&video)
                    && self.segments.newest(video) == Some((at, node))
                    && !segment.expires_until(node, settled.as_microsecond())
        };
        let kept = range.clone().map(|at| {
            let segment = self.segments.segment(at);
            let mut kept = NodeSet::none(segment.index.len());
            let nodes = (0..segment.index.len() as u32).filter(|node| is_kept(at, segment, NodeId(*node)));
            nodes.for_each(|node| kept.insert(node));
            (Arc::clone(&segment.index), kept)
        });
        Compaction { first: range.start, kept: kept.collect() }
    }

    /// Replaces the segments of a compaction by their merged segment, unless they are gone.
    pub(crate) fn replace(&mut self, compaction: &Compaction, merged: Option<Index>) {
        let first = compaction.first;
        let is_there = |(at, (index, _)): (usize, &(Arc<Index>, NodeSet))| {
            self.segments.iter().nth(first + at).is_some_and(|segment| Arc::ptr_eq(&segment.index, index))
        };
        if !compaction.kept.iter().enumerate().all(is_there) {
            return;
        }
        let mut segments = self.segments.clone();
        let merged = merged.map(Arc::new);
        segments.replace(first..first + compaction.kept.len(), merged.clone());
        // Apply what happened to its videos while it was built.
        for (node, video) in merged.iter().flat_map(|index| (0..).map(NodeId).zip(index.video_ids())) {
            if segments.newest(*video) == Some((first, node)) {
                self.update_newest(&mut segments, *video);
            } else {
                segments.remove_node(first, node);
            }
        }
        self.segments = segments;
    }

    /// Returns the number of videos in delta segments, without tombstones.
    pub(crate) fn delta_vectors(&self) -> usize {
        self.segments.iter().skip(1).map(IndexSegment::live_count).sum()
    }

    /// Returns the number of tombstones in the generation without videos that are only taken down: a rebuild would drop the
    /// others.
    pub(crate) fn tombstones(&self) -> usize {
        let is_kept = |video: &&VideoId| {
            !self.deleted.contains(*video) && self.segments.newest(**video).is_some_and(|(at, _)| at == 0)
        };
        self.hidden() - self.takedowns.iter().filter(is_kept).count()
    }

    /// Returns the number of tombstones in the generation.
    pub(crate) fn hidden(&self) -> usize {
        let base = self.segments.base();
        base.index.len() - base.live_count()
    }
}

/// Consecutive segments to merge into one.
pub(crate) struct Compaction {
    /// The position of the first one.
    first: usize,
    kept: Vec<(Arc<Index>, NodeSet)>,
}

impl Compaction {
    /// Builds the merged segment; `None` if no video is left.
    ///
    /// # Errors
    /// If it cannot be built.
    pub(crate) fn build(&self) -> Result<Option<Index>, ApplyError> {
        let kept: Vec<(&Index, &NodeSet)> = self.kept.iter().map(|(index, kept)| (&**index, kept)).collect();
        if kept.iter().all(|(_, kept)| kept.count() == 0) {
            return Ok(None);
        }
        let first = kept[0].0;
        let dataset = gather(&kept, &first.metadata().attributes)?;
        Ok(Some(build_in_memory(&dataset, &params_of(first)?, &Silent)?))
    }
}

/// The videos of the next generation.
pub(crate) struct RebuildInput {
    /// All segments, each with its nodes to keep; the current generation first.
    pub(crate) kept: Vec<(Arc<Index>, NodeSet)>,
    /// Sequence number of the last entry that they contain.
    pub(crate) sequence: u64,
    /// Upserts that do not fit the generation are left out if their sequence is above this one.
    pub(crate) held_after: u64,
    /// Number of upserts left out because they do not fit the generation.
    pub(crate) parked: u64,
}

impl RebuildInput {
    /// Maps the generation again, so that it is read from its file and no copy in memory is kept.
    ///
    /// # Errors
    /// If its file was replaced or cannot be opened.
    pub(crate) fn reopen_base(&mut self) -> Result<(), IndexError> {
        if let Some((base, _)) = self.kept.first_mut() {
            *base = Arc::new(base.reopen()?);
        }
        Ok(())
    }
}

/// Returns the position of the first segment that writes merge.
fn first_open(sizes: &[usize]) -> usize {
    let mut total = 0;
    let open = sizes[1..].iter().rev().take_while(|size| {
        total += **size;
        total <= MERGED_BY_WRITES
    });
    sizes.len() - open.count()
}

/// Returns the tail of the range `of` that should be merged, if it has at least two segments.
fn due(sizes: &[usize], of: Range<usize>) -> Option<Range<usize>> {
    let (mut first, mut size) = (of.end, 0);
    while first > of.start && (size == 0 || sizes[first - 1] <= TIMES_LARGER * size) {
        first -= 1;
        size += sizes[first];
    }
    (of.end - first >= 2).then_some(first..of.end)
}

fn is_misfit(entry: &Entry, base: &Index) -> bool {
    matches!(&entry.mutation, Mutation::Upsert(upsert) if check_upsert(upsert, base).is_err())
}

/// Returns build parameters as those of the generation. What codes cannot represent there, they cannot represent here.
fn params_of(base: &Index) -> Result<BuildParams, BuildError> {
    let facts = base.metadata();
    let params = BuildParams::new(facts.metric, facts.m as usize, facts.build.ef_construction as usize)?;
    Ok(params.with_codes(facts.codes)?.with_embedding_model(facts.embedding_model.clone()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Video 0 never expires, the others at a second of their number.
    fn expiring() -> LiveState {
        let upsert = |video: u64| Upsert {
            video_id: VideoId(video),
            embedding: vec![1.0, video as f32],
            attributes: Vec::new(),
            expires_at: (video > 0).then(|| at(video as i64).into()),
            embedding_model: None,
        };
        let upserts: Vec<Upsert> = (0..6).map(upsert).collect();
        let params = BuildParams::new(crate::Metric::InnerProduct, 8, 20).unwrap();
        let dataset =
            dataset_of(&upserts.iter().take(3).collect::<Vec<_>>(), &[], 2, crate::Dtype::F32).unwrap();
        let mut live = LiveState::new(Arc::new(build_in_memory(&dataset, &params, &Silent).unwrap()));
        let entries = (1..).zip(upserts.into_iter().skip(3));
        let entries: Vec<Entry> = entries
            .map(|(sequence, upsert)| Entry { sequence, mutation: Mutation::Upsert(upsert) })
            .collect();
        live.apply(&entries).unwrap();
        live
    }

    fn found(live: &LiveState) -> Vec<u64> {
        (0..6).filter(|video| live.segments.node_of(VideoId(*video)).is_some()).collect()
    }

    #[test]
    fn steps_of_the_clock_neither_hide_nor_revive_for_good() {
        let mut live = expiring();
        let steps: [(i64, &[u64]); 6] = [
            (0, &[0, 1, 2, 3, 4, 5]),
            (9, &[0]),
            (2, &[0, 3, 4, 5]),
            (4, &[0, 5]),
            (-9, &[0, 1, 2, 3, 4, 5]),
            (3, &[0, 4, 5]),
        ];
        for (now, expected) in steps {
            live.expire(at(now));
            assert_eq!(found(&live), expected, "at {now}");
        }
        // What was hidden for another reason stays hidden.
        live.expire(at(9));
        let mutations =
            [Mutation::Delete(VideoId(4)), Mutation::Takedown(VideoId(5)), Mutation::Delete(VideoId(1))];
        let entries: Vec<Entry> =
            (4..).zip(mutations).map(|(sequence, mutation)| Entry { sequence, mutation }).collect();
        live.apply(&entries).unwrap();
        live.expire(at(0));
        assert_eq!(found(&live), [0, 2, 3]);
        live.apply(&[Entry { sequence: 7, mutation: Mutation::Restore(VideoId(5)) }]).unwrap();
        assert_eq!(found(&live), [0, 2, 3, 5]);
    }

    #[test]
    fn what_expired_by_a_wrong_clock_is_not_dropped_for_good() {
        let mut live = expiring();
        live.expire(at(9));
        let kept = |live: &LiveState, settled| {
            let RebuildInput { kept, .. } = live.rebuild_input(at(settled));
            kept.iter().map(|(_, nodes)| nodes.count()).sum::<usize>()
        };
        assert_eq!((kept(&live, 0), kept(&live, 2), kept(&live, 9)), (6, 4, 1));
        live.takedowns.insert(VideoId(5));
        assert_eq!(kept(&live, 2), 4);
        live.deleted.insert(VideoId(4));
        assert_eq!(kept(&live, 2), 3);
    }

    #[test]
    fn takedowns_of_unknown_videos_hide_no_tombstones() {
        let mut live = expiring();
        let unknown = (10..5000).map(|video| Mutation::Takedown(VideoId(video)));
        let mutations = unknown.chain([Mutation::Delete(VideoId(0)), Mutation::Takedown(VideoId(1))]);
        let entries: Vec<Entry> =
            (4..).zip(mutations).map(|(sequence, mutation)| Entry { sequence, mutation }).collect();
        live.apply(&entries).unwrap();
        assert_eq!((live.hidden(), live.tombstones()), (2, 1), "one is deleted, the other only taken down");
    }

    /// Merges a range of sizes, as if no video were in two segments.
    fn merged(sizes: &mut Vec<usize>, range: Range<usize>) -> usize {
        let size = sizes[range.clone()].iter().sum();
        sizes.splice(range, [size]);
        size
    }

    proptest! {
        /// For any sizes of writes, and however rarely large segments are compacted.
        #[test]
        fn segments_stay_few_and_writes_merge_little(
            writes in prop::collection::vec(1usize..300, 1..600),
            writes_per_refresh in 1usize..200,
        ) {
            let mut sizes = vec![1_000_000];
            let (mut written, mut moved) = (0, 0);
            for (number, write) in writes.iter().enumerate() {
                sizes.push(*write);
                written += write;
                while let Some(range) = due(&sizes, first_open(&sizes)..sizes.len()) {
                    let size = merged(&mut sizes, range);
                    prop_assert!(size <= MERGED_BY_WRITES);
                    moved += size;
                }
                // Of the segments that are compacted in the background, any two neighbors have more videos than a write merges.
                let open = first_open(&sizes);
                prop_assert!(sizes.len() - open <= 8, "{sizes:?}");
                prop_assert!(open - 1 <= 2 * written / MERGED_BY_WRITES + 1, "{sizes:?}");
                if number % writes_per_refresh == 0 {
                    while let Some(range) = due(&sizes, 1..first_open(&sizes)) {
                        merged(&mut sizes, range);
                    }
                    prop_assert!(first_open(&sizes) - 1 <= 6, "{sizes:?}");
                }
                prop_assert_eq!(sizes[1..].iter().sum::<usize>(), written);
            }
            prop_assert!(moved <= 8 * written, "{} of {}", moved, written);
        }
    }
}
