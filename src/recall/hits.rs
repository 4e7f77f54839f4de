//! Hits of a search of an index, by score.

use crate::base::hits::hits;
use crate::base::id::NodeId;
use crate::base::metric::Metric;
use crate::index::Index;
use crate::search::{Hit, exact_scores};

/// Counts the `found` that are among the `exact` nodes for `query`, `[dim]`, or as good as one of them that is not found, by
/// their embeddings.
pub fn hits_of(index: &Index, query: &[f32], found: &[Hit], exact: &[u32]) -> usize {
    let score = exact_scores(index, query);
    let has_exact_scores = index.fine_codes().is_none();
    let found = found.iter().map(|hit| {
        let score = if has_exact_scores { hit.score } else { score(hit.node) };
        (hit.node.0, score)
    });
    hits(index.metadata().metric, found, exact, |at| score(NodeId(exact[at])))
}

/// Distances that ann-benchmarks takes for equal to that of the last exact neighbor.
const EPSILON: f32 = 1e-3;

/// Counts the `found` that are hits by the definition of ann-benchmarks: at most 0.001 farther from `query`, `[dim]`, than the
/// last of the `exact` nodes. The distance is the Euclidean one under L2, 1 minus the cosine under cosine, and the negated
/// inner product otherwise.
pub fn hits_within(index: &Index, query: &[f32], found: &[Hit], exact: &[u32]) -> usize {
    let Some(last) = exact.last() else { return 0 };
    let score = exact_scores(index, query);
    let distance = |node| match index.metadata().metric {
        Metric::InnerProduct => -score(node),
        Metric::Cosine => 1.0 - score(node),
        Metric::L2 => (-score(node)).max(0.0).sqrt(),
    };
    let most = distance(NodeId(*last)) + EPSILON;
    found.iter().take(exact.len()).filter(|hit| distance(hit.node) <= most).count()
}
