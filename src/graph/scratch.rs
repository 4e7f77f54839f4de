//! The memory of a search, kept from one search to the next so that searching does not allocate.

use super::candidates::{Candidate, CandidateList, keep_best};
use super::cost::Cost;
use super::scorer::{Scan, Score};
use super::selection::Selection;
use super::visited::VisitedSet;
use crate::base::id::NodeId;
use crate::quantize::QueryCodes;

/// The memory that a search works in, and its result.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The candidate list of a traversal: the best nodes scored so far, each of which is expanded.
    pub candidates: CandidateList,
    /// The result of a search.
    pub found: Vec<Candidate>,
    /// The nodes that a traversal has scored.
    pub(super) visited: VisitedSet,
    /// `[visited]`: their scores, in the order in which they were visited.
    pub(super) scores: Vec<f32>,
    /// Nodes that do not match but whose neighbor lists were read.
    pub(super) passed: VisitedSet,
    /// Slots of the neighbors of a node of an upper layer.
    pub(super) slots: Vec<u32>,
    /// A node that the caller wants to know the [`Stage`] of, and whether a scan has scored it.
    pub(super) watched: Option<u32>,
    pub(super) has_scanned: bool,
    /// Nodes that are scored together, and their scores.
    pub(super) batch: Vec<u32>,
    pub(super) batch_scores: Vec<f32>,
    /// Nodes that were just scored and may enter the candidate list.
    pub(super) arrivals: Vec<Candidate>,
    pub(super) selection: Selection,
    /// Where a traversal starts, and the query as landmarks are compared with it.
    pub(super) starts: Vec<NodeId>,
    pub(super) landmark_query: QueryCodes,
}

/// How far a search got with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The search did not score it.
    Unvisited,
    /// The search scored it and did not keep it.
    Visited,
    /// It is in [`Scratch::found`].
    Found,
}

impl Scratch {
    /// Prepares a traversal of `nodes` nodes that expands the best `ef_search`.
    pub fn reset(&mut self, nodes: usize, ef_search: usize) {
        self.candidates.reset(ef_search);
        self.visited.reset(nodes);
        self.scores.clear();
        self.found.clear();
    }

    /// Watches a node during the next search, for [`Self::stage`].
    pub fn watch(&mut self, node: Option<NodeId>) {
        self.watched = node.map(|node| node.0);
        self.has_scanned = false;
        if self.watched.is_some() {
            // A scan leaves the visited set of the search before untouched.
            self.visited.reset(0);
        }
    }

    /// Records that a scan scores the nodes for which `scans` holds.
    pub(super) fn note_scan(&mut self, scans: impl Fn(u32) -> bool) {
        self.has_scanned |= self.watched.is_some_and(scans);
    }

    /// Returns how far the last search got with `node`, which must be the watched one.
    pub fn stage(&self, NodeId(node): NodeId) -> Stage {
        if self.found.iter().any(|found| found.node() == node) {
            Stage::Found
        } else if self.has_scanned || self.visited.contains(node) {
            Stage::Visited
        } else {
            Stage::Unvisited
        }
    }

    /// The number of nodes that the traversal has scored.
    pub fn visited(&self) -> usize {
        self.visited.len()
    }

    /// Changes the length of the candidate list to `ef_search` and refills it from all visited nodes, none of them marked
    /// as expanded.
    pub fn widen(&mut self, ef_search: usize) {
        let Scratch { candidates, visited, scores, arrivals, .. } = self;
        candidates.reset(ef_search);
        arrivals.clear();
        arrivals.extend(scored(visited.since(0), scores));
        candidates.merge(arrivals);
    }

    /// Leaves the best `count` of all visited nodes in `found`, in no particular order.
    pub fn collect(&mut self, count: usize) {
        let Scratch { candidates, found, visited, scores, selection, .. } = self;
        found.clear();
        if count <= candidates.as_slice().len() && !candidates.has_dropped() {
            found.extend_from_slice(&candidates.as_slice()[..count]);
        } else {
            let nodes = visited.since(0);
            let promising = selection.promising(scores, count, f32::NEG_INFINITY);
            found.extend(chosen(promising, nodes, scores));
            keep_best(found, count);
        }
    }

    /// As [`Self::collect`], by scores with what `added` adds to that of a node: at most `most`.
    pub fn collect_with(&mut self, count: usize, most: f32, added: impl Fn(u32) -> f32) {
        self.collect(2 * count);
        let Scratch { found, visited, scores, selection, .. } = self;
        let with = |one: Candidate| Candidate::new(one.node(), one.score() + added(one.node()));
        found.iter_mut().for_each(|one| *one = with(*one));
        // At least `count` nodes score as much as the last of these. Others are looked up only if they may score more.
        keep_best(found, count);
        let least =
            found.iter().map(Candidate::score).min_by(f32::total_cmp).filter(|_| found.len() == count);
        let reach = least.map_or(f32::NEG_INFINITY, |least| least - most);
        found.clear();
        found.extend(chosen(selection.at_least(scores, reach), visited.since(0), scores).map(with));
        keep_best(found, count);
    }

    /// Scores `found` again with `scorer`.
    pub fn rescore(&mut self, scorer: &impl Score, cost: &mut Cost) {
        let Scratch { found, batch, batch_scores, .. } = self;
        batch.clear();
        batch.extend(found.iter().map(Candidate::node));
        batch_scores.resize(batch.len(), 0.0);
        scorer.score_rows(batch, batch_scores);
        cost.distances += batch.len() as u64;
        found.clear();
        found.extend(scored(batch, batch_scores));
    }

    /// Scores `count` rows from `first` on and appends those that score at least `least` to `found`.
    pub(super) fn scan(&mut self, scorer: &impl Scan, first: usize, count: usize, least: f32) {
        let Scratch { found, batch_scores, selection, .. } = self;
        batch_scores.resize(count, 0.0);
        scorer.score_scan(first, batch_scores);
        let chosen = selection.at_least(batch_scores, least);
        found.extend(chosen.iter().map(|at| Candidate::new(first as u32 + at, batch_scores[*at as usize])));
    }

    /// Adds `node` as a start of a traversal: scores it, unless it was scored before.
    pub fn seed(&mut self, scorer: &impl Score, node: u32, cost: &mut Cost) {
        let known = self.visited.len();
        self.visited.insert(node);
        if self.visited.len() > known {
            let score = scorer.score(node);
            self.scores.push(score);
            self.candidates.insert(Candidate::new(node, score));
            cost.distances += 1;
        }
    }

    /// Adds `nodes` as starts of a traversal, those that were not scored before.
    pub(super) fn seed_all(
        &mut self,
        scorer: &impl Score,
        nodes: impl Iterator<Item = u32>,
        cost: &mut Cost,
    ) {
        let known = self.visited.len();
        nodes.for_each(|node| self.visited.insert(node));
        self.score_since(scorer, known, cost);
    }

    /// Scores the nodes that were visited after the first `known` and adds the promising ones to the candidate list.
    pub(super) fn score_since(&mut self, scorer: &impl Score, known: usize, cost: &mut Cost) {
        let Scratch { candidates, visited, scores, arrivals, selection, .. } = self;
        let batch = visited.since(known);
        scores.resize(visited.len(), 0.0);
        let scores = &mut scores[known..];
        scorer.score_rows(batch, scores);
        arrivals.clear();
        arrivals.extend(chosen(selection.at_least(scores, candidates.least()), batch, scores));
        candidates.merge(arrivals);
        cost.distances += batch.len() as u64;
    }
}

/// The nodes and scores at `positions`.
pub(super) fn chosen<'a>(
    positions: &'a [u32],
    nodes: &'a [u32],
    scores: &'a [f32],
) -> impl Iterator<Item = Candidate> + 'a {
    positions.iter().map(|at| Candidate::new(nodes[*at as usize], scores[*at as usize]))
}

/// Pairs nodes with scores; ends with the shorter of the two.
fn scored<'a>(nodes: &'a [u32], scores: &'a [f32]) -> impl Iterator<Item = Candidate> + 'a {
    nodes.iter().zip(scores).map(|(node, score)| Candidate::new(*node, *score))
}
