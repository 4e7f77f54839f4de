//! Queries bound to the rows and codes of one segment.

use std::borrow::Cow;

use super::row_scorer::RowScorer;
use super::rules::Interest;
use super::with_terms::WithTerms;
use crate::base::id::{NodeId, VideoId};
use crate::base::metric::Metric;
use crate::graph::{BestOf, BlockQuery, Blocks, Candidate, Score as _, Weighted};
use crate::index::Index;
use crate::kernel::{normalize, prefetch};

/// The scorers of one query, or of several interests, for one segment.
pub(super) struct SegmentScorers<'a, C, S> {
    /// `[interests]`: the queries, prepared.
    pub(super) queries: Vec<&'a [f32]>,
    /// Scores nodes.
    pub(super) nodes: WithTerms<'a, C>,
    /// Scores blocks in the same units, if the segment has blocks.
    pub(super) blocks: Option<SegmentBlocks<'a>>,
    /// Scores nodes for one interest each: without landmarks, a traversal starts where the descents of all of them end.
    pub(super) each: Vec<S>,
}

/// The blocks of a segment and the queries that score them.
pub(super) struct SegmentBlocks<'a> {
    pub(super) blocks: Blocks<'a>,
    pub(super) queries: Vec<BlockQuery<'a>>,
}

/// The query as rows are compared with it: normalized under cosine.
pub(super) fn prepared<'q>(index: &Index, query: &'q [f32]) -> Cow<'q, [f32]> {
    assert_eq!(query.len(), index.dim(), "the query and the index differ in dimension");
    if index.metadata().metric == Metric::Cosine {
        let mut query = query.to_vec();
        normalize(&mut query);
        Cow::Owned(query)
    } else {
        Cow::Borrowed(query)
    }
}

/// Returns the scores of single nodes of an index by its embeddings, also if it has fine codes.
pub fn exact_scores<'a>(index: &'a Index, query: &'a [f32]) -> impl Fn(NodeId) -> f32 + 'a {
    let query = prepared(index, query);
    move |node| RowScorer::exact(index, &query).score(node.0)
}

/// Binds all interests to the rows of an index. `queries`: their vectors, prepared.
pub(super) fn best_of<'a>(
    index: &'a Index,
    queries: &'a [Cow<'_, [f32]>],
    interests: &[Interest<'_>],
) -> BestOf<RowScorer<'a>> {
    let weighted = queries.iter().zip(interests).map(|(query, interest)| Weighted {
        scorer: RowScorer::new(index, query),
        offset: 0.0,
        scale: interest.weight,
    });
    BestOf::new(weighted.collect())
}

/// Prefetches the video ids of candidates, which are far apart in memory: all at once instead of one cache miss after
/// another when they are read.
pub(super) fn prefetch_ids<'c>(ids: &[VideoId], found: impl IntoIterator<Item = &'c Candidate>) {
    found.into_iter().for_each(|candidate| prefetch(std::slice::from_ref(&ids[candidate.node() as usize])));
}
