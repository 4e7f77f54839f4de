//! What a request asks besides the best scores, in terms of one index.

use std::borrow::Cow;

use super::choice::Ranked;
use crate::attributes::ValueKeys;
use crate::graph::NodeSet;
use crate::id::NodeId;
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

/// The rules of one request.
#[derive(Clone, Debug)]
pub struct NodeRules<'a> {
    /// The nodes that may be hits, and how many they are; all where there is none.
    pub matches: Option<(&'a NodeSet, usize)>,
    /// Videos that may not.
    pub exclusion: &'a Exclusion,
    /// Nodes that may not.
    pub seeds: &'a [NodeId],
    /// How many hits may have the same value, for each of some attributes.
    pub caps: Vec<(ValueKeys<'a>, usize)>,
    /// The fresh nodes, and how many of k at least are among them, where there are so many.
    pub fresh: Option<(&'a NodeSet, usize)>,
    /// Hits score this much or more.
    pub score_threshold: Option<f32>,
    /// How many hits come before the first that is wanted.
    pub offset: usize,
    /// The first k of those, where another search has found them already; empty where none has.
    pub first_page: Vec<Ranked>,
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
