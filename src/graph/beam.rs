//! The hot loop: best-first search over one layer (Malkov & Yashunin 2016, algorithm 2).

use super::adjacency::Adjacency;
use super::blocks::BlockScratch;
use super::candidates::{Candidate, CandidateList, keep_best};
use super::scorer::{Scan, Score};
use super::selection::Selection;
use super::visited::VisitedSet;
use crate::base::id::NodeId;

/// What a search needs besides the graph; kept and reused, so that searching does not allocate.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The best nodes met so far, of which each is expanded.
    pub candidates: CandidateList,
    /// After a search: what it found.
    pub found: Vec<Candidate>,
    pub(super) visited: VisitedSet,
    /// Of every visited node, in the order in which they were met.
    pub(super) scores: Vec<f32>,
    /// Nodes that do not match, whose neighbors were looked at.
    pub(super) passed: VisitedSet,
    slots: Vec<u32>,
    pub(super) blocks: BlockScratch,
    /// A node that somebody asks about, and whether a scan has scored it.
    pub(super) watched: Option<u32>,
    pub(super) has_scanned: bool,
    pub(super) batch: Vec<u32>,
    pub(super) batch_scores: Vec<f32>,
    pub(super) arrivals: Vec<Candidate>,
    pub(super) selection: Selection,
}

/// What a search cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeamStats {
    /// Nodes whose neighbors were looked at.
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

/// How far a search came with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It never came to it.
    Unvisited,
    /// It scored it, and others better.
    Visited,
    /// It is among the best of what was found.
    Found,
}

/// How a search ended: what it found is in its [`Scratch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it cost.
    pub stats: BeamStats,
    /// Whether it was told to stop before it was done.
    pub is_interrupted: bool,
}

impl Outcome {
    pub(super) fn done(stats: BeamStats) -> Self {
        Self { stats, is_interrupted: false }
    }

    pub(super) fn interrupted(stats: BeamStats) -> Self {
        Self { stats, is_interrupted: true }
    }
}

impl Scratch {
    /// Starts a search among `nodes` nodes that expands the best `ef`.
    pub fn reset(&mut self, nodes: usize, ef: usize) {
        self.candidates.reset(ef);
        self.visited.reset(nodes);
        self.scores.clear();
        self.found.clear();
    }

    /// Keeps an eye on a node during the next search: [`Scratch::stage`] tells.
    pub fn watch(&mut self, node: Option<NodeId>) {
        self.watched = node.map(|node| node.0);
        self.has_scanned = false;
        if self.watched.is_some() {
            // A scan does not touch what the search before has visited.
            self.visited.reset(0);
        }
    }

    /// Notes whether a scan comes to the node that is watched.
    pub(super) fn note_scan(&mut self, scans: impl Fn(u32) -> bool) {
        self.has_scanned |= self.watched.is_some_and(scans);
    }

    /// How far the last search came with `node`, which was watched.
    pub fn stage(&self, NodeId(node): NodeId) -> Stage {
        if self.found.iter().any(|found| found.node() == node) {
            Stage::Found
        } else if self.has_scanned || self.visited.contains(node) {
            Stage::Visited
        } else {
            Stage::Unvisited
        }
    }

    /// How many nodes were scored.
    pub fn met(&self) -> usize {
        self.visited.len()
    }

    /// Expands the best `ef` from now on, whether they were expanded before or not.
    pub fn widen(&mut self, ef: usize) {
        let Scratch { candidates, visited, scores, arrivals, .. } = self;
        candidates.reset(ef);
        arrivals.clear();
        arrivals.extend(scored(visited.met_since(0), scores));
        candidates.merge(arrivals);
    }

    /// Leaves the best `count` of all that were scored in `found`, in no particular order.
    pub fn collect(&mut self, count: usize) {
        let Scratch { candidates, found, visited, scores, selection, .. } = self;
        found.clear();
        if count <= candidates.as_slice().len() {
            found.extend_from_slice(&candidates.as_slice()[..count]);
        } else {
            let met = visited.met_since(0);
            let promising = selection.promising(scores, count, f32::NEG_INFINITY);
            found.extend(chosen(promising, met, scores));
            keep_best(found, count);
        }
    }

    /// Scores what was found again, with `scorer`.
    pub fn rescore(&mut self, scorer: &impl Score, stats: &mut BeamStats) {
        let Scratch { found, batch, batch_scores, .. } = self;
        batch.clear();
        batch.extend(found.iter().map(Candidate::node));
        batch_scores.resize(batch.len(), 0.0);
        scorer.score_rows(batch, batch_scores);
        stats.distances += batch.len() as u64;
        found.clear();
        found.extend(scored(batch, batch_scores));
    }

    /// Scores `count` rows from `first` on and adds to `found` those that score `least` or more.
    pub(super) fn scan(&mut self, scorer: &impl Scan, first: usize, count: usize, least: f32) {
        let Scratch { found, batch_scores, selection, .. } = self;
        batch_scores.resize(count, 0.0);
        scorer.score_scan(first, batch_scores);
        let chosen = selection.at_least(batch_scores, least);
        found.extend(chosen.iter().map(|at| Candidate::new(first as u32 + at, batch_scores[*at as usize])));
    }

    /// Scores `node` as a place to start from, once.
    pub fn seed(&mut self, scorer: &impl Score, node: u32, stats: &mut BeamStats) {
        let known = self.visited.len();
        self.visited.insert(node);
        if self.visited.len() > known {
            let score = scorer.score(node);
            self.scores.push(score);
            self.candidates.insert(Candidate::new(node, score));
            stats.distances += 1;
        }
    }
}

/// Those at `positions`.
pub(super) fn chosen<'a>(
    positions: &'a [u32],
    nodes: &'a [u32],
    scores: &'a [f32],
) -> impl Iterator<Item = Candidate> + 'a {
    positions.iter().map(|at| Candidate::new(nodes[*at as usize], scores[*at as usize]))
}

/// Nodes with their scores, as far as both go.
fn scored<'a>(nodes: &'a [u32], scores: &'a [f32]) -> impl Iterator<Item = Candidate> + 'a {
    nodes.iter().zip(scores).map(|(node, score)| Candidate::new(*node, *score))
}

/// Expands candidates best first until none is left.
///
/// Call [`Scratch::reset`] and [`Scratch::seed`] before. The best `ef` are then in `scratch.candidates`, and
/// [`Scratch::collect`] gives the best of all that were scored.
/// `keep_going` is asked once per hop; when it says no, what was found so far stays.
pub fn beam_search(
    adjacency: &impl Adjacency,
    scorer: &impl Score,
    scratch: &mut Scratch,
    stats: &mut BeamStats,
    mut keep_going: impl FnMut() -> bool,
) {
    let Scratch { candidates, visited, scores, arrivals, selection, .. } = scratch;
    let width = together(candidates.capacity());
    loop {
        let known = visited.len();
        let mut expanded = 0;
        // All at once, so that their lists come together.
        candidates.peek(width).for_each(|next| adjacency.prefetch(next));
        while expanded < width
            && let Some(best) = candidates.expand_next()
        {
            adjacency.visit(best.node(), visited);
            expanded += 1;
        }
        if expanded == 0 || !keep_going() {
            return;
        }
        let batch = visited.met_since(known);
        scores.resize(visited.len(), 0.0);
        let scores = &mut scores[known..];
        scorer.score_rows(batch, scores);
        arrivals.clear();
        let arriving = selection.at_least(scores, candidates.least());
        arrivals.extend(chosen(arriving, batch, scores));
        candidates.merge(arrivals);
        stats.hops += expanded as u64;
        stats.distances += batch.len() as u64;
    }
}

/// How many candidates are expanded at a time: several share the wait for memory, but with a short list
/// the best neighbor of the first would often have made the others superfluous.
pub(super) fn together(ef: usize) -> usize {
    (ef / 16).clamp(1, 16)
}

/// Walks to the best neighbor until none is better: the descent through the upper layers.
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
    let Scratch { slots, batch, batch_scores, .. } = scratch;
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
        batch_scores.resize(batch.len(), 0.0);
        scorer.score_rows(batch, batch_scores);
        stats.hops += 1;
        stats.distances += batch.len() as u64;
        let before = best;
        for (slot, score) in slots.iter().zip(batch_scores.iter()) {
            if *score > best.score() {
                best = Candidate::new(*slot, *score);
            }
        }
        // Not by score: in a damaged file that may be no number, which equals nothing.
        if best.node() == before.node() {
            return best;
        }
    }
}
