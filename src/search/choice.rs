//! Which of many ranked nodes become hits: caps, kept places, threshold.
//!
//! Going from the best down, a node is taken if every cap has room for it and enough places stay free for what they
//! are kept for. Places that cannot be filled, and those that one node fills two of, go to the best of those that
//! were passed over for them.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::rules::{Interest, NodeRules};
use crate::base::id::NodeId;

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
    rules: &'a NodeRules<'a>,
    /// How many have each value of each cap.
    taken: FxHashMap<(u32, u64), usize>,
    keys: Vec<u64>,
}

impl<'a> Room<'a> {
    pub(super) fn new(rules: &'a NodeRules<'a>) -> Self {
        Self { rules, taken: FxHashMap::default(), keys: Vec::new() }
    }

    /// The first cap that has no room for a node.
    pub(super) fn full_cap(&mut self, node: NodeId) -> Option<usize> {
        (0..self.rules.caps.len()).find(|cap| {
            let max = self.rules.caps[*cap].max_per_value;
            self.look_up(*cap, node);
            self.keys
                .iter()
                .any(|key| self.taken.get(&(*cap as u32, *key)).is_some_and(|taken| *taken >= max))
        })
    }

    /// Takes a place under every cap; says no, and takes none, where one has no room.
    pub(super) fn take(&mut self, node: NodeId) -> bool {
        if self.full_cap(node).is_some() {
            return false;
        }
        for cap in 0..self.rules.caps.len() {
            self.look_up(cap, node);
            for key in &self.keys {
                *self.taken.entry((cap as u32, *key)).or_default() += 1;
            }
        }
        true
    }

    fn look_up(&mut self, cap: usize, node: NodeId) {
        self.keys.clear();
        let (part, _, node) = self.rules.locate(node);
        self.rules.caps[cap].parts[part].append(node, &mut self.keys);
    }
}

/// What was taken, and what was missing.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    /// In the order of the nodes.
    pub(super) taken: Vec<Ranked>,
    pub(super) room: Room<'a>,
    /// The score of the node that filled the last place kept for fresh nodes, and for each interest: infinite if
    /// none is kept, and negative infinite if one stayed free.
    pub(super) filled_fresh: f32,
    pub(super) filled: Vec<f32>,
    /// The lowest score of a node that was taken in its turn and filled none of those; infinite if none was.
    pub(super) lowest_plain: f32,
    /// Whether a cap was in the way of a node.
    pub(super) is_capped: bool,
    /// Whether nodes scored less than the threshold.
    pub(super) is_below: bool,
}

/// Nodes that are looked at between two questions whether to go on.
const ASKED_EVERY: usize = 1024;

/// Takes `k` of `ranked`, which is in order, where `room` is left after those that were taken before. `keep_going` is
/// asked now and then; told to stop, it takes what it came to.
pub(super) fn choose<'a>(
    ranked: &[Ranked],
    k: usize,
    (rules, interests): (&NodeRules<'_>, &[Interest<'_>]),
    mut room: Room<'a>,
    keep_going: &mut dyn FnMut() -> bool,
) -> Choice<'a> {
    let mut unmet: Vec<usize> = interests.iter().map(|interest| interest.at_least).collect();
    let mut unmet_fresh = rules.fresh_at_least;
    let mut kept = unmet_fresh + unmet.iter().sum::<usize>();
    let at_first = |unmet: usize| if unmet > 0 { f32::NEG_INFINITY } else { f32::INFINITY };
    let mut filled_fresh = at_first(unmet_fresh);
    let mut filled: Vec<f32> = unmet.iter().copied().map(at_first).collect();
    if rules.caps.is_empty() && kept == 0 {
        let is_below =
            |candidate: &Ranked| rules.score_threshold.is_some_and(|least| candidate.score < least);
        let best = &ranked[..k.min(ranked.len())];
        let below = best.iter().position(is_below);
        let taken = best[..below.unwrap_or(best.len())].to_vec();
        let lowest_plain = taken.last().map_or(f32::INFINITY, |last| last.score);
        let is_below = below.is_some();
        return Choice { taken, room, filled_fresh, filled, lowest_plain, is_capped: false, is_below };
    }
    let mut lowest_plain = f32::INFINITY;
    let mut taken: Vec<(usize, Ranked)> = Vec::with_capacity(k.min(ranked.len()));
    let mut passed_over = VecDeque::new();
    let (mut is_capped, mut is_below) = (false, false);
    for (at, candidate) in ranked.iter().enumerate() {
        if taken.len() == k || at % ASKED_EVERY == ASKED_EVERY - 1 && !keep_going() {
            break;
        }
        if rules.score_threshold.is_some_and(|threshold| candidate.score < threshold) {
            is_below = true;
            break;
        }
        let is_fresh = unmet_fresh > 0 && rules.is_fresh(candidate.node);
        let is_of_interest = unmet[candidate.interest] > 0;
        let fills = usize::from(is_fresh) + usize::from(is_of_interest);
        if k - taken.len() - 1 < kept - fills {
            passed_over.push_back((at, *candidate));
        } else if room.take(candidate.node) {
            kept -= fills;
            if is_fresh {
                unmet_fresh -= 1;
                filled_fresh = if unmet_fresh > 0 { filled_fresh } else { candidate.score };
            }
            if is_of_interest {
                let (unmet, filled) = (&mut unmet[candidate.interest], &mut filled[candidate.interest]);
                *unmet -= 1;
                *filled = if *unmet > 0 { *filled } else { candidate.score };
            }
            if fills == 0 {
                lowest_plain = candidate.score;
            }
            taken.push((at, *candidate));
            while k - taken.len() > kept
                && let Some((at, candidate)) = passed_over.pop_front()
            {
                if room.take(candidate.node) {
                    taken.push((at, candidate));
                } else {
                    is_capped = true;
                }
            }
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
    Choice { taken, room, filled_fresh, filled, lowest_plain, is_capped, is_below }
}
