//! The hot loop: best-first search over one layer (Malkov & Yashunin 2016, algorithm 2).

use super::adjacency::Adjacency;
use super::candidates::Candidate;
use super::cost::Cost;
use super::scorer::Score;
use super::scratch::{Scratch, chosen};
use crate::base::interrupt::Interrupt;

/// Candidates in the list per candidate that is expanded in one step; and the most that are.
const EF_SEARCH_PER_EXPANSION: usize = 16;
const MAX_EXPANSIONS: usize = 16;

/// Expands candidates, best first, until every candidate in the list is expanded.
///
/// Call [`Scratch::reset`] and [`Scratch::seed`] before. Afterwards the best `ef_search` are in `scratch.candidates`, and
/// [`Scratch::collect`] returns the best of all visited nodes. `interrupt` is checked once per step; after an interrupt,
/// what was found so far stays.
pub fn beam_search(
    adjacency: &impl Adjacency,
    scorer: &impl Score,
    scratch: &mut Scratch,
    cost: &mut Cost,
    interrupt: &mut Interrupt<'_>,
) {
    let Scratch { candidates, visited, scores, arrivals, selection, .. } = scratch;
    let width = expansions(candidates.capacity());
    loop {
        let known = visited.len();
        let mut expanded = 0;
        // All prefetches first, so that the lists arrive together.
        candidates.peek(width).for_each(|next| adjacency.prefetch(next));
        while expanded < width
            && let Some(best) = candidates.expand_next()
        {
            adjacency.visit(best.node(), visited);
            expanded += 1;
        }
        if expanded == 0 || interrupt.should_stop() {
            return;
        }
        let batch = visited.since(known);
        scores.resize(visited.len(), 0.0);
        let scores = &mut scores[known..];
        let least = candidates.least();
        scorer.score_rows_from(batch, least, scores);
        arrivals.clear();
        let arriving = selection.at_least(scores, least);
        arrivals.extend(chosen(arriving, batch, scores));
        candidates.merge(arrivals);
        cost.expanded += expanded as u64;
        cost.distances += batch.len() as u64;
    }
}

/// How many candidates are expanded in one step. Several of them share the wait for memory, but in a short list
/// the best neighbor of the first would often have made the others superfluous.
pub(super) fn expansions(ef_search: usize) -> usize {
    (ef_search / EF_SEARCH_PER_EXPANSION).clamp(1, MAX_EXPANSIONS)
}

/// Moves to the best neighbor until none is better: the descent through one upper layer.
///
/// `node_of` maps a slot of this layer to the node that is scored. Returns the slot where the descent ends.
pub fn greedy_search(
    adjacency: &impl Adjacency,
    scorer: &impl Score,
    node_of: impl Fn(u32) -> Option<u32>,
    start: Candidate,
    scratch: &mut Scratch,
    cost: &mut Cost,
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
        cost.expanded += 1;
        cost.distances += batch.len() as u64;
        let before = best;
        for (slot, score) in slots.iter().zip(batch_scores.iter()) {
            if *score > best.score() {
                best = Candidate::new(*slot, *score);
            }
        }
        // Compares nodes, not scores: in a damaged file a score may be NaN, which equals nothing.
        if best.node() == before.node() {
            return best;
        }
    }
}
