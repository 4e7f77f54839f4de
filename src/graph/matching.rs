//! Searches that score only the nodes of a set.

use super::adjacency::{Adjacency, GraphView};
use super::beam::{BeamStats, Outcome, Scratch, beam_search, chosen, together};
use super::candidates::{Candidate, keep_best};
use super::scorer::Score;
use crate::base::id::NodeId;
use crate::node_set::NodeSet;

/// Nodes that a scan scores at a time.
const BATCH: usize = 1024;
/// Matching nodes that a traversal also starts from, spread over all nodes: near ones lie beside each other, so that
/// every region with matches has some.
const SPREAD_STARTS: usize = 256;
/// Matching neighbors that end the passing through.
const ENOUGH: usize = 16;
/// Nodes passed through for one that is expanded, at most.
const MAX_PASSED: usize = 64;
/// Nodes passed through at a time: their lists come together.
const PASSED_TOGETHER: usize = 8;

/// Scores all of `matches` and leaves the best `keep` in `scratch.found`, in no particular order.
///
/// `keep_going` is asked once per batch.
pub fn scan_matching(
    scorer: &impl Score,
    matches: &NodeSet,
    keep: usize,
    scratch: &mut Scratch,
    mut keep_going: impl FnMut() -> bool,
) -> Outcome {
    scratch.note_scan(|node| matches.contains(node));
    let Scratch { found, batch, batch_scores, selection, .. } = scratch;
    let mut stats = BeamStats::default();
    let mut least = f32::NEG_INFINITY;
    found.clear();
    let mut nodes = matches.iter();
    loop {
        batch.clear();
        batch.extend(nodes.by_ref().take(BATCH));
        if batch.is_empty() {
            keep_best(found, keep);
            return Outcome::done(stats);
        }
        if !keep_going() {
            keep_best(found, keep);
            return Outcome::interrupted(stats);
        }
        batch_scores.resize(batch.len(), 0.0);
        scorer.score_rows(batch, batch_scores);
        stats.distances += batch.len() as u64;
        found.extend(chosen(selection.at_least(batch_scores, least), batch, batch_scores));
        if found.len() / 2 >= keep {
            keep_best(found, keep);
            least = found.last().map_or(least, Candidate::score);
        }
    }
}

/// Expands the best `ef` nodes of `matches`, from `starts` and from some of them all over the graph; or more where
/// those meet less than `k`.
///
/// The candidate list holds matching nodes only. Where one is expanded, its neighbors that do not match are
/// passed through: their neighbors count as its own, until it has met as many as in a graph of the matching nodes
/// alone (as ACORN does, arXiv 2403.04871). [`Scratch::collect`] then gives the best of all that were met;
/// `keep_going` is asked once per hop.
pub fn traverse_matching(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    starts: &[NodeId],
    matches: &NodeSet,
    (mut ef, k): (usize, usize),
    scratch: &mut Scratch,
    mut keep_going: impl FnMut() -> bool,
) -> Outcome {
    let mut stats = BeamStats::default();
    scratch.candidates.reset(ef);
    scratch.visited.restrict_to(matches);
    scratch.passed.restrict_to_others(matches);
    scratch.scores.clear();
    scratch.found.clear();
    for start in starts {
        if matches.contains(start.0) {
            scratch.visited.insert(start.0);
        } else {
            scratch.pass_through(&graph.layer0, start.0, &mut stats);
        }
    }
    spread(matches).for_each(|node| scratch.visited.insert(node));
    scratch.score_since(scorer, 0, &mut stats);
    loop {
        while scratch.expand_matching(&graph.layer0, scorer, &mut stats) {
            if !keep_going() {
                return Outcome::interrupted(stats);
            }
        }
        if scratch.met() >= k || ef >= matches.nodes() {
            return Outcome::done(stats);
        }
        ef *= 2;
        scratch.widen(ef);
    }
}

/// Goes on from what a scan left in `scratch.found`: expands the best `ef` of `matches` as a traversal does, which passes
/// over what does not match, and leaves the best `keep`, in no particular order.
///
/// Bounds tell a scan where many good ones are likely, and miss those that lie by themselves; edges lead to these from
/// the others. `keep_going` is asked once per hop.
pub fn expand_found(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    matches: &NodeSet,
    (ef, keep): (usize, usize),
    scratch: &mut Scratch,
    mut keep_going: impl FnMut() -> bool,
) -> Outcome {
    let Scratch { candidates, visited, scores, arrivals, found, .. } = scratch;
    candidates.reset(ef);
    visited.restrict_to(matches);
    scores.clear();
    arrivals.clear();
    for candidate in found.iter() {
        let known = visited.len();
        visited.insert(candidate.node());
        // Of every node that is visited there is one score, whatever was found.
        if visited.len() > known {
            scores.push(candidate.score());
            arrivals.push(*candidate);
        }
    }
    candidates.merge(arrivals);
    let (mut stats, mut is_interrupted) = (BeamStats::default(), false);
    beam_search(&graph.layer0, scorer, scratch, &mut stats, || {
        is_interrupted |= !keep_going();
        !is_interrupted
    });
    scratch.collect(keep);
    Outcome { stats, is_interrupted }
}

/// The first node of the set in each of as many equal ranges of nodes, where there is one.
fn spread(set: &NodeSet) -> impl Iterator<Item = u32> + '_ {
    let ranges = set.nodes().div_ceil(SPREAD_STARTS).max(1);
    let mut next = 0;
    set.iter().filter(move |node| {
        let is_first = *node as usize >= next;
        if is_first {
            next = (*node as usize / ranges + 1) * ranges;
        }
        is_first
    })
}

impl Scratch {
    /// Scores what was visited after the first `known`, and takes the promising for candidates.
    fn score_since(&mut self, scorer: &impl Score, known: usize, stats: &mut BeamStats) {
        let Scratch { candidates, visited, scores, arrivals, selection, .. } = self;
        let batch = visited.met_since(known);
        scores.resize(visited.len(), 0.0);
        let scores = &mut scores[known..];
        scorer.score_rows(batch, scores);
        arrivals.clear();
        arrivals.extend(chosen(selection.at_least(scores, candidates.least()), batch, scores));
        candidates.merge(arrivals);
        stats.distances += batch.len() as u64;
    }

    /// Expands the best candidates that were not yet; says whether there were any.
    fn expand_matching(
        &mut self,
        adjacency: &impl Adjacency,
        scorer: &impl Score,
        stats: &mut BeamStats,
    ) -> bool {
        let width = together(self.candidates.capacity());
        let known = self.visited.len();
        let mut expanded = 0;
        self.candidates.peek(width).for_each(|next| adjacency.prefetch(next));
        while expanded < width
            && let Some(best) = self.candidates.expand_next()
        {
            self.pass_through(adjacency, best.node(), stats);
            expanded += 1;
        }
        self.score_since(scorer, known, stats);
        expanded > 0
    }

    /// Visits the matching neighbors of `node`, and those of its neighbors that do not match, and so on.
    fn pass_through(&mut self, adjacency: &impl Adjacency, node: u32, stats: &mut BeamStats) {
        let Scratch { visited, passed, .. } = self;
        let enough = visited.len() + ENOUGH;
        stats.hops += 1;
        adjacency.visit(node, visited);
        if visited.len() >= enough {
            return;
        }
        let first = passed.len();
        adjacency.visit(node, passed);
        let mut walked = first;
        loop {
            let level = walked;
            let end = passed.len().min(first + MAX_PASSED);
            while walked < end && visited.len() < enough {
                let some = PASSED_TOGETHER.min(end - walked);
                passed.met_since(walked)[..some].iter().for_each(|node| adjacency.prefetch(*node));
                for node in &passed.met_since(walked)[..some] {
                    adjacency.visit(*node, visited);
                }
                walked += some;
            }
            stats.hops += (walked - level) as u64;
            if visited.len() >= enough || walked >= first + MAX_PASSED || walked == level {
                break;
            }
            for at in level..walked {
                let node = passed.met_since(at)[0];
                adjacency.visit(node, passed);
            }
        }
        // Another one may still pass through the others.
        passed.forget_since(walked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;
    use crate::graph::PackedLists;

    /// A node scores what it is numbered.
    struct ByNumber(usize);

    impl Score for ByNumber {
        fn rows(&self) -> usize {
            self.0
        }

        fn score_rows(&self, nodes: &[u32], out: &mut [f32]) {
            nodes.iter().zip(out).for_each(|(node, score)| *score = *node as f32);
        }
    }

    #[test]
    fn a_walk_from_what_was_found_stays_among_matches() {
        const NODES: u32 = 100;
        // Every node leads to the next two.
        let lists: Vec<Vec<u32>> = (0..NODES).map(|node| (node + 1..NODES.min(node + 3)).collect()).collect();
        let lists = PackedLists::of(&lists);
        let graph = GraphView { layer0: lists.view(), upper: Vec::new(), entry_point: NodeId(0) };
        let mut matches = NodeSet::all(NODES as usize);
        // One that does not match is stepped over, two in a row are not.
        [40, 70, 71].into_iter().for_each(|node| matches.remove(node));
        let mut scratch = Scratch::default();
        let mut walk = |found: &[u32], ef: usize, keep: usize, hops: usize| {
            scratch.found = found.iter().map(|node| Candidate::new(*node, *node as f32)).collect();
            let mut left = hops;
            let outcome =
                expand_found(&graph, &ByNumber(NODES as usize), &matches, (ef, keep), &mut scratch, || {
                    left = left.saturating_sub(1);
                    left > 0
                });
            let mut nodes: Vec<u32> = scratch.found.iter().map(Candidate::node).collect();
            nodes.sort_unstable();
            (nodes, outcome.is_interrupted)
        };
        assert_eq!(walk(&[30, 3, 31], 10, 4, usize::MAX), (vec![66, 67, 68, 69], false));
        assert_eq!(walk(&[30, 72], 10, 3, usize::MAX), (vec![97, 98, 99], false));
        assert_eq!(walk(&[30, 3, 31], 0, 4, usize::MAX), (vec![3, 30, 31], false));
        assert_eq!(walk(&[], 10, 4, usize::MAX), (vec![], false));
        assert!(walk(&[30, 3, 31], 10, 3, 2).1);
        // Twice the same is one.
        assert_eq!(walk(&[99, 99], 10, 4, usize::MAX), (vec![99], false));
    }
}
