//! Which of many ranked nodes become hits: caps, kept places, threshold.
//!
//! Going from the best down, a node is taken if every cap has room for it and enough places stay free for what they
//! are kept for. Places that cannot be filled go to the best of those that were passed over for them.

use rustc_hash::FxHashMap;

use super::rules::{Interest, NodeRules};
use crate::attributes::ValueKeys;
use crate::id::NodeId;

/// A node in the order of its exact score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The node.
    pub node: NodeId,
    /// Larger is better.
    pub score: f32,
    /// The interest it fits best.
    pub interest: usize,
}

/// How much room the caps have left.
#[derive(Clone, Debug)]
pub(super) struct Room<'a> {
    caps: &'a [(ValueKeys<'a>, usize)],
    /// How many have each value of each cap.
    taken: FxHashMap<(u32, u64), usize>,
    keys: Vec<u64>,
}

impl<'a> Room<'a> {
    pub(super) fn new(caps: &'a [(ValueKeys<'a>, usize)]) -> Self {
        Self { caps, taken: FxHashMap::default(), keys: Vec::new() }
    }

    /// The first cap that has no room for a node.
    pub(super) fn full_cap(&mut self, node: NodeId) -> Option<usize> {
        (0..self.caps.len()).find(|cap| {
            let (values, max) = &self.caps[*cap];
            self.keys.clear();
            values.append(node, &mut self.keys);
            self.keys.iter().any(|key| self.taken.get(&(*cap as u32, *key)).is_some_and(|taken| taken >= max))
        })
    }

    /// Takes a place under every cap; says no, and takes none, where one has no room.
    pub(super) fn take(&mut self, node: NodeId) -> bool {
        if self.full_cap(node).is_some() {
            return false;
        }
        for (cap, (values, _)) in self.caps.iter().enumerate() {
            self.keys.clear();
            values.append(node, &mut self.keys);
            for key in &self.keys {
                *self.taken.entry((cap as u32, *key)).or_default() += 1;
            }
        }
        true
    }
}

/// What was taken, and what was missing.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    /// In the order of the nodes.
    pub(super) taken: Vec<Ranked>,
    pub(super) room: Room<'a>,
    /// Kept places that were not filled by those they were kept for: of fresh nodes, and of each interest.
    pub(super) unmet_fresh: usize,
    pub(super) unmet: Vec<usize>,
    /// Whether a cap was in the way of a node.
    pub(super) is_capped: bool,
    /// Whether nodes scored less than the threshold.
    pub(super) is_below: bool,
}

/// Takes `k` of `ranked`, which is in order, where `room` is left after those that were taken before.
pub(super) fn choose<'a>(
    ranked: &[Ranked],
    k: usize,
    (rules, interests): (&NodeRules<'_>, &[Interest<'_>]),
    mut room: Room<'a>,
) -> Choice<'a> {
    let mut unmet: Vec<usize> = interests.iter().map(|interest| interest.at_least).collect();
    let mut unmet_fresh = rules.fresh.map_or(0, |(_, at_least)| at_least);
    let mut kept = unmet_fresh + unmet.iter().sum::<usize>();
    let mut taken: Vec<(usize, Ranked)> = Vec::with_capacity(k.min(ranked.len()));
    let mut passed_over = Vec::new();
    let (mut is_capped, mut is_below) = (false, false);
    for (at, candidate) in ranked.iter().enumerate() {
        if taken.len() == k {
            break;
        }
        if rules.score_threshold.is_some_and(|threshold| candidate.score < threshold) {
            is_below = true;
            break;
        }
        let is_fresh =
            unmet_fresh > 0 && rules.fresh.is_some_and(|(fresh, _)| fresh.contains(candidate.node.0));
        let is_of_interest = unmet[candidate.interest] > 0;
        let fills = usize::from(is_fresh) + usize::from(is_of_interest);
        if k - taken.len() - 1 < kept - fills {
            passed_over.push((at, *candidate));
        } else if room.take(candidate.node) {
            kept -= fills;
            unmet_fresh -= usize::from(is_fresh);
            unmet[candidate.interest] -= usize::from(is_of_interest);
            taken.push((at, *candidate));
        } else {
            is_capped = true;
        }
    }
    for (at, candidate) in passed_over {
        if taken.len() == k {
            break;
        }
        if room.take(candidate.node) {
            taken.push((at, candidate));
        } else {
            is_capped = true;
        }
    }
    taken.sort_unstable_by_key(|(at, _)| *at);
    let taken = taken.into_iter().map(|(_, candidate)| candidate).collect();
    Choice { taken, room, unmet_fresh, unmet, is_capped, is_below }
}
