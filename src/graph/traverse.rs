//! A whole search: down the upper layers, then the beam over layer 0 (Malkov & Yashunin 2016, algorithm 5).

use super::adjacency::GraphView;
use super::beam::{BeamStats, Scratch, beam_search, greedy_search};
use super::candidates::{Candidate, keep_best};
use super::scorer::{CodeScorer, Score};
use crate::id::NodeId;

/// Rows scored between two looks at whether to go on.
const SCAN_BLOCK: usize = 1024;

/// Expands the best `ef` nodes, or more where those meet less than `k`, and says what that cost; `None` if
/// `keep_going`, asked once per hop on layer 0, said no.
///
/// [`Scratch::collect`] then gives the best of all that were met.
pub fn traverse(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    (ef, k): (usize, usize),
    scratch: &mut Scratch,
    mut keep_going: impl FnMut() -> bool,
) -> Option<BeamStats> {
    let (mut ef, k) = (ef.min(scorer.rows()), k.min(scorer.rows()));
    let mut stats = BeamStats::default();
    scratch.reset(scorer.rows(), ef);
    let start = descend(graph, scorer, scratch, &mut stats);
    scratch.seed(scorer, start.0, &mut stats);
    // Everything is reachable from the entry point, which the descent may have left for good.
    scratch.seed(scorer, graph.entry_point.0, &mut stats);
    let mut interrupted = false;
    loop {
        beam_search(&graph.layer0, scorer, scratch, &mut stats, || {
            interrupted |= !keep_going();
            !interrupted
        });
        if interrupted {
            return None;
        }
        if scratch.met() >= k || ef == scorer.rows() {
            return Some(stats);
        }
        ef = (2 * ef).min(scorer.rows());
        scratch.widen(ef);
    }
}

/// Leaves the best `keep` rows of all in `scratch.found`, in no particular order; `keep_going` is asked once per
/// block of rows.
pub fn scan_codes(
    scorer: &CodeScorer<'_>,
    keep: usize,
    scratch: &mut Scratch,
    mut keep_going: impl FnMut() -> bool,
) -> Option<BeamStats> {
    let rows = scorer.rows();
    let keep = keep.min(rows);
    scratch.found.clear();
    let mut least = f32::NEG_INFINITY;
    for first in (0..rows).step_by(SCAN_BLOCK) {
        if !keep_going() {
            return None;
        }
        scratch.scan(scorer, first, SCAN_BLOCK.min(rows - first), least);
        if scratch.found.len() >= 2 * keep {
            keep_best(&mut scratch.found, keep);
            least = scratch.found.last().map_or(least, Candidate::score);
        }
    }
    keep_best(&mut scratch.found, keep);
    Some(BeamStats { hops: 0, distances: rows as u64 })
}

/// How many candidates are scored again in full precision to get the best `k` of them right: codes
/// confuse neighbours in rank, and rarely those far apart.
pub fn rescored(k: usize) -> usize {
    k + (k / 2).max(20)
}

/// From the entry point down to layer 1, to the best node found there.
fn descend(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    scratch: &mut Scratch,
    stats: &mut BeamStats,
) -> NodeId {
    let mut best = graph.entry_point;
    let mut score = scorer.score(best.0);
    stats.distances += 1;
    for layer in graph.upper.iter().rev() {
        // In a damaged file a node may be missing from the layer below: then the search starts from it there.
        let Some(slot) = layer.slot_of(best.0) else { break };
        let exists = |node: &u32| (*node as usize) < scorer.rows();
        let node_of = |slot: u32| layer.nodes.get(slot as usize).copied().filter(exists);
        let end = greedy_search(&layer.lists(), scorer, node_of, Candidate::new(slot, score), scratch, stats);
        (best, score) = (NodeId(layer.nodes[end.node() as usize]), end.score());
    }
    best
}
