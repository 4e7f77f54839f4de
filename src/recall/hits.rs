//! Hits of a search of an index, by score.

use crate::base::hits::hits;
use crate::base::id::NodeId;
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
