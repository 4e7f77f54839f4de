//! What a request demands in addition to the best scores, in terms of the segments that it is searched in.

use std::borrow::Cow;
use std::sync::Arc;

use crate::attributes::ValueKeys;
use crate::base::id::{NodeId, VideoId};
use crate::index::Index;
use crate::node_set::{CountedSet, NodeSet};
use crate::rules::{BoundTerms, Diversity, Exclusion, Sample};

/// One of the queries that are searched for together: the score of a node is its best score over all interests.
#[derive(Clone, Debug)]
pub struct Interest<'q> {
    /// `[dim]`, finite.
    pub vector: Cow<'q, [f32]>,
    /// Its scores are multiplied by it; above 0.
    pub weight: f32,
    /// How many of the k hits at least must score best for this interest, if there are that many.
    pub at_least: usize,
}

impl<'q> Interest<'q> {
    /// A single query, with its scores as they are.
    pub fn single(vector: Cow<'q, [f32]>) -> Self {
        Self { vector, weight: 1.0, at_least: 0 }
    }
}

/// One of the indexes that a request is searched in together. Their nodes are numbered consecutively.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// All segments have the same dimension and metric.
    pub index: &'a Index,
    /// `[n]`: the video of each node. A copy of the slice in `index`, since it is read for single nodes.
    pub video_ids: &'a [VideoId],
    /// The number of its first node among those of all segments.
    pub start: u32,
    /// The nodes that match the filter, without tombstones; `None` without a filter.
    pub matches: Option<CountedSet<&'a NodeSet>>,
    /// The nodes that no request may return; none of them matches.
    pub tombstones: Option<CountedSet<&'a NodeSet>>,
    /// `[reserves]`: the nodes that match each.
    pub reserves: &'a [CountedSet<Arc<NodeSet>>],
    /// What is added to the scores of its nodes; `None` without score terms.
    pub terms: Option<&'a BoundTerms<'a>>,
}

/// The rules of one request. Nodes are numbered over all segments.
#[derive(Clone, Copy, Debug)]
pub struct NodeRules<'a> {
    /// The indexes to search, one or more: the base segment first, then delta segments, which are small.
    pub segments: &'a [Segment<'a>],
    /// Videos that must not be hits; `None` if no video is excluded.
    pub exclusion: Option<&'a Exclusion<'a>>,
    /// Nodes that must not be hits, since the query was made of them.
    pub seeds: &'a [NodeId],
    /// How many hits may have the same value, for each of some attributes.
    pub caps: &'a [CapKeys<'a>],
    /// Groups of nodes that places are kept for.
    pub reserves: &'a [Reserve],
    /// The lowest score of a hit.
    pub score_threshold: Option<f32>,
    /// How hits must differ from each other.
    pub diversity: Diversity,
    /// How many hits precede the first one that is wanted.
    pub offset: usize,
}

/// A group of nodes that places are kept for. Each segment has the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reserve {
    /// How many of k hits at least must be of the group, if there are that many.
    pub at_least: usize,
    /// How the nodes of the group are drawn that get the places; `None` for the best.
    pub sample: Option<Sample>,
}

/// How many hits may have the same value of one attribute.
#[derive(Clone, Debug)]
pub struct CapKeys<'a> {
    /// The values by segment. Keys are equal where values are, over all segments.
    pub segments: Vec<ValueKeys<'a>>,
    /// The most hits with the same value.
    pub max_per_value: usize,
}

/// A node of all segments, found in its own segment.
#[derive(Clone, Copy, Debug)]
pub struct Located<'r, 'a> {
    /// The position of the segment.
    pub at: usize,
    /// The segment.
    pub segment: &'r Segment<'a>,
    /// The node in the index of the segment.
    pub node: NodeId,
}

impl<'r, 'a> Located<'r, 'a> {
    /// Finds a node in its segment.
    #[inline]
    pub fn of(node: NodeId, segments: &'r [Segment<'a>]) -> Self {
        let at = segments.iter().rposition(|segment| segment.start <= node.0).unwrap_or_default();
        let segment = &segments[at];
        Self { at, segment, node: NodeId(node.0 - segment.start) }
    }

    /// The video of the node.
    #[inline]
    pub fn video_id(&self) -> VideoId {
        self.segment.video_ids[self.node.index()]
    }
}

impl<'a> NodeRules<'a> {
    /// No rules: the best scores of `segments`.
    pub fn none(segments: &'a [Segment<'a>]) -> Self {
        Self {
            segments,
            exclusion: None,
            seeds: &[],
            caps: &[],
            reserves: &[],
            score_threshold: None,
            diversity: Diversity::default(),
            offset: 0,
        }
    }

    /// Whether a search is plain: one query, one whole segment, and no rule but seeds.
    pub fn is_plain(&self, interests: &[Interest<'_>]) -> bool {
        let is_whole = |segment: &Segment<'_>| {
            segment.matches.is_none()
                && segment.tombstones.is_none()
                && segment.reserves.is_empty()
                && segment.terms.is_none()
        };
        let is_single = |interest: &Interest<'_>| interest.weight == 1.0 && interest.at_least == 0;
        matches!(interests, [only] if is_single(only))
            && matches!(self.segments, [only] if is_whole(only))
            && self.exclusion.is_none()
            && self.caps.is_empty()
            && self.reserves.is_empty()
            && self.score_threshold.is_none()
            && self.diversity == Diversity::default()
    }

    /// Whether hits may keep others out: by caps, or because they are too similar.
    pub(super) fn limits_room(&self) -> bool {
        !self.caps.is_empty() || self.diversity.max_similarity.is_some()
    }

    /// Finds the segment of a node.
    #[inline]
    pub fn locate(&self, node: NodeId) -> Located<'a, 'a> {
        Located::of(node, self.segments)
    }

    /// The video of a node.
    #[inline]
    pub fn video_id(&self, node: NodeId) -> VideoId {
        self.locate(node).video_id()
    }

    /// What each score term adds to the score of a node, in the order of the request.
    pub fn terms(&self, node: NodeId) -> Vec<f32> {
        let located = self.locate(node);
        located.segment.terms.map(|terms| terms.each(located.node.0)).unwrap_or_default()
    }

    /// The reserves that a node matches, one bit each.
    pub fn reserves_of(&self, node: NodeId) -> u32 {
        let located = self.locate(node);
        let bit =
            |(at, of): (usize, &CountedSet<Arc<NodeSet>>)| u32::from(of.nodes.contains(located.node.0)) << at;
        located.segment.reserves.iter().enumerate().map(bit).sum()
    }

    /// Whether a node passes every rule except score threshold, caps and kept places.
    pub fn allows(&self, node: NodeId) -> bool {
        let Located { segment, node: local, .. } = self.locate(node);
        segment.matches.is_none_or(|matches| matches.nodes.contains(local.0))
            && segment.is_live(local)
            && self.exclusion.is_none_or(|excluded| !excluded.contains(segment.video_ids[local.index()]))
            && !self.seeds.contains(&node)
    }
}

impl<'a> Segment<'a> {
    /// All nodes of one index.
    pub fn whole(index: &'a Index) -> Self {
        let video_ids = index.video_ids();
        Self { index, video_ids, start: 0, matches: None, tombstones: None, reserves: &[], terms: None }
    }

    /// How many of its nodes match the filter; without one, how many are not tombstones.
    pub fn matching(&self) -> usize {
        let live = self.index.len() - self.tombstones.map_or(0, |tombstones| tombstones.count);
        self.matches.map_or(live, |matches| matches.count)
    }

    /// Whether one of its nodes is not a tombstone.
    #[inline]
    pub fn is_live(&self, node: NodeId) -> bool {
        self.tombstones.is_none_or(|tombstones| !tombstones.nodes.contains(node.0))
    }
}

/// Why there are fewer hits than wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// There are no more nodes.
    IndexExhausted,
    /// No more nodes match.
    TooFewMatches,
    /// More nodes match, but they are excluded.
    Excluded,
    /// No cap has room for more.
    CapsExhausted,
    /// More nodes pass, but score below the threshold.
    ScoreThreshold,
    /// More nodes pass, but are too similar to hits.
    TooSimilar,
}
