//! Which of many ranked hits are returned: caps, kept places, threshold.
//!
//! From the best hit down, a hit is taken if every cap has room for it and enough places stay free for the hits that they
//! are kept for. If kept places cannot be filled, or one hit fills two of them, the free places go to the best of the hits
//! that were passed over.
//!
//! Choosing knows hits only by what [`HitKeys`] says of them, and no index: merged answers of several servers can be
//! chosen from in the same way.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::hit::Hit;
use super::rules::NodeRules;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;

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

/// How many places of each cap are taken.
#[derive(Clone, Debug, Default)]
pub(super) struct CapCounters {
    /// By cap and key.
    taken: FxHashMap<(u32, u64), usize>,
    keys: Vec<u64>,
}

impl CapCounters {
    /// The first cap that has no room for a hit.
    pub(super) fn full_cap(&mut self, of: &impl HitKeys, node: NodeId) -> Option<usize> {
        for (cap, max) in of.max_per_key().enumerate() {
            self.look_up(of, cap, node);
            let is_full = |key: &u64| self.taken.get(&(cap as u32, *key)).is_some_and(|taken| *taken >= max);
            if self.keys.iter().any(is_full) {
                return Some(cap);
            }
        }
        None
    }

    /// Takes a place under every cap and returns true; or false, and no place, if a cap has no room.
    pub(super) fn take(&mut self, of: &impl HitKeys, node: NodeId) -> bool {
        if self.full_cap(of, node).is_some() {
            return false;
        }
        for cap in 0..of.max_per_key().len() {
            self.look_up(of, cap, node);
            for key in &self.keys {
                *self.taken.entry((cap as u32, *key)).or_default() += 1;
            }
        }
        true
    }

    fn look_up(&mut self, of: &impl HitKeys, cap: usize, node: NodeId) {
        self.keys.clear();
        of.append_keys(cap, node, &mut self.keys);
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

/// The chosen hits, and what kept others out.
#[derive(Debug)]
pub(super) struct Choice {
    /// In the order of the ranked hits.
    pub(super) taken: Vec<Hit>,
    pub(super) counters: CapCounters,
    /// The score of the hit that filled the last place kept for fresh hits: infinite if none is kept, negative infinite if
    /// one stayed free.
    pub(super) filled_fresh: f32,
    /// `[interests]`: the same for the places kept for each interest.
    pub(super) filled: Vec<f32>,
    /// The lowest score of a hit that was taken in its turn and filled no kept place; infinite if no hit was.
    pub(super) lowest_plain: f32,
    /// Whether a cap had no room for a hit.
    pub(super) is_capped: bool,
    /// Whether a hit scores below the threshold.
    pub(super) is_below: bool,
}

/// Hits that are considered between two checks of the interrupt.
const CONSIDERED_AT_ONCE: usize = 1024;

/// Chooses from `ranked`, best first, where `counters` has room after the hits that were chosen before. An interrupt ends
/// it early, with fewer hits.
pub(super) fn choose(
    ranked: &[Hit],
    quota: &Quota,
    keys: &impl HitKeys,
    mut counters: CapCounters,
    interrupt: &mut Interrupt<'_>,
) -> Choice {
    let k = quota.size;
    let is_below = |hit: &Hit| quota.score_threshold.is_some_and(|threshold| hit.score < threshold);
    let mut unmet = quota.of_interests.clone();
    let mut unmet_fresh = quota.fresh;
    let mut kept = unmet_fresh + unmet.iter().sum::<usize>();
    let at_first = |unmet: usize| if unmet > 0 { f32::NEG_INFINITY } else { f32::INFINITY };
    let mut filled_fresh = at_first(unmet_fresh);
    let mut filled: Vec<f32> = unmet.iter().copied().map(at_first).collect();
    if keys.max_per_key().len() == 0 && kept == 0 {
        let best = &ranked[..k.min(ranked.len())];
        let below = best.iter().position(is_below);
        let taken = best[..below.unwrap_or(best.len())].to_vec();
        let lowest_plain = taken.last().map_or(f32::INFINITY, |last| last.score);
        let is_below = below.is_some();
        return Choice { taken, counters, filled_fresh, filled, lowest_plain, is_capped: false, is_below };
    }
    let mut lowest_plain = f32::INFINITY;
    let mut taken: Vec<(usize, Hit)> = Vec::with_capacity(k.min(ranked.len()));
    let mut passed_over = VecDeque::new();
    let (mut is_capped, mut is_cut) = (false, false);
    for (at, hit) in ranked.iter().enumerate() {
        if taken.len() == k || at % CONSIDERED_AT_ONCE == CONSIDERED_AT_ONCE - 1 && interrupt.should_stop() {
            break;
        }
        if is_below(hit) {
            is_cut = true;
            break;
        }
        let is_fresh = unmet_fresh > 0 && keys.is_fresh(hit.node);
        let is_of_interest = unmet[hit.interest] > 0;
        let fills = usize::from(is_fresh) + usize::from(is_of_interest);
        if k - taken.len() - 1 < kept - fills {
            passed_over.push_back((at, *hit));
        } else if counters.take(keys, hit.node) {
            kept -= fills;
            if is_fresh {
                unmet_fresh -= 1;
                filled_fresh = if unmet_fresh > 0 { filled_fresh } else { hit.score };
            }
            if is_of_interest {
                let (unmet, filled) = (&mut unmet[hit.interest], &mut filled[hit.interest]);
                *unmet -= 1;
                *filled = if *unmet > 0 { *filled } else { hit.score };
            }
            if fills == 0 {
                lowest_plain = hit.score;
            }
            taken.push((at, *hit));
            while k - taken.len() > kept
                && let Some((at, hit)) = passed_over.pop_front()
            {
                if counters.take(keys, hit.node) {
                    taken.push((at, hit));
                } else {
                    is_capped = true;
                }
            }
        } else {
            is_capped = true;
        }
    }
    for (at, hit) in passed_over {
        if taken.len() == k {
            break;
        }
        if counters.take(keys, hit.node) {
            taken.push((at, hit));
        } else {
            is_capped = true;
        }
    }
    taken.sort_unstable_by_key(|(at, _)| *at);
    let taken = taken.into_iter().map(|(_, hit)| hit).collect();
    Choice { taken, counters, filled_fresh, filled, lowest_plain, is_capped, is_below: is_cut }
}
