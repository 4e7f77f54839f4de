//! What was written to an index since its generation was built, as searches see it.
//!
//! ```text
//! write ─► checked ─► log, on disk ─► apply ─► parts ─► snapshot ─► acknowledged
//!                                      ▲
//! start, or another generation ─► the log from the beginning
//! ```
//!
//! Upserted videos become a small index in memory, a part; small parts are merged. Whatever hides a video (a newer
//! part, a delete, a takedown, its expiry) makes its node dead in the part that has it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::parts::{IndexPart, Parts};
use crate::build::{BuildError, BuildParams, Silent, build_in_memory};
use crate::graph::NodeSet;
use crate::id::{NodeId, VideoId};
use crate::index::Index;
use crate::live::{Entry, Mutation, RowsError, Upsert, catalogue_of, gather};

/// Parts that are searched beside the generation, at most, before some are merged.
const MAX_PARTS: usize = 8;
/// A part is merged into the one before where that is not so many times larger: each video is then merged a few times,
/// and parts are few.
const TIMES_LARGER: usize = 3;

/// Why what was written cannot be searched.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Rows(#[from] RowsError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// What was written over one generation.
#[derive(Debug)]
pub(super) struct LiveState {
    pub(super) parts: Parts,
    /// The last write that the parts know of.
    pub(super) sequence: u64,
    /// Videos that are taken down and not restored.
    pub(super) takedowns: HashSet<VideoId>,
    /// Videos that were deleted and not upserted again.
    deleted: HashSet<VideoId>,
    /// Upserts of another embedding model than that of the generation, by video: they wait for one of theirs.
    pub(super) held: HashSet<VideoId>,
    /// When videos expire, the next first.
    expiries: BinaryHeap<Reverse<(i64, VideoId)>>,
}

impl LiveState {
    /// A generation that nothing was written to.
    pub(super) fn new(base: Arc<Index>) -> Self {
        let mut state = Self {
            parts: Parts::whole(Arc::clone(&base)),
            sequence: 0,
            takedowns: HashSet::new(),
            deleted: HashSet::new(),
            held: HashSet::new(),
            expiries: BinaryHeap::new(),
        };
        state.expect_expiries(&base);
        state
    }

    fn expect_expiries(&mut self, index: &Index) {
        let of_nodes = index.expiries().unwrap_or_default().iter().zip(index.video_ids());
        let some = of_nodes.filter(|(time, _)| **time != i64::MAX);
        self.expiries.extend(some.map(|(time, video)| Reverse((*time, *video))));
    }

    /// Hides videos that were taken down before the first entry that is left.
    pub(super) fn take_down(&mut self, videos: impl Iterator<Item = VideoId>) {
        for video in videos {
            self.takedowns.insert(video);
            self.parts.hide(video);
        }
    }

    /// How many videos the parts from `first` on have.
    pub(super) fn len_from(&self, first: usize) -> usize {
        self.parts.iter().skip(first).map(|part| part.index.len()).sum()
    }

    /// When the next video expires, in microseconds since 1970.
    pub(super) fn next_expiry(&self) -> i64 {
        self.expiries.peek().map_or(i64::MAX, |Reverse((time, _))| *time)
    }

    /// Takes in entries that follow those before.
    ///
    /// # Errors
    /// If no index can be made of them; what is searched is as it was, then.
    pub(super) fn apply(&mut self, entries: &[Entry], now: Timestamp) -> Result<(), ApplyError> {
        // Those that were read from the log already come again where another generation took over meanwhile.
        let entries = &entries[entries.partition_point(|entry| entry.sequence <= self.sequence)..];
        let base = Arc::clone(&self.parts.base().index);
        let mut upserts: HashMap<VideoId, &Upsert> = HashMap::new();
        for entry in entries {
            match &entry.mutation {
                Mutation::Upsert(upsert) if is_of_model(upsert, &base) => {
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
            let catalogue = catalogue_of(&rows, &facts.attributes, base.dim(), facts.dtype)?;
            Some(build_in_memory(&catalogue, &params_of(&base)?, &Silent)?)
        };
        let mut parts = self.parts.clone();
        for entry in entries {
            self.take_in(&entry.mutation, &base);
            parts.hide(entry.mutation.video_id());
        }
        if let Some(part) = part {
            self.expect_expiries(&part);
            parts.push(Arc::new(part));
        }
        for entry in entries {
            self.settle(&mut parts, entry.mutation.video_id(), now);
        }
        self.parts = parts;
        self.sequence = entries.last().map_or(self.sequence, |entry| entry.sequence);
        Ok(())
    }

    fn take_in(&mut self, mutation: &Mutation, base: &Index) {
        match mutation {
            Mutation::Upsert(upsert) if is_of_model(upsert, base) => {
                self.deleted.remove(&upsert.video_id);
                self.held.remove(&upsert.video_id);
            }
            // The video has another embedding now, which cannot be compared with the others.
            Mutation::Upsert(upsert) => {
                self.deleted.insert(upsert.video_id);
                self.held.insert(upsert.video_id);
            }
            Mutation::Delete(video) => {
                self.deleted.insert(*video);
                self.held.remove(video);
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
    fn settle(&self, parts: &mut Parts, video: VideoId, now: Timestamp) {
        let Some((at, node)) = parts.newest(video) else { return };
        if self.is_hidden(video, &parts.part(at).index, node, now) {
            parts.kill(at, node);
        } else {
            parts.revive(at, node);
        }
    }

    /// Hides what has expired.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let mut parts = self.parts.clone();
        while let Some(Reverse((time, video))) = self.expiries.peek().copied()
            && time <= now.as_microsecond()
        {
            self.expiries.pop();
            // The expiry may be that of an older version.
            if parts.newest(video).is_some_and(|(at, node)| is_expired(&parts.part(at).index, node, now)) {
                parts.hide(video);
            }
        }
        self.parts = parts;
    }

    /// The last parts, if they should be one; with the first of them.
    pub(super) fn to_merge(&self) -> Option<usize> {
        let sizes: Vec<usize> = self.parts.iter().map(|part| part.index.len()).collect();
        let mut first = sizes.len();
        let mut size = 0;
        while first > 1 {
            let before = sizes[first - 1];
            let is_due = sizes.len() - first < 2 && sizes.len() > MAX_PARTS || before <= TIMES_LARGER * size;
            if size > 0 && !is_due {
                break;
            }
            size += before;
            first -= 1;
        }
        (sizes.len() - first >= 2).then_some(first)
    }

    /// The nodes of the parts from `first` on that may be candidates again.
    fn kept(&self, first: usize, now: Timestamp) -> Vec<(Arc<Index>, NodeSet)> {
        let parts: Vec<&IndexPart> = self.parts.iter().skip(first).collect();
        let is_kept = |at: usize, part: &IndexPart, node: u32| {
            let video = part.index.video_ids()[node as usize];
            part.allows(NodeId(node))
                || self.takedowns.contains(&video)
                    && !self.deleted.contains(&video)
                    && self.parts.newest(video) == Some((first + at, NodeId(node)))
                    && !is_expired(&part.index, NodeId(node), now)
        };
        let kept = parts.iter().enumerate().map(|(at, part)| {
            let mut kept = NodeSet::none(part.index.len());
            (0..part.index.len() as u32)
                .filter(|node| is_kept(at, part, *node))
                .for_each(|node| kept.insert(node));
            (Arc::clone(&part.index), kept)
        });
        kept.collect()
    }

    /// What a merge of the parts from `first` on is made of.
    pub(super) fn merge(&self, first: usize, now: Timestamp) -> Merge {
        Merge { first, kept: self.kept(first, now) }
    }

    /// Puts what was merged in the place of its parts, unless they are not there any more.
    pub(super) fn put(&mut self, merge: &Merge, merged: Option<Index>, now: Timestamp) {
        let is_there = |(at, (index, _)): (usize, &(Arc<Index>, NodeSet))| {
            self.parts.iter().nth(merge.first + at).is_some_and(|part| Arc::ptr_eq(&part.index, index))
        };
        if !merge.kept.iter().enumerate().all(is_there) {
            return;
        }
        let mut parts = self.parts.clone();
        parts.replace(merge.first..merge.first + merge.kept.len(), merged.map(Arc::new));
        let Some((at, index)) =
            parts.iter().enumerate().nth(merge.first).map(|(at, part)| (at, Arc::clone(&part.index)))
        else {
            self.parts = parts;
            return;
        };
        // What happened to its videos while it was made.
        for (node, video) in (0..).map(NodeId).zip(index.video_ids()) {
            let is_newest = parts.newest(*video) == Some((at, node));
            let is_hidden = self.is_hidden(*video, &index, node, now);
            if !is_newest || is_hidden {
                parts.kill(at, node);
            }
        }
        self.parts = parts;
    }

    /// Videos that are searched beside the generation.
    pub(super) fn delta_vectors(&self) -> usize {
        self.parts.iter().skip(1).map(IndexPart::living).sum()
    }

    /// Videos of the generation that are no candidates.
    pub(super) fn hidden(&self) -> usize {
        let base = self.parts.base();
        base.index.len() - base.living()
    }
}

/// Parts that are to be one.
pub(super) struct Merge {
    first: usize,
    kept: Vec<(Arc<Index>, NodeSet)>,
}

impl Merge {
    /// The part; `None` if nothing is left of them.
    ///
    /// # Errors
    /// If no index can be made of them.
    pub(super) fn build(&self) -> Result<Option<Index>, ApplyError> {
        let kept: Vec<(&Index, &NodeSet)> = self.kept.iter().map(|(index, kept)| (&**index, kept)).collect();
        if kept.iter().all(|(_, kept)| kept.count() == 0) {
            return Ok(None);
        }
        let first = kept[0].0;
        let catalogue = gather(&kept, &first.metadata().attributes)?;
        Ok(Some(build_in_memory(&catalogue, &params_of(first)?, &Silent)?))
    }
}

/// Upserts that do not name a model are of that of the generation.
pub(super) fn is_of_model(upsert: &Upsert, base: &Index) -> bool {
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
