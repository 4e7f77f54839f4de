//! A whole search: down the upper layers, then the beam over layer 0 (Malkov & Yashunin 2016, algorithm 5).

use super::adjacency::GraphView;
use super::beam::{BeamStats, Outcome, Scratch, beam_search, greedy_search};
use super::candidates::{Candidate, keep_best};
use super::scorer::{Scan, Score};
use crate::base::id::NodeId;

/// Rows scored between two looks at whether to go on.
const SCAN_BLOCK: usize = 1024;

/// Expands the best `ef` nodes, or more where those meet less than `k`; [`Scratch::collect`] then gives the best of
/// all that were met. `keep_going` is asked once per hop on layer 0.
pub fn traverse(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    effort: (usize, usize),
    scratch: &mut Scratch,
    keep_going: impl FnMut() -> bool,
) -> Outcome {
    let (start, descent) = descend(graph, scorer, scratch);
    let mut outcome = traverse_from(graph, scorer, &[start], effort, scratch, keep_going);
    outcome.stats += descent;
    outcome
}

/// The same from `starts` on layer 0.
pub fn traverse_from(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    starts: &[NodeId],
    (ef, k): (usize, usize),
    scratch: &mut Scratch,
    keep_going: impl FnMut() -> bool,
) -> Outcome {
    let mut stats = BeamStats::default();
    scratch.reset(scorer.rows(), ef.min(scorer.rows()));
    // Everything is reachable from the entry point, which the descent may have left for good.
    for start in starts.iter().chain([&graph.entry_point]) {
        scratch.seed(scorer, start.0, &mut stats);
    }
    expand(graph, scorer, (ef, k), scratch, stats, keep_going)
}

/// Goes on with a traversal until the best `ef` nodes are expanded, or more where those meet less than `k`.
pub fn traverse_further(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    (ef, k): (usize, usize),
    scratch: &mut Scratch,
    keep_going: impl FnMut() -> bool,
) -> Outcome {
    scratch.widen(ef.min(scorer.rows()));
    expand(graph, scorer, (ef, k), scratch, BeamStats::default(), keep_going)
}

fn expand(
    graph: &GraphView<'_>,
    scorer: &impl Score,
    (ef, k): (usize, usize),
    scratch: &mut Scratch,
    mut stats: BeamStats,
    mut keep_going: impl FnMut() -> bool,
) -> Outcome {
    let (mut ef, k) = (ef.min(scorer.rows()), k.min(scorer.rows()));
    let mut is_interrupted = false;
    loop {
        beam_search(&graph.layer0, scorer, scratch, &mut stats, || {
            is_interrupted |= !keep_going();
            !is_interrupted
        });
        if is_interrupted || scratch.met() >= k || ef == scorer.rows() {
            return Outcome { stats, is_interrupted };
        }
        ef = (2 * ef).min(scorer.rows());
        scratch.widen(ef);
    }
}

/// Leaves the best `keep` rows of all in `scratch.found`, in no particular order; `keep_going` is asked once per
/// block of rows.
pub fn scan_codes(
    scorer: &impl Scan,
    keep: usize,
    scratch: &mut Scratch,
    mut keep_going: impl FnMut() -> bool,
) -> Outcome {
    let rows = scorer.rows();
    let keep = keep.min(rows);
    scratch.found.clear();
    scratch.note_scan(|_| true);
    let mut stats = BeamStats::default();
    let mut least = f32::NEG_INFINITY;
    for first in (0..rows).step_by(SCAN_BLOCK) {
        if !keep_going() {
            keep_best(&mut scratch.found, keep);
            return Outcome::interrupted(stats);
        }
        let count = SCAN_BLOCK.min(rows - first);
        scratch.scan(scorer, first, count, least);
        stats.distances += count as u64;
        if scratch.found.len() >= 2 * keep {
            keep_best(&mut scratch.found, keep);
            least = scratch.found.last().map_or(least, Candidate::score);
        }
    }
    keep_best(&mut scratch.found, keep);
    Outcome::done(stats)
}

/// How many candidates are scored again in full precision to get the best `k` of them right: codes
/// confuse neighbors in rank, and rarely those far apart.
pub fn rescored(k: usize) -> usize {
    k + (k / 2).max(20)
}

/// From the entry point down to layer 1, to the best node found there, and what that cost.
pub fn descend(graph: &GraphView<'_>, scorer: &impl Score, scratch: &mut Scratch) -> (NodeId, BeamStats) {
    let mut best = graph.entry_point;
    let mut score = scorer.score(best.0);
    let mut stats = BeamStats { hops: 0, distances: 1 };
    for layer in graph.upper.iter().rev() {
        // In a damaged file a node may be missing from the layer below: then the search starts from it there.
        let Some(slot) = layer.slot_of(best.0) else { break };
        let exists = |node: &u32| (*node as usize) < scorer.rows();
        let node_of = |slot: u32| layer.nodes.get(slot as usize).copied().filter(exists);
        let start = Candidate::new(slot, score);
        let end = greedy_search(&layer.lists(), scorer, node_of, start, scratch, &mut stats);
        (best, score) = (NodeId(layer.nodes[end.node() as usize]), end.score());
    }
    (best, stats)
}
