//! Whole searches: from landmarks or down the upper layers, then the beam over layer 0 (Malkov & Yashunin 2016, algorithm 5);
//! and the scan of all rows that takes its place.

use std::ops::Range;

use super::adjacency::GraphView;
use super::beam::{beam_search, greedy_search};
use super::candidates::{Candidate, keep_best};
use super::cost::Cost;
use super::scorer::{Scan, Score};
use super::scratch::Scratch;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;

/// Rows scored between two checks of the interrupt.
const SCAN_BLOCK: usize = 1024;

/// A traversal starts from at most this many rows with extreme components: about as many as it scores otherwise.
const MAX_EXTREMES: usize = 1024;

/// How wide a traversal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Length of the candidate list: this many nodes, the best, are expanded.
    pub ef_search: usize,
    /// The candidate list is lengthened until at least this many nodes were visited.
    pub at_least: usize,
}

/// Traverses the graph for a query, `[dim]`, with norm 1 under cosine, which `scorer` scores: from the nodes of the nearest
/// landmarks, or without landmarks from where a descent through the upper layers ends. [`Scratch::collect`] then returns the best
/// of all visited nodes. `interrupt` is checked once per step on layer 0.
pub fn traverse(
    graph: &GraphView<'_>,
    query: &[f32],
    scorer: &impl Score,
    width: Width,
    scratch: &mut Scratch,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    let mut starts = std::mem::take(&mut scratch.starts);
    starts.clear();
    let mut cost = find_starts(graph, query, scorer, scratch, &mut starts);
    cost += traverse_from(graph, scorer, &starts, width, scratch, interrupt);
    scratch.starts = starts;
    cost
}

/// Appends where a traversal for a query, `[dim]`, should start.
fn find_starts(
    graph: &GraphView<'_>,
    query: &[f32],
    scorer: &impl Score,
    scratch: &mut Scratch,
    starts: &mut Vec<NodeId>,
) -> Cost {
    match &graph.landmarks {
        Some(landmarks) => landmarks.find(query, scratch, starts),
        None => {
            let (start, cost) = descend(graph, scorer, scratch);
            starts.push(start);
            cost
        }
    }
}

/// As [`traverse`], from `starts` on layer 0.
pub fn traverse_from(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    starts: &[NodeId],
    width: Width,
    scratch: &mut Scratch,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    let mut cost = Cost::default();
    scratch.candidates.expect_copies(graph.expected_copies(false));
    scratch.reset(scorer.rows(), width.ef_search.min(scorer.rows()));
    // Everything is reachable from the entry point, but perhaps not from the other starts.
    let starts = starts.iter().chain([&graph.entry_point]).map(|start| start.0);
    let others = some_of(scorer.extremes()).chain(graph.most_copied.iter().copied());
    scratch.seed_all(scorer, starts.chain(others), &mut cost);
    expand(graph, scorer, width, scratch, cost, interrupt)
}

/// At most [`MAX_EXTREMES`] of the rows, spread evenly.
pub(super) fn some_of(extremes: Range<u32>) -> impl Iterator<Item = u32> {
    let step = extremes.len().div_ceil(MAX_EXTREMES).max(1);
    extremes.step_by(step)
}

/// Resumes a traversal with a larger `width`.
pub fn traverse_further(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    width: Width,
    scratch: &mut Scratch,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    scratch.widen(width.ef_search.min(scorer.rows()));
    expand(graph, scorer, width, scratch, Cost::default(), interrupt)
}

fn expand(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    width: Width,
    scratch: &mut Scratch,
    mut cost: Cost,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    let rows = scorer.rows();
    let (mut ef_search, at_least) = (width.ef_search.min(rows), width.at_least.min(rows));
    loop {
        beam_search(&graph.layer0, scorer, scratch, &mut cost, interrupt);
        if interrupt.has_stopped() || scratch.visited() >= at_least || ef_search == rows {
            return cost;
        }
        ef_search = (2 * ef_search).min(rows);
        scratch.widen(ef_search);
    }
}

/// Scores all rows and leaves the best `keep` in `scratch.found`, in no particular order. `interrupt` is checked once per
/// block of rows.
pub fn scan_codes(
    scorer: &impl Scan,
    keep: usize,
    scratch: &mut Scratch,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    let rows = scorer.rows();
    let keep = keep.min(rows);
    scratch.found.clear();
    scratch.note_scan(|_| true);
    let mut cost = Cost::default();
    let mut least = f32::NEG_INFINITY;
    for first in (0..rows).step_by(SCAN_BLOCK) {
        if interrupt.should_stop() {
            break;
        }
        let count = SCAN_BLOCK.min(rows - first);
        scratch.scan(scorer, first, count, least);
        cost.distances += count as u64;
        if scratch.found.len() >= 2 * keep {
            keep_best(&mut scratch.found, keep);
            least = scratch.found.last().map_or(least, Candidate::score);
        }
    }
    keep_best(&mut scratch.found, keep);
    cost
}

/// The number of candidates that are rescored to get the best `k` of them right. This rescoring margin
/// is half of `k`, at least 20: codes misorder near neighbors, and rarely candidates that are far apart in rank.
pub fn rescored(k: usize) -> usize {
    k + (k / 2).max(20)
}

/// Descends from the entry point to layer 1. Returns the best node found there and the cost.
pub fn descend(graph: &GraphView<'_>, scorer: &impl Score, scratch: &mut Scratch) -> (NodeId, Cost) {
    let mut best = graph.entry_point;
    let mut score = scorer.score(best.0);
    let mut cost = Cost { expanded: 0, distances: 1 };
    for layer in graph.upper.iter().rev() {
        // In a damaged file a node may be missing from the layer below: then layer 0 starts from it.
        let Some(slot) = layer.slot_of(best.0) else { break };
        let exists = |node: &u32| (*node as usize) < scorer.rows();
        let node_of = |slot: u32| layer.nodes.get(slot as usize).copied().filter(exists);
        let start = Candidate::new(slot, score);
        let end = greedy_search(&layer.lists(), scorer, node_of, start, scratch, &mut cost);
        (best, score) = (NodeId(layer.nodes[end.node() as usize]), end.score());
    }
    (best, cost)
}
