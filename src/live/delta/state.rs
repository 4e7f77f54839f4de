//! What was written to an index since its generation was built, as searches see it.
//!
//! ```text
//! write ─► checked ─► log, on disk ─► apply ─► parts ─► snapshot ─► acknowledged
//!                                      ▲
//! start, or another generation ─► the log after what the generation knows of
//! ```
//!
//! Upserted videos become a small index in memory, a part; small parts are merged. Whatever hides a video (a newer
//! part, a delete, a takedown, its expiry) makes its node dead in the part that has it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use crate::base::id::{NodeId, VideoId};
use crate::build::{BuildError, BuildParams, GRAPH_FROM, Silent, build_in_memory};
use crate::index::Index;
use crate::live::delta::rows::{RowsError, check_attributes, check_embedding, dataset_of, gather};
use crate::live::delta::segments::{IndexSegment, Segments};
use crate::live::log::error::LogError;
use crate::live::log::mutation::{Entry, Mutation, Upsert};
use crate::live::log::mutation_log::MutationLog;
use crate::node_set::NodeSet;

/// A part is merged with the ones after it unless it is more than so many times larger than they are together: each
/// video is merged a few times, and there are few parts.
const TIMES_LARGER: usize = 3;
/// The last parts, as far as they have no more videos than these together, are merged by the writes: so few that no
/// write waits for a graph. Those before them are merged beside the writes.
pub(crate) const MERGED_BY_WRITES: usize = GRAPH_FROM - 1;

/// Why what was written cannot be searched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Rows(#[from] RowsError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// What was written over one generation.
#[derive(Debug)]
pub(crate) struct LiveState {
    pub(crate) segments: Segments,
    /// The last write that the parts know of.
    pub(crate) sequence: u64,
    /// Videos that are taken down and not restored.
    pub(crate) takedowns: HashSet<VideoId>,
    /// Videos that were deleted and not upserted again.
    deleted: HashSet<VideoId>,
    /// Upserts that do not fit the generation, each with its number: of another embedding model, or with attributes
    /// that it does not have. They wait for a generation that they fit, or to be written again.
    pub(crate) held: HashMap<VideoId, u64>,
    /// When videos expire, the next first.
    expiries: BinaryHeap<Reverse<(i64, VideoId)>>,
}

impl LiveState {
    /// A generation that nothing was written to since.
    pub(crate) fn new(base: Arc<Index>) -> Self {
        let mut state = Self {
            segments: Segments::whole(Arc::clone(&base)),
            sequence: base.metadata().log_sequence,
            takedowns: HashSet::new(),
            deleted: HashSet::new(),
            held: HashMap::new(),
            expiries: BinaryHeap::new(),
        };
        state.expect_expiries(&base);
        state
    }

    /// A generation before what is in the log is taken in. Of writes that it knows of, only those that wait for
    /// another generation matter, and takedowns, which hold whatever a generation has.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn before(base: Arc<Index>, log: &dyn MutationLog) -> Result<Self, LogError> {
        let mut state = Self::new(base);
        state.sequence = state.segments.base().index.metadata().held_after().max(log.trimmed_to());
        for (video, sequence) in log.takedowns()? {
            if sequence <= state.sequence {
                state.takedowns.insert(video);
                state.segments.hide(video);
            }
        }
        Ok(state)
    }

    fn expect_expiries(&mut self, index: &Index) {
        let of_nodes = index.expiries().unwrap_or_default().iter().zip(index.video_ids());
        let some = of_nodes.filter(|(time, _)| **time != i64::MAX);
        self.expiries.extend(some.map(|(time, video)| Reverse((*time, *video))));
    }

    /// When the next video expires, in microseconds since 1970.
    pub(crate) fn next_expiry(&self) -> i64 {
        self.expiries.peek().map_or(i64::MAX, |Reverse((time, _))| *time)
    }

    /// Takes in entries that follow those before.
    ///
    /// # Errors
    /// If no index can be made of them; what is searched is as it was, then.
    pub(crate) fn apply(&mut self, entries: &[Entry], now: Timestamp) -> Result<(), ApplyError> {
        // Those that were read from the log already come again where another generation took over meanwhile.
        let entries = &entries[entries.partition_point(|entry| entry.sequence <= self.sequence)..];
        let base = Arc::clone(&self.segments.base().index);
        let known = base.metadata().log_sequence;
        let mut upserts: HashMap<VideoId, &Upsert> = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.sequence > known) {
            match &entry.mutation {
                Mutation::Upsert(upsert) if fits(upsert, &base) => {
                    upserts.insert(upsert.video_id, upsert);
                }
                Mutation::Delete(video) => _ = upserts.remove(video),
                Mutation::Upsert(_) | Mutation::Takedown(_) | Mutation::Restore(_) => {}
            }
        }
        let part = if upserts.is_empty() {
            None
        } else {
            let mut rows: Vec<&Upsert> = upserts.values().copied().collect();
            rows.sort_unstable_by_key(|upsert| upsert.video_id);
            let facts = base.metadata();
            let dataset = dataset_of(&rows, &facts.attributes, base.dim(), facts.dtype)?;
            Some(build_in_memory(&dataset, &params_of(&base)?, &Silent)?)
        };
        let mut parts = self.segments.clone();
        for entry in entries {
            self.take_in(entry, &base, &mut parts);
        }
        if let Some(part) = part {
            self.expect_expiries(&part);
            parts.push(Arc::new(part));
        }
        for entry in entries {
            self.settle(&mut parts, entry.mutation.video_id(), now);
        }
        self.segments = parts;
        self.sequence = entries.last().map_or(self.sequence, |entry| entry.sequence);
        Ok(())
    }

    /// Hides the nodes of a video that an entry replaces or deletes.
    fn take_in(&mut self, entry: &Entry, base: &Index, parts: &mut Segments) {
        let is_known = entry.sequence <= base.metadata().log_sequence;
        match &entry.mutation {
            // It cannot stand beside the others.
            Mutation::Upsert(upsert) if !fits(upsert, base) => {
                self.held.insert(upsert.video_id, entry.sequence);
            }
            Mutation::Upsert(Upsert { video_id, .. }) | Mutation::Delete(video_id) => {
                self.held.remove(video_id);
                if is_known {
                    return;
                }
                match entry.mutation {
                    Mutation::Delete(_) => self.deleted.insert(*video_id),
                    _ => self.deleted.remove(video_id),
                };
                parts.hide(*video_id);
            }
            Mutation::Takedown(video) => _ = self.takedowns.insert(*video),
            Mutation::Restore(video) => _ = self.takedowns.remove(video),
        }
    }

    /// Whether something hides a video that has this node in an index.
    fn is_hidden(&self, video: VideoId, index: &Index, node: NodeId, now: Timestamp) -> bool {
        self.takedowns.contains(&video) || self.deleted.contains(&video) || is_expired(index, node, now)
    }

    /// Makes the newest node of a video, the others being hidden, a candidate or none.
    fn settle(&self, parts: &mut Segments, video: VideoId, now: Timestamp) {
        let Some((at, node)) = parts.newest(video) else { return };
        if self.is_hidden(video, &parts.part(at).index, node, now) {
            parts.kill(at, node);
        } else {
            parts.revive(at, node);
        }
    }

    /// Hides what has expired.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let mut parts = self.segments.clone();
        while let Some(Reverse((time, video))) = self.expiries.peek().copied()
            && time <= now.as_microsecond()
        {
            self.expiries.pop();
            // The expiry may be that of an older version.
            if parts.newest(video).is_some_and(|(at, node)| is_expired(&parts.part(at).index, node, now)) {
                parts.hide(video);
            }
        }
        self.segments = parts;
    }

    /// What the writes should merge.
    pub(crate) fn small_merge(&self, now: Timestamp) -> Option<Merge> {
        let sizes = self.sizes();
        Some(self.merge(due(&sizes, open_from(&sizes)..sizes.len())?, now))
    }

    /// What should be merged beside the writes, which leave these parts alone.
    pub(crate) fn large_merge(&self, now: Timestamp) -> Option<Merge> {
        let sizes = self.sizes();
        Some(self.merge(due(&sizes, 1..open_from(&sizes))?, now))
    }

    /// How many videos each part has, the generation first.
    fn sizes(&self) -> Vec<usize> {
        self.segments.iter().map(|part| part.index.len()).collect()
    }

    /// All parts, to be built into the next generation.
    pub(crate) fn fold(&self, now: Timestamp) -> Fold {
        let Merge { kept, .. } = self.merge(0..self.segments.len(), now);
        Fold { kept, sequence: self.sequence, held: self.held.len() as u64 }
    }

    /// Entries up to this one are of no use to the generation.
    pub(crate) fn unneeded_to(&self) -> u64 {
        let held = self.held.values().min().map_or(u64::MAX, |first| first - 1);
        self.segments.base().index.metadata().log_sequence.min(held)
    }

    /// Some parts, each with its nodes that may be candidates again.
    fn merge(&self, range: Range<usize>, now: Timestamp) -> Merge {
        let is_kept = |at: usize, part: &IndexSegment, node: NodeId| {
            let video = part.index.video_ids()[node.index()];
            part.allows(node)
                || self.takedowns.contains(&video)
                    && !self.deleted.contains(&video)
                    && self.segments.newest(video) == Some((at, node))
                    && !is_expired(&part.index, node, now)
        };
        let kept = range.clone().map(|at| {
            let part = self.segments.part(at);
            let mut kept = NodeSet::none(part.index.len());
            let nodes = (0..part.index.len() as u32).filter(|node| is_kept(at, part, NodeId(*node)));
            nodes.for_each(|node| kept.insert(node));
            (Arc::clone(&part.index), kept)
        });
        Merge { first: range.start, kept: kept.collect() }
    }

    /// Puts what was merged in the place of its parts, unless they are not there any more.
    pub(crate) fn put(&mut self, merge: &Merge, merged: Option<Index>, now: Timestamp) {
        let is_there = |(at, (index, _)): (usize, &(Arc<Index>, NodeSet))| {
            self.segments.iter().nth(merge.first + at).is_some_and(|part| Arc::ptr_eq(&part.index, index))
        };
        if !merge.kept.iter().enumerate().all(is_there) {
            return;
        }
        let mut parts = self.segments.clone();
        let merged = merged.map(Arc::new);
        parts.replace(merge.first..merge.first + merge.kept.len(), merged.clone());
        // What happened to its videos while it was made.
        for (node, video) in merged.iter().flat_map(|index| (0..).map(NodeId).zip(index.video_ids())) {
            if parts.newest(*video) == Some((merge.first, node)) {
                self.settle(&mut parts, *video, now);
            } else {
                parts.kill(merge.first, node);
            }
        }
        self.segments = parts;
    }

    /// Videos that are searched beside the generation.
    pub(crate) fn delta_vectors(&self) -> usize {
        self.segments.iter().skip(1).map(IndexSegment::living).sum()
    }

    /// Videos of the generation that are no candidates and would not be in the next one.
    pub(crate) fn tombstones(&self) -> usize {
        self.hidden().saturating_sub(self.takedowns.len())
    }

    /// Videos of the generation that are no candidates.
    pub(crate) fn hidden(&self) -> usize {
        let base = self.segments.base();
        base.index.len() - base.living()
    }
}

/// Segments that are to be one.
pub(crate) struct Merge {
    first: usize,
    kept: Vec<(Arc<Index>, NodeSet)>,
}

impl Merge {
    /// The part; `None` if nothing is left of them.
    ///
    /// # Errors
    /// If no index can be made of them.
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

/// What the next generation is to be made of.
pub(crate) struct Fold {
    /// Indexes, each with its nodes that are to be in it.
    pub(crate) kept: Vec<(Arc<Index>, NodeSet)>,
    /// The last write that they know of.
    pub(crate) sequence: u64,
    /// Upserts that cannot be in it.
    pub(crate) held: u64,
}

/// The first of the last parts that the writes merge.
fn open_from(sizes: &[usize]) -> usize {
    let mut total = 0;
    let open = sizes[1..].iter().rev().take_while(|size| {
        total += **size;
        total <= MERGED_BY_WRITES
    });
    sizes.len() - open.count()
}

/// The last of some parts, two or more, if they should be one.
fn due(sizes: &[usize], of: Range<usize>) -> Option<Range<usize>> {
    let (mut first, mut size) = (of.end, 0);
    while first > of.start && (size == 0 || sizes[first - 1] <= TIMES_LARGER * size) {
        first -= 1;
        size += sizes[first];
    }
    (of.end - first >= 2).then_some(first..of.end)
}

/// Whether an upsert, which fitted the generation that it was checked against, fits this one.
fn fits(upsert: &Upsert, base: &Index) -> bool {
    let facts = base.metadata();
    is_of_model(upsert, base)
        && check_embedding(&upsert.embedding, base.dim(), facts.dtype, facts.metric).is_ok()
        && check_attributes(upsert, &facts.attributes).is_ok()
}

/// Upserts that do not name a model are of that of the generation.
pub(crate) fn is_of_model(upsert: &Upsert, base: &Index) -> bool {
    upsert.embedding_model.is_none() || upsert.embedding_model == base.metadata().embedding_model
}

fn is_expired(index: &Index, node: NodeId, now: Timestamp) -> bool {
    index.expiries().is_some_and(|times| times[node.index()] <= now.as_microsecond())
}

/// As the generation was built.
fn params_of(base: &Index) -> Result<BuildParams, BuildError> {
    let facts = base.metadata();
    let params = BuildParams::new(facts.metric, facts.m as usize, facts.build.ef_construction as usize)?;
    Ok(params.with_embedding_model(facts.embedding_model.clone()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Merges what `range` says, as if no video were there twice.
    fn merged(sizes: &mut Vec<usize>, range: Range<usize>) -> usize {
        let size = sizes[range.clone()].iter().sum();
        sizes.splice(range, [size]);
        size
    }

    proptest! {
        /// However much is written at a time, and however seldom large parts are merged.
        #[test]
        fn parts_stay_few_and_writes_merge_little(
            writes in prop::collection::vec(1usize..300, 1..600),
            writes_per_look in 1usize..200,
        ) {
            let mut sizes = vec![1_000_000];
            let (mut written, mut moved) = (0, 0);
            for (number, write) in writes.iter().enumerate() {
                sizes.push(*write);
                written += write;
                while let Some(range) = due(&sizes, open_from(&sizes)..sizes.len()) {
                    let size = merged(&mut sizes, range);
                    prop_assert!(size <= MERGED_BY_WRITES);
                    moved += size;
                }
                // Of those that are merged beside the writes, any two beside each other have more than a write merges.
                let open = open_from(&sizes);
                prop_assert!(sizes.len() - open <= 8, "{sizes:?}");
                prop_assert!(open - 1 <= 2 * written / MERGED_BY_WRITES + 1, "{sizes:?}");
                if number % writes_per_look == 0 {
                    while let Some(range) = due(&sizes, 1..open_from(&sizes)) {
                        merged(&mut sizes, range);
                    }
                    prop_assert!(open_from(&sizes) - 1 <= 6, "{sizes:?}");
                }
                prop_assert_eq!(sizes[1..].iter().sum::<usize>(), written);
            }
            prop_assert!(moved <= 8 * written, "{} of {}", moved, written);
        }
    }
}
