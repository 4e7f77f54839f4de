//! Hits by maximal marginal relevance.
//!
//! What flows in: hits that a page is chosen among, best first, and those on the pages before. What flows out: the page, in the order in
//! which its hits were chosen. Each is the one with the largest value among those that may be taken:
//!
//! ```text
//! lambda × relevance - (1 - lambda) × similarity to the most similar hit before it
//! ```
//!
//! A hit becomes more similar to those before it with each one that is chosen, and its value only falls. So a value that was computed
//! earlier is a bound, and only hits whose bounds are the largest are compared with those that were chosen since.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::among::Among;
use super::choose::Choice;
use super::hit::Hit;
use super::quota::{Groups, HitKeys, Quota, positions};
use super::room::{Full, Room};
use super::unit::read_unit;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::kernel::Kernels;

/// Hits compared between two checks of the interrupt.
const COMPARED_AT_ONCE: usize = 256;
/// How many hits ahead embeddings are prefetched.
const READ_AHEAD: usize = 8;

/// A hit that is left.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// No less than its value now.
    bound: f32,
    /// Its place among the hits.
    place: u32,
    /// How many of the chosen hits it was compared with,
    compared: u32,
    /// and the largest similarity to one of them.
    similarity: f32,
}

impl Ord for Left {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bound.total_cmp(&other.bound).then(other.place.cmp(&self.place))
    }
}

impl PartialOrd for Left {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Left {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Left {}

/// The hits that are left and may fill the same kept places.
struct Lane {
    groups: Groups,
    left: BinaryHeap<Left>,
}

/// The hits that a page is chosen among, and those that were chosen.
struct Compared<'a> {
    hits: &'a [Hit],
    lambda: f32,
    dim: usize,
    /// `[hits × dim]`, of norm 1.
    rows: Vec<f32>,
    /// `[chosen × dim]`.
    chosen: Vec<f32>,
    scores: Vec<f32>,
}

/// A page while it is chosen.
pub(super) struct Page {
    pub(super) choice: Choice,
    /// The places that are left.
    pub(super) rest: Quota,
}

impl Page {
    /// A page of no hits yet.
    pub(super) fn new(quota: &Quota) -> Self {
        let at_first = |kept: &usize| if *kept > 0 { f32::NEG_INFINITY } else { f32::INFINITY };
        let choice = Choice {
            taken: Vec::with_capacity(quota.size),
            held: Vec::new(),
            filled: quota.kept.iter().map(at_first).collect(),
            lowest_plain: f32::INFINITY,
            is_capped: false,
            is_similar: false,
            is_below: false,
        };
        Self { choice, rest: quota.clone() }
    }

    /// Takes hits `among` these until no place is left, or none of them may be taken. `before`: the hits that were chosen for pages before,
    /// or drawn for this one. An interrupt ends it early, with fewer hits.
    pub(super) fn choose(
        &mut self,
        among: &Among,
        before: impl Iterator<Item = NodeId>,
        lambda: f32,
        keys: &impl HitKeys,
        room: &mut Room,
        interrupt: &mut Interrupt<'_>,
    ) {
        let taken = self.choice.taken.iter().map(|hit| hit.node);
        let mut compared = Compared::new(&among.hits, before.chain(taken), lambda, keys);
        let mut open = self.rest.open();
        let mut lanes = compared.lanes(&self.rest, open, keys);
        let mut kept: usize = self.rest.kept.iter().sum();
        while self.rest.size > 0 {
            let free = self.rest.size - 1;
            let may_be_taken = |lane: &Lane| free + (lane.groups & open).count_ones() as usize >= kept;
            // If no hit is left anywhere that the places are kept for, others get them.
            let is_left = lanes.iter().any(|lane| may_be_taken(lane) && !lane.left.is_empty());
            let goes_to_others = !is_left && positions(open).all(|group| among.has_all_of[group]);
            let mut best: Option<(usize, Left)> = None;
            for (at, lane) in lanes.iter_mut().enumerate() {
                if !may_be_taken(lane) && !goes_to_others {
                    continue;
                }
                let first = compared.first(lane, best.map(|(_, best)| best), interrupt);
                if let Some(first) = first.filter(|first| best.is_none_or(|(_, best)| *first > best)) {
                    best = Some((at, first));
                }
            }
            if interrupt.has_stopped() {
                break;
            }
            let Some((lane, left)) = best else { break };
            lanes[lane].left.pop();
            let hit = among.hits[left.place as usize];
            if let Err(full) = room.take(keys, hit.node) {
                self.choice.is_capped |= full == Full::Cap;
                self.choice.is_similar |= full == Full::Similar;
                continue;
            }
            compared.choose(left.place);
            self.choice.taken.push(hit);
            self.rest.size -= 1;
            let filling = lanes[lane].groups & open;
            if filling != 0 {
                self.choice.held.push((hit.node, filling));
            }
            for group in positions(filling) {
                (kept, self.rest.kept[group]) = (kept - 1, self.rest.kept[group] - 1);
                if self.rest.kept[group] == 0 {
                    open &= !(1 << group);
                    self.choice.filled[group] = hit.score;
                }
            }
        }
    }
}

impl<'a> Compared<'a> {
    fn new(hits: &'a [Hit], before: impl Iterator<Item = NodeId>, lambda: f32, keys: &impl HitKeys) -> Self {
        let (mut raw, mut unit, mut rows, mut chosen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        if lambda == 1.0 {
            // Nothing is compared.
            return Self { hits, lambda, dim: 0, rows, chosen, scores: Vec::new() };
        }
        for (at, hit) in hits.iter().enumerate() {
            hits.get(at + READ_AHEAD).into_iter().for_each(|next| keys.prefetch_embedding(next.node));
            read_unit(keys, hit.node, &mut raw, &mut unit);
            rows.extend_from_slice(&unit);
        }
        let dim = unit.len();
        for node in before {
            read_unit(keys, node, &mut raw, &mut unit);
            chosen.extend_from_slice(&unit);
        }
        Self { hits, lambda, dim, rows, chosen, scores: Vec::new() }
    }

    /// All hits, none of them compared.
    fn lanes(&self, quota: &Quota, open: Groups, keys: &impl HitKeys) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = Vec::new();
        for (place, hit) in self.hits.iter().enumerate() {
            let groups = quota.groups(hit, open, keys);
            let at = lanes.iter().position(|lane| lane.groups == groups).unwrap_or_else(|| {
                lanes.push(Lane { groups, left: BinaryHeap::new() });
                lanes.len() - 1
            });
            let (place, compared, similarity) = (place as u32, 0, -1.0);
            let bound = self.value(place, similarity);
            lanes[at].left.push(Left { bound, place, compared, similarity });
        }
        lanes
    }

    /// 1 for the best score of all hits, 0 for the worst.
    fn relevance(&self, place: u32) -> f32 {
        let (best, worst) = match self.hits {
            [best, .., worst] => (f64::from(best.score), f64::from(worst.score)),
            _ => return 1.0,
        };
        if best > worst {
            ((f64::from(self.hits[place as usize].score) - worst) / (best - worst)) as f32
        } else {
            1.0
        }
    }

    fn value(&self, place: u32, similarity: f32) -> f32 {
        self.lambda * self.relevance(place) - (1.0 - self.lambda) * similarity
    }

    /// The hit with the largest value of a lane, unless that of `other` is larger.
    fn first(&mut self, lane: &mut Lane, other: Option<Left>, interrupt: &mut Interrupt<'_>) -> Option<Left> {
        let chosen = self.chosen.len().checked_div(self.dim).unwrap_or_default() as u32;
        let mut steps = 0usize;
        loop {
            let mut first = lane.left.peek_mut()?;
            if other.is_some_and(|other| *first < other) {
                return None;
            }
            if first.compared == chosen || self.lambda == 1.0 {
                return Some(*first);
            }
            steps += 1;
            if steps.is_multiple_of(COMPARED_AT_ONCE) && interrupt.should_stop() {
                return None;
            }
            let row = &self.rows[first.place as usize * self.dim..][..self.dim];
            let since = &self.chosen[first.compared as usize * self.dim..];
            self.scores.resize((chosen - first.compared) as usize, 0.0);
            Kernels::get().dot_scan(row, since, &mut self.scores);
            let largest = self.scores.iter().copied().fold(first.similarity, f32::max);
            (first.compared, first.similarity) = (chosen, largest);
            first.bound = self.value(first.place, largest);
        }
    }

    /// Chooses a hit.
    fn choose(&mut self, place: u32) {
        if self.lambda == 1.0 {
            return;
        }
        let row = place as usize * self.dim..(place as usize + 1) * self.dim;
        self.chosen.extend_from_slice(&self.rows[row]);
    }
}
