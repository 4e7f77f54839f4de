//! What a request asks besides the best scores, in terms of one index.

use std::borrow::Cow;

use super::choice::Ranked;
use crate::attributes::ValueKeys;
use crate::base::id::{NodeId, VideoId};
use crate::index::Index;
use crate::node_set::NodeSet;
use crate::rules::Exclusion;

/// One of the queries that are searched for together: a node scores what it scores for the one it fits best.
#[derive(Clone, Debug)]
pub struct Interest<'q> {
    /// `[dim]`, finite.
    pub vector: Cow<'q, [f32]>,
    /// What its scores are multiplied with; above 0.
    pub weight: f32,
    /// How many of k at least fit this one best, where there are so many.
    pub at_least: usize,
}

/// One of the indexes that a request is searched in together: their nodes are numbered one after another.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// All parts have the same dimension and metric.
    pub index: &'a Index,
    /// Of its nodes, at hand: they are looked up one by one.
    pub video_ids: &'a [VideoId],
    /// The number of its first node among those of all parts.
    pub start: u32,
    /// Its nodes that may be hits, and how many they are; all that are not dead where there is none.
    pub matches: Option<(&'a NodeSet, usize)>,
    /// Its nodes that may not, whatever is asked, and how many they are; none of them matches.
    pub dead: Option<(&'a NodeSet, usize)>,
    /// Its fresh nodes, where some places are kept for those.
    pub fresh: Option<&'a NodeSet>,
}

/// The rules of one request. Nodes are numbered over all parts.
#[derive(Clone, Debug)]
pub struct NodeRules<'a> {
    /// What is searched, one or more: the first is the base, which the others are small beside.
    pub parts: Vec<Part<'a>>,
    /// Videos that may not be hits.
    pub exclusion: &'a Exclusion<'a>,
    /// Nodes that may not.
    pub seeds: &'a [NodeId],
    /// How many hits may have the same value, for each of some attributes.
    pub caps: Vec<CapKeys<'a>>,
    /// How many of k at least are fresh, where there are so many.
    pub fresh_at_least: usize,
    /// Hits score this much or more.
    pub score_threshold: Option<f32>,
    /// How many hits come before the first that is wanted.
    pub offset: usize,
    /// The first k of those, where another search has found them already; empty where none has.
    pub first_page: Vec<Ranked>,
}

/// How many hits may have the same value of one attribute.
#[derive(Clone, Debug)]
pub struct CapKeys<'a> {
    /// The values by part; equal where the values are, over all parts.
    pub parts: Vec<ValueKeys<'a>>,
    /// How many.
    pub max_per_value: usize,
}

impl<'a> NodeRules<'a> {
    /// The part of a node, its position among the parts, and the node in its index.
    #[inline]
    pub fn locate(&self, node: NodeId) -> (usize, &Part<'a>, NodeId) {
        let at = self.parts.iter().rposition(|part| part.start <= node.0).unwrap_or_default();
        let part = &self.parts[at];
        (at, part, NodeId(node.0 - part.start))
    }

    /// The video of a node.
    #[inline]
    pub fn video_id(&self, node: NodeId) -> VideoId {
        let (_, part, node) = self.locate(node);
        part.video_ids[node.index()]
    }

    /// Whether a node is fresh.
    pub fn is_fresh(&self, node: NodeId) -> bool {
        let (_, part, node) = self.locate(node);
        part.fresh.is_some_and(|fresh| fresh.contains(node.0))
    }

    /// Whether nothing but its score and the caps can keep a node out.
    pub fn allows(&self, node: NodeId) -> bool {
        let (_, part, local) = self.locate(node);
        part.matches.is_none_or(|(matches, _)| matches.contains(local.0))
            && part.allows(local)
            && !self.exclusion.contains(part.video_ids[local.index()])
            && !self.seeds.contains(&node)
    }
}

impl Part<'_> {
    /// How many of its nodes may be hits.
    pub fn matching(&self) -> usize {
        let living = self.index.len() - self.dead.map_or(0, |(_, count)| count);
        self.matches.map_or(living, |(_, count)| count)
    }

    /// Whether a node of it is not dead.
    #[inline]
    pub fn allows(&self, node: NodeId) -> bool {
        self.dead.is_none_or(|(dead, _)| !dead.contains(node.0))
    }
}

/// Why there are fewer hits than wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// There are no more nodes.
    IndexExhausted,
    /// No more nodes match.
    TooFewMatches,
    /// More match, but they are excluded.
    Excluded,
    /// The caps have no room for more.
    CapsExhausted,
    /// More score less than the threshold.
    ScoreThreshold,
}
