//! What one page asks for, and what choosing it reads of a hit.

use super::hit::Hit;
use super::rules::NodeRules;
use crate::base::id::NodeId;

/// What choosing reads of a hit.
pub(super) trait HitKeys {
    /// For each cap, the most hits with the same key. Caps are numbered by their position.
    fn max_per_key(&self) -> impl ExactSizeIterator<Item = usize>;

    /// Appends the keys of a hit under one cap: equal where the capped values are.
    fn append_keys(&self, cap: usize, node: NodeId, keys: &mut Vec<u64>);

    /// Whether a place that is kept for fresh hits may go to this one.
    fn is_fresh(&self, node: NodeId) -> bool;
}

impl HitKeys for NodeRules<'_> {
    fn max_per_key(&self) -> impl ExactSizeIterator<Item = usize> {
        self.caps.iter().map(|cap| cap.max_per_value)
    }

    fn append_keys(&self, cap: usize, node: NodeId, keys: &mut Vec<u64>) {
        let located = self.locate(node);
        self.caps[cap].segments[located.at].append(located.node, keys);
    }

    fn is_fresh(&self, node: NodeId) -> bool {
        NodeRules::is_fresh(self, node)
    }
}

/// How many hits to choose, and which places are kept.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    /// How many hits to choose.
    pub(super) size: usize,
    /// The lowest score of a hit.
    pub(super) score_threshold: Option<f32>,
    /// How many hits at least must be fresh.
    pub(super) fresh: usize,
    /// `[interests]`: how many hits at least must be of each interest.
    pub(super) of_interests: Vec<usize>,
}

impl Quota {
    /// Whether a hit scores below the threshold.
    pub(super) fn is_below(&self, hit: &Hit) -> bool {
        self.score_threshold.is_some_and(|threshold| hit.score < threshold)
    }
}
