//! Which neighbors a node keeps (Malkov & Yashunin 2016, algorithm 4).

use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::graph::{Candidate, Score, Scorer};

/// Number of kept neighbors that a candidate is compared with at once.
const TOGETHER: usize = 8;

/// The rows that neighbors are selected among.
#[derive(Clone, Copy)]
pub(super) struct Selectable<'a, T> {
    pub(super) metric: Metric,
    /// `[n × dim]`.
    pub(super) vectors: &'a [T],
    pub(super) dim: usize,
    /// The number of rows without extreme components; the rows with some come after these.
    pub(super) regular: usize,
}

/// Returns at most `limit` of `candidates` (best first), each closer to the node than to any kept before it.
///
/// A row with extreme components is compared only with other such rows: by inner product, a row ten thousand times longer
/// than the others is closer to half of them than any other row is, and would leave them no other neighbor.
pub(super) fn select<T: Element>(
    Selectable { metric, vectors, dim, regular }: Selectable<'_, T>,
    candidates: &[Candidate],
    limit: usize,
) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::with_capacity(limit);
    let (mut regulars, mut extremes) = (Vec::with_capacity(limit), Vec::new());
    let mut scores = [0f32; TOGETHER];
    for candidate in candidates {
        if kept.len() == limit {
            break;
        }
        let start = candidate.node() as usize * dim;
        let row = T::widen(&vectors[start..start + dim]);
        let scorer = Scorer::new(metric, &row, vectors);
        let is_regular = (candidate.node() as usize) < regular;
        let nodes: &mut Vec<u32> = if is_regular { &mut regulars } else { &mut extremes };
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
