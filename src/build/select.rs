//! Which neighbours a node keeps (Malkov & Yashunin 2016, algorithm 4).

use crate::element::Element;
use crate::graph::{Candidate, Score, Scorer, widen};
use crate::metric::Metric;

/// Keeps of `candidates` (best first) at most `limit`, each closer to the node than to any kept before it.
pub(super) fn select<T: Element>(
    metric: Metric,
    vectors: &[T],
    dim: usize,
    candidates: &[Candidate],
    limit: usize,
) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::with_capacity(limit);
    for candidate in candidates {
        if kept.len() == limit {
            break;
        }
        let start = candidate.node() as usize * dim;
        let row = widen(&vectors[start..start + dim]);
        let scorer = Scorer::new(metric, &row, vectors);
        if kept.iter().all(|other| scorer.score(other.node()) <= candidate.score) {
            kept.push(*candidate);
        }
    }
    kept
}
