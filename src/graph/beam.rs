//! The hot loop: best-first search over one layer (Malkov & Yashunin 2016, algorithm 2).

use super::adjacency::Adjacency;
use super::candidates::{Candidate, CandidateList};
use super::scorer::{CodeScorer, Score};
use super::visited::VisitedSet;

/// What a search needs besides the graph; kept and reused, so that searching does not allocate.
#[derive(Debug, Default)]
pub struct Scratch {
    /// After a search: what it found, best first.
    pub candidates: CandidateList,
    visited: VisitedSet,
    slots: Vec<u32>,
    batch: Vec<u32>,
    scores: Vec<f32>,
    arrivals: Vec<Candidate>,
}

/// What a search cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeamStats {
    /// Nodes whose neighbours were looked at.
    pub hops: u64,
    /// Rows scored.
    pub distances: u64,
}

impl std::ops::AddAssign for BeamStats {
    fn add_assign(&mut self, other: Self) {
        self.hops += other.hops;
        self.distances += other.distances;
    }
}

impl Scratch {
    /// Starts a search that keeps the best `keep` of `nodes` nodes, and expands every one of them.
    pub fn reset(&mut self, nodes: usize, keep: usize) {
        self.candidates.reset(keep);
        self.visited.reset(nodes);
    }

    /// Scores the best `count` candidates again, with `scorer`, and drops the others.
    pub fn rescore(&mut self, scorer: &impl Score, count: usize, stats: &mut BeamStats) {
        let Scratch { candidates, batch, scores, .. } = self;
        batch.clear();
        batch.extend(candidates.as_slice().iter().take(count).map(Candidate::node));
        scores.resize(batch.len(), 0.0);
        scorer.score_rows(batch, scores);
        stats.distances += batch.len() as u64;
        candidates
            .replace(batch.iter().zip(scores.iter()).map(|(node, score)| Candidate::new(*node, *score)));
    }

    /// Scores `count` rows from `first` on and keeps those that are among the best.
    pub(super) fn scan(&mut self, scorer: &CodeScorer<'_>, first: usize, count: usize) {
        let Scratch { candidates, batch, scores, arrivals, .. } = self;
        scores.resize(count, 0.0);
        scorer.score_scan(first, scores);
        batch.clear();
        scorer.at_least(scores, candidates.threshold(), batch);
        arrivals.clear();
        arrivals.extend(batch.iter().map(|at| Candidate::new(first as u32 + at, scores[*at as usize])));
        candidates.merge(arrivals);
    }

    /// Scores `node` as a place to start from, once.
    pub fn seed(&mut self, scorer: &impl Score, node: u32, stats: &mut BeamStats) {
        let known = self.visited.len();
        self.visited.insert(node);
        if self.visited.len() > known {
            self.candidates.insert(Candidate::new(node, scorer.score(node)));
            stats.distances += 1;
        }
    }
}

/// Expands candidates best first until none of those that are to be expanded is left.
///
/// Call [`Scratch::reset`] and [`Scratch::seed`] before; the result is in `scratch.candidates`.
/// `keep_going` is asked once per hop; when it says no, what was found so far stays.
pub fn beam_search(
    adjacency: &impl Adjacency,
    scorer: &impl Score,
    scratch: &mut Scratch,
    stats: &mut BeamStats,
    mut keep_going: impl FnMut() -> bool,
) {
    let Scratch { candidates, visited, scores, arrivals, .. } = scratch;
    let width = together(candidates.expanded());
    loop {
        let known = visited.len();
        let mut expanded = 0;
        while expanded < width
            && let Some(best) = candidates.expand_next()
        {
            adjacency.for_each_neighbor(best.node(), |neighbor| visited.insert(neighbor));
            expanded += 1;
        }
        if expanded == 0 || !keep_going() {
            return;
        }
        let batch = visited.met_since(known);
        candidates.peek(width).for_each(|next| adjacency.prefetch(next));
        scores.resize(batch.len(), 0.0);
        scorer.score_rows(batch, scores);
        let threshold = candidates.threshold();
        arrivals.clear();
        let scored = batch.iter().zip(scores.iter()).filter(|(_, score)| **score > threshold);
        arrivals.extend(scored.map(|(node, score)| Candidate::new(*node, *score)));
        candidates.merge(arrivals);
        stats.hops += expanded as u64;
        stats.distances += batch.len() as u64;
    }
}

/// How many candidates are expanded at a time: several share the wait for memory, but with a short list
/// the best neighbour of the first would often have made the others superfluous.
fn together(ef: usize) -> usize {
    (ef / 24).clamp(1, 4)
}

/// Walks to the best neighbour until none is better: the descent through the upper layers.
///
/// `node_of` turns a slot of this layer into the node that is scored. Gives the slot it ended on.
pub fn greedy_search(
    adjacency: &impl Adjacency,
    scorer: &impl Score,
    node_of: impl Fn(u32) -> Option<u32>,
    start: Candidate,
    scratch: &mut Scratch,
    stats: &mut BeamStats,
) -> Candidate {
    let Scratch { slots, batch, scores, .. } = scratch;
    let mut best = start;
    loop {
        batch.clear();
        slots.clear();
        adjacency.for_each_neighbor(best.node(), |slot| {
            if let Some(node) = node_of(slot) {
                slots.push(slot);
                batch.push(node);
            }
        });
        scores.resize(batch.len(), 0.0);
        scorer.score_rows(batch, scores);
        stats.hops += 1;
        stats.distances += batch.len() as u64;
        let before = best;
        for (slot, score) in slots.iter().zip(scores.iter()) {
            if *score > best.score {
                best = Candidate::new(*slot, *score);
            }
        }
        // Not by score: in a damaged file that may be no number, which equals nothing.
        if best.node() == before.node() {
            return best;
        }
    }
}
