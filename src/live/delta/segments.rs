//! What a request is searched in: the generation, and the delta segments written since.

use std::ops::Range;
use std::sync::Arc;

use crate::attributes::{Columns, ValueKeys, keys_of_words};
use crate::base::id::{NodeId, VideoId};
use crate::index::Index;
use crate::node_set::{CountedSet, NodeSet};

/// Indexes that are searched together: the generation first, then delta segments, oldest first. Their nodes are numbered
/// consecutively. A snapshot never changes its segments; a write makes a changed copy.
#[derive(Clone, Debug)]
pub(crate) struct Segments(Vec<IndexSegment>);

/// One index among the segments.
#[derive(Clone, Debug)]
pub(crate) struct IndexSegment {
    pub(crate) index: Arc<Index>,
    /// The number of its first node among all segments.
    pub(crate) start: u32,
    /// Nodes that must not be returned: deleted, replaced by a newer segment, taken down or expired.
    pub(crate) tombstones: Option<Arc<CountedSet>>,
    /// Its nodes that expire, the first to expire first.
    expiring: Arc<[u32]>,
    /// How many of them got a tombstone when they expired.
    expired: usize,
    /// For each text attribute, keys of its words that equal those of the base segment; empty for the base segment.
    words: Arc<Vec<Option<Vec<u64>>>>,
}

impl Segments {
    /// Returns a generation without a delta, whose videos never expire.
    pub(crate) fn whole(index: Arc<Index>) -> Self {
        Self(vec![IndexSegment::new(index, Arc::default(), Arc::default())])
    }

    /// Returns a generation without a delta, whose videos expire.
    pub(crate) fn expiring(index: Arc<Index>) -> Self {
        let expiring = by_expiry(&index);
        Self(vec![IndexSegment::new(index, expiring, Arc::default())])
    }

    /// Returns the generation.
    pub(crate) fn base(&self) -> &IndexSegment {
        &self.0[0]
    }

    /// Replaces the generation by the same one, mapped again. Tombstones and words stay: the nodes are the same.
    pub(crate) fn set_base(&mut self, index: Arc<Index>) {
        self.0[0].index = index;
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, IndexSegment> {
        self.0.iter()
    }

    /// Returns the generation if there is no delta and no tombstone.
    pub(crate) fn as_whole(&self) -> Option<&Index> {
        match self.0.as_slice() {
            [only] if only.tombstones.is_none() => Some(&only.index),
            _ => None,
        }
    }

    /// Returns the node of a video among the nodes of all segments; `None` if it has none that may be returned.
    pub(crate) fn node_of(&self, video: VideoId) -> Option<NodeId> {
        self.0.iter().rev().find_map(|segment| {
            let node = segment.index.node_of(video).filter(|node| segment.allows(*node))?;
            Some(NodeId(segment.start + node.0))
        })
    }

    /// Returns the position of the newest segment with a video, tombstone or not, and the node in its index.
    pub(crate) fn newest(&self, video: VideoId) -> Option<(usize, NodeId)> {
        self.0.iter().enumerate().rev().find_map(|(at, segment)| Some((at, segment.index.node_of(video)?)))
    }

    /// # Panics
    /// If there is no such segment.
    pub(crate) fn segment(&self, at: usize) -> &IndexSegment {
        &self.0[at]
    }

    /// Adds the newest segment, without tombstones.
    pub(crate) fn push(&mut self, index: Arc<Index>) {
        self.replace(self.0.len()..self.0.len(), Some(index));
    }

    /// Replaces a range of segments by one without tombstones, or by nothing.
    pub(crate) fn replace(&mut self, range: Range<usize>, by: Option<Arc<Index>>) {
        let base = Columns::of(&self.base().index);
        let segment = by.map(|index| {
            let columns = Columns::of(&index);
            let words = (0..columns.schema().len())
                .map(|column| Some(keys_of_words(&columns.words(column)?, &base.words(column)?)));
            let words = Arc::new(words.collect());
            let expiring = by_expiry(&index);
            IndexSegment::new(index, expiring, words)
        });
        self.0.splice(range, segment);
        let mut start = 0;
        for segment in &mut self.0 {
            segment.start = start;
            start += segment.index.len() as u32;
        }
    }

    /// Tombstones the nodes of a video in all segments.
    pub(crate) fn remove(&mut self, video: VideoId) {
        for segment in &mut self.0 {
            if let Some(node) = segment.index.node_of(video) {
                segment.remove(node);
            }
        }
    }

    /// Returns when the next node expires, in microseconds since 1970; `i64::MAX` for never.
    pub(crate) fn next_expiry(&self) -> i64 {
        self.0.iter().map(IndexSegment::next_expiry).min().unwrap_or(i64::MAX)
    }

    /// Tombstones the nodes that expire until `now`, in microseconds since 1970. Takes about a nanosecond per node, and
    /// copies the tombstones of a segment that other snapshots have.
    pub(crate) fn expire(&mut self, now: i64) {
        self.0.iter_mut().for_each(|segment| segment.expire(now));
    }

    /// Returns when the last node expired, in microseconds since 1970; `i64::MIN` without one.
    pub(crate) fn last_expiry(&self) -> i64 {
        self.0.iter().map(IndexSegment::last_expiry).max().unwrap_or(i64::MIN)
    }

    /// Takes nodes back that have a tombstone because they expired, but expire after `now`: the clock was set back. Returns
    /// their videos, whose tombstones the caller removes unless there is another reason for them.
    pub(crate) fn unexpire(&mut self, now: i64) -> Vec<VideoId> {
        self.0.iter_mut().flat_map(|segment| segment.unexpire(now)).collect()
    }

    /// Tombstones a node of the segment at `at`.
    pub(crate) fn remove_node(&mut self, at: usize, node: NodeId) {
        self.0[at].remove(node);
    }

    /// Removes the tombstone of a node of the segment at `at`.
    pub(crate) fn restore_node(&mut self, at: usize, node: NodeId) {
        let segment = &mut self.0[at];
        if let Some(tombstones) = segment.tombstones.as_mut().filter(|set| set.nodes.contains(node.0)) {
            let tombstones = Arc::make_mut(tombstones);
            tombstones.nodes.remove(node.0);
            tombstones.count -= 1;
            if tombstones.count == 0 {
                segment.tombstones = None;
            }
        }
    }

    /// Returns the segment of a node, and the node in its index.
    pub(crate) fn locate(&self, node: NodeId) -> (&IndexSegment, NodeId) {
        let at = self.0.iter().rposition(|segment| segment.start <= node.0).unwrap_or_default();
        let segment = &self.0[at];
        (segment, NodeId(node.0 - segment.start))
    }
}

impl IndexSegment {
    fn new(index: Arc<Index>, expiring: Arc<[u32]>, words: Arc<Vec<Option<Vec<u64>>>>) -> Self {
        Self { index, start: 0, tombstones: None, expiring, expired: 0, words }
    }

    /// Returns whether a node of its index expires until `now`, in microseconds since 1970.
    pub(crate) fn expires_until(&self, node: NodeId, now: i64) -> bool {
        self.index.expiries().is_some_and(|times| times[node.index()] <= now)
    }

    /// Returns whether a node of its index is among those that expired.
    pub(crate) fn is_expired(&self, node: NodeId) -> bool {
        self.expires_until(node, self.last_expiry())
    }

    fn next_expiry(&self) -> i64 {
        self.expiry(self.expiring.get(self.expired)).unwrap_or(i64::MAX)
    }

    fn last_expiry(&self) -> i64 {
        self.expiry(self.expiring[..self.expired].last()).unwrap_or(i64::MIN)
    }

    fn expiry(&self, node: Option<&u32>) -> Option<i64> {
        node.zip(self.index.expiries()).map(|(node, times)| times[*node as usize])
    }

    fn unexpire(&mut self, now: i64) -> Vec<VideoId> {
        let times = self.index.expiries().unwrap_or_default();
        let due = self.expiring[..self.expired].partition_point(|node| times[*node as usize] <= now);
        let early = &self.expiring[due..self.expired];
        let videos = early.iter().map(|node| self.index.video_ids()[*node as usize]).collect();
        self.expired = due;
        videos
    }

    fn expire(&mut self, now: i64) {
        if now < self.next_expiry() {
            return;
        }
        let times = self.index.expiries().unwrap_or_default();
        let left = &self.expiring[self.expired..];
        let due = left.partition_point(|node| times[*node as usize] <= now);
        let tombstones = Arc::make_mut(self.tombstones.get_or_insert_with(|| no_tombstones(&self.index)));
        for node in &left[..due] {
            tombstones.count += usize::from(!tombstones.nodes.contains(*node));
            tombstones.nodes.insert(*node);
        }
        self.expired += due;
    }

    /// Returns whether a node of its index has no tombstone.
    pub(crate) fn allows(&self, node: NodeId) -> bool {
        self.tombstones.as_ref().is_none_or(|tombstones| !tombstones.nodes.contains(node.0))
    }

    /// Returns the number of nodes without a tombstone.
    pub(crate) fn live_count(&self) -> usize {
        self.index.len() - self.tombstones.as_ref().map_or(0, |tombstones| tombstones.count)
    }

    fn remove(&mut self, node: NodeId) {
        let tombstones = self.tombstones.get_or_insert_with(|| no_tombstones(&self.index));
        if !tombstones.nodes.contains(node.0) {
            let tombstones = Arc::make_mut(tombstones);
            tombstones.nodes.insert(node.0);
            tombstones.count += 1;
        }
    }

    /// Returns the keys of a column: equal keys mean equal values, across all segments. `None` if the values of the type
    /// are rarely equal.
    pub(crate) fn value_keys(&self, column: usize) -> Option<ValueKeys<'_>> {
        let keys = Columns::of(&self.index).value_keys(column)?;
        Some(match self.words.get(column) {
            Some(Some(words)) => keys.with_words(words),
            _ => keys,
        })
    }
}

fn no_tombstones(index: &Index) -> Arc<CountedSet> {
    Arc::new(CountedSet { nodes: NodeSet::none(index.len()), count: 0 })
}

/// Returns the nodes of an index that expire, the first to expire first.
fn by_expiry(index: &Index) -> Arc<[u32]> {
    let times = index.expiries().unwrap_or_default();
    let mut expiring: Vec<(i64, u32)> =
        times.iter().copied().zip(0..).filter(|(time, _)| *time != i64::MAX).collect();
    expiring.sort_unstable();
    expiring.into_iter().map(|(_, node)| node).collect()
}
