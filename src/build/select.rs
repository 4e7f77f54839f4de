//! Which neighbors a node keeps (Malkov & Yashunin 2016, algorithm 4).

use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::graph::{Candidate, Score, Scorer};

/// Number of kept neighbors that a candidate is compared with at once.
const TOGETHER: usize = 8;

/// Returns at most `limit` of `candidates` (best first), each closer to the node than to any kept before it.
pub(super) fn select<T: Element>(
    metric: Metric,
    vectors: &[T],
    dim: usize,
    candidates: &[Candidate],
    limit: usize,
) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::with_capacity(limit);
    let mut nodes: Vec<u32> = Vec::with_capacity(limit);
    let mut scores = [0f32; TOGETHER];
    for candidate in candidates {
        if kept.len() == limit {
            break;
        }
        let start = candidate.node() as usize * dim;
        let row = T::widen(&vectors[start..start + dim]);
        let scorer = Scorer::new(metric, &row, vectors);
        let is_closer = nodes.chunks(TOGETHER).all(|nodes| {
            let scores = &mut scores[..nodes.len()];
            scorer.score_rows(nodes, scores);
            scores.iter().all(|score| *score <= candidate.score())
        });
        if is_closer {
            kept.push(*candidate);
            nodes.push(candidate.node());
        }
    }
    kept
}
