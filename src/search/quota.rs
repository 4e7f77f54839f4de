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

    /// The reserves whose places may go to a hit.
    fn reserves(&self, node: NodeId) -> Groups;

    /// Reads the embedding of a hit into `row`, `[dim]`.
    fn copy_embedding(&self, node: NodeId, row: &mut Vec<f32>);

    /// Prefetches the embedding of a hit, which is read soon.
    fn prefetch_embedding(&self, node: NodeId);
}

/// Some of the groups that places are kept for, one bit each: first those of the reserves, then one for each interest.
pub(super) type Groups = u32;

/// The positions of some groups.
pub(super) fn positions(mut groups: Groups) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let first = groups.trailing_zeros();
        groups &= groups.checked_sub(1)?;
        Some(first as usize)
    })
}

impl HitKeys for NodeRules<'_> {
    fn max_per_key(&self) -> impl ExactSizeIterator<Item = usize> {
        self.caps.iter().map(|cap| cap.max_per_value)
    }

    fn append_keys(&self, cap: usize, node: NodeId, keys: &mut Vec<u64>) {
        let located = self.locate(node);
        self.caps[cap].segments[located.at].append(located.node, keys);
    }

    fn reserves(&self, node: NodeId) -> Groups {
        self.reserves_of(node)
    }

    fn copy_embedding(&self, node: NodeId, row: &mut Vec<f32>) {
        let located = self.locate(node);
        located.segment.index.vectors().copy_row(located.node.index(), row);
    }

    fn prefetch_embedding(&self, node: NodeId) {
        let located = self.locate(node);
        located.segment.index.vectors().prefetch_row(located.node.index());
    }
}

/// How many hits to choose, and which places are kept.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    /// How many hits to choose.
    pub(super) size: usize,
    /// The lowest score of a hit.
    pub(super) score_threshold: Option<f32>,
    /// `[reserves + interests]`: how many hits at least must be of each group.
    pub(super) kept: Vec<usize>,
    /// How many of the groups are reserves.
    pub(super) reserves: usize,
}

impl Quota {
    /// The groups that places are kept for.
    pub(super) fn open(&self) -> Groups {
        let bit = |(at, kept): (usize, &usize)| Groups::from(*kept > 0) << at;
        self.kept.iter().enumerate().map(bit).sum()
    }

    /// Those of the groups `open` whose places may go to a hit.
    pub(super) fn groups(&self, hit: &Hit, open: Groups, keys: &impl HitKeys) -> Groups {
        let of_interest =
            (1 as Groups).checked_shl((self.reserves + hit.interest) as u32).unwrap_or_default();
        let has_reserves = open & ((1 << self.reserves) - 1) != 0;
        let of_reserves = if has_reserves { keys.reserves(hit.node) } else { 0 };
        (of_interest | of_reserves) & open
    }

    /// Whether a hit scores below the threshold.
    pub(super) fn is_below(&self, hit: &Hit) -> bool {
        self.score_threshold.is_some_and(|threshold| hit.score < threshold)
    }
}
