//! Searches that score only the nodes of a set.

use super::adjacency::{Adjacency, GraphView};
use super::beam::{beam_search, expansions};
use super::candidates::{Candidate, keep_best};
use super::cost::Cost;
use super::scorer::Score;
use super::scratch::{Scratch, chosen};
use super::traverse::{Width, some_of};
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::node_set::NodeSet;

/// Nodes that a scan scores between two checks of the interrupt.
const BATCH: usize = 1024;
/// Matching nodes that a traversal starts from in addition to its other starts, spread over all nodes. Near nodes have
/// near numbers, so that every region with matches has some.
const SPREAD_STARTS: usize = 256;
/// A node is expanded through nodes that do not match until this many new matching nodes were found,
const ENOUGH: usize = 16;
/// or until this many nodes were passed through.
const MAX_PASSED: usize = 64;
/// Nodes that are passed through together, so that their neighbor lists arrive together.
const PASSED_TOGETHER: usize = 8;

/// Scores all of `matches` and leaves the best `keep` in `scratch.found`, in no particular order. `interrupt` is checked
/// once per batch.
pub fn scan_matching(
    scorer: &impl Score,
    matches: &NodeSet,
    keep: usize,
    scratch: &mut Scratch,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    scratch.note_scan(|node| matches.contains(node));
    let Scratch { found, batch, batch_scores, selection, .. } = scratch;
    let mut cost = Cost::default();
    let mut least = f32::NEG_INFINITY;
    found.clear();
    let mut nodes = matches.iter();
    loop {
        batch.clear();
        batch.extend(nodes.by_ref().take(BATCH));
        if batch.is_empty() || interrupt.should_stop() {
            keep_best(found, keep);
            return cost;
        }
        batch_scores.resize(batch.len(), 0.0);
        scorer.score_rows_from(batch, least, batch_scores);
        cost.distances += batch.len() as u64;
        found.extend(chosen(selection.at_least(batch_scores, least), batch, batch_scores));
        if found.len() / 2 >= keep {
            keep_best(found, keep);
            least = found.last().map_or(least, Candidate::score);
        }
    }
}

/// Traverses the graph among the nodes of `matches`, from `starts` and from some matching nodes in every region.
///
/// The candidate list contains matching nodes only. When one is expanded, its neighbors that do not match are
/// passed through: their neighbors count as its own, until as many were found as in a graph of the matching nodes
/// alone (as ACORN does, arXiv 2403.04871). [`Scratch::collect`] then returns the best of all visited nodes.
/// `interrupt` is checked once per step.
pub fn traverse_matching(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    starts: &[NodeId],
    matches: &NodeSet,
    Width { mut ef_search, at_least }: Width,
    scratch: &mut Scratch,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    let mut cost = Cost::default();
    scratch.candidates.expect_copies(graph.expected_copies(true));
    scratch.candidates.reset(ef_search);
    scratch.visited.restrict_to(matches);
    scratch.passed.restrict_to_others(matches);
    scratch.scores.clear();
    scratch.found.clear();
    for start in starts {
        if matches.contains(start.0) {
            scratch.visited.insert(start.0);
        } else {
            scratch.pass_through(&graph.layer0, start.0, &mut cost);
        }
    }
    // The copies of a row follow it.
    let most_copied = graph.most_copied.iter().filter_map(|node| matches.first_from(*node));
    most_copied.for_each(|node| scratch.visited.insert(node));
    spread(matches).for_each(|node| scratch.visited.insert(node));
    let extremes = some_of(scorer.extremes()).filter(|node| matches.contains(*node));
    extremes.for_each(|node| scratch.visited.insert(node));
    scratch.score_since(scorer, 0, &mut cost);
    loop {
        while scratch.expand_matching(&graph.layer0, scorer, &mut cost) {
            if interrupt.should_stop() {
                return cost;
            }
        }
        if scratch.visited() >= at_least || ef_search >= matches.nodes() {
            return cost;
        }
        ef_search *= 2;
        scratch.widen(ef_search);
    }
}

/// Traverses the graph from what a scan left in `scratch.found`: expands the best `ef_search` nodes of `matches`, ignoring
/// neighbors that do not match. [`Scratch::collect`] then returns the best of all visited nodes.
///
/// The bounds of a block scan find the blocks with many good nodes and miss a good node that is alone in its block; edges
/// lead to such nodes from the others. `interrupt` is checked once per step.
pub fn expand_found(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    matches: &NodeSet,
    ef_search: usize,
    scratch: &mut Scratch,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    let Scratch { candidates, visited, scores, arrivals, found, .. } = scratch;
    candidates.expect_copies(graph.expected_copies(true));
    candidates.reset(ef_search);
    visited.restrict_to(matches);
    scores.clear();
    arrivals.clear();
    for candidate in found.iter() {
        let known = visited.len();
        visited.insert(candidate.node());
        // `scores` has one entry per visited node, even if a node was found twice.
        if visited.len() > known {
            scores.push(candidate.score());
            arrivals.push(*candidate);
        }
    }
    candidates.merge(arrivals);
    let mut cost = Cost::default();
    beam_search(&graph.layer0, scorer, scratch, &mut cost, interrupt);
    cost
}

/// The first node of the set in each of [`SPREAD_STARTS`] equal ranges of nodes; none for a range without any.
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
    /// Expands the best candidates that are not expanded yet. Returns whether there were any.
    fn expand_matching(&mut self, adjacency: &impl Adjacency, scorer: &impl Score, cost: &mut Cost) -> bool {
        let width = expansions(self.candidates.capacity());
        let known = self.visited.len();
        let mut expanded = 0;
        self.candidates.peek(width).for_each(|next| adjacency.prefetch(next));
        while expanded < width
            && let Some(best) = self.candidates.expand_next()
        {
            self.pass_through(adjacency, best.node(), cost);
            expanded += 1;
        }
        self.score_since(scorer, known, cost);
        expanded > 0
    }

    /// Visits the matching neighbors of `node`, then those of its neighbors that do not match, breadth first.
    fn pass_through(&mut self, adjacency: &impl Adjacency, node: u32, cost: &mut Cost) {
        let Scratch { visited, passed, .. } = self;
        let enough = visited.len() + ENOUGH;
        cost.expanded += 1;
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
                passed.since(walked)[..some].iter().for_each(|node| adjacency.prefetch(*node));
                for node in &passed.since(walked)[..some] {
                    adjacency.visit(*node, visited);
                }
                walked += some;
            }
            cost.expanded += (walked - level) as u64;
            if visited.len() >= enough || walked >= first + MAX_PASSED || walked == level {
                break;
            }
            for at in level..walked {
                let node = passed.since(at)[0];
                adjacency.visit(node, passed);
            }
        }
        // Forgets the nodes that were not passed through: a later expansion may still do so.
        passed.forget_since(walked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;
    use crate::graph::PackedLists;

    /// The score of a node is its number.
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
    fn a_traversal_from_what_was_found_stays_among_matches() {
        const NODES: u32 = 100;
        // Every node leads to the next two.
        let lists: Vec<Vec<u32>> = (0..NODES).map(|node| (node + 1..NODES.min(node + 3)).collect()).collect();
        let lists = PackedLists::of(&lists);
        let graph = GraphView {
            layer0: lists.view(),
            upper: Vec::new(),
            entry_point: NodeId(0),
            has_copies: false,
            most_copied: &[],
            landmarks: None,
        };
        let mut matches = NodeSet::all(NODES as usize);
        // The traversal gets past one node that does not match, but not past two in a row.
        [40, 70, 71].into_iter().for_each(|node| matches.remove(node));
        let mut scratch = Scratch::default();
        let mut walk = |found: &[u32], ef_search: usize, keep: usize, steps: usize| {
            scratch.found = found.iter().map(|node| Candidate::new(*node, *node as f32)).collect();
            let mut left = steps;
            let mut is_over = || {
                left = left.saturating_sub(1);
                left == 0
            };
            let mut interrupt = Interrupt::when(&mut is_over);
            let scorer = ByNumber(NODES as usize);
            expand_found(&graph, &scorer, &matches, ef_search, &mut scratch, &mut interrupt);
            let is_interrupted = interrupt.has_stopped();
            scratch.collect(keep);
            let mut nodes: Vec<u32> = scratch.found.iter().map(Candidate::node).collect();
            nodes.sort_unstable();
            (nodes, is_interrupted)
        };
        assert_eq!(walk(&[30, 3, 31], 10, 4, usize::MAX), (vec![66, 67, 68, 69], false));
        assert_eq!(walk(&[30, 72], 10, 3, usize::MAX), (vec![97, 98, 99], false));
        assert_eq!(walk(&[30, 3, 31], 0, 4, usize::MAX), (vec![3, 30, 31], false));
        assert_eq!(walk(&[], 10, 4, usize::MAX), (vec![], false));
        assert!(walk(&[30, 3, 31], 10, 3, 2).1);
        // A node that was found twice counts once.
        assert_eq!(walk(&[99, 99], 10, 4, usize::MAX), (vec![99], false));
    }
}
