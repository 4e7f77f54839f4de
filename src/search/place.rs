//! The place of one node in the order of all that pass the rules.

use super::choice::{Ranked, Room};
use super::rules::{Interest, NodeRules, Part};
use super::searcher::{Interrupted, Searcher, prepared, scorer};
use crate::base::id::NodeId;
use crate::graph::BestOf;
use crate::with_rows;

/// Nodes that are scored between two questions whether to go on.
const ASKED_EVERY: u32 = 1024;

impl Searcher {
    /// The exact score of a node and the interest it fits best.
    ///
    /// # Panics
    /// As [`Searcher::search_ruled`], or if there is no such node.
    pub fn score(&self, interests: &[Interest<'_>], rules: &NodeRules<'_>, node: NodeId) -> Ranked {
        let (_, part, local) = rules.locate(node);
        let mut own = None;
        let _ = for_each_scored(part, interests, local.0..local.0 + 1, |ranked| own = Some(ranked), || true);
        own.expect("a range of one node has one")
    }

    /// The place of a node in the order of all that pass the rules, from 1, no places being kept; or the cap that
    /// has no room for it, by its position among the rules.
    ///
    /// # Errors
    /// [`Interrupted`] when `keep_going` says no, which is asked once per some hundred nodes.
    ///
    /// # Panics
    /// As [`Searcher::score`].
    pub fn place(
        &self,
        interests: &[Interest<'_>],
        rules: &NodeRules<'_>,
        node: NodeId,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Result<usize, usize>, Interrupted> {
        let own = self.score(interests, rules, node);
        let mut better = Vec::new();
        for part in &rules.parts {
            let take = |other: Ranked| {
                if order(rules, &other, &own).is_lt() && rules.allows(other.node) {
                    better.push(other);
                }
            };
            for_each_scored(part, interests, 0..part.index.len() as u32, take, &mut keep_going)?;
        }
        better.sort_unstable_by(|a, b| order(rules, a, b));
        let mut room = Room::new(rules);
        let mut before = 0;
        for (other, at) in better.iter().zip(1u32..) {
            before += usize::from(room.take(other.node));
            if at % ASKED_EVERY == 0 && !keep_going() {
                return Err(Interrupted);
            }
        }
        Ok(room.full_cap(node).map_or(Ok(before + 1), Err))
    }
}

/// Scores some nodes of a part exactly.
fn for_each_scored(
    part: &Part<'_>,
    interests: &[Interest<'_>],
    nodes: std::ops::Range<u32>,
    mut each: impl FnMut(Ranked),
    mut keep_going: impl FnMut() -> bool,
) -> Result<(), Interrupted> {
    let queries: Vec<_> = interests.iter().map(|interest| prepared(part.index, &interest.vector)).collect();
    let metric = part.index.metadata().metric;
    with_rows!(part.index.vectors(), rows => {
        let queries = queries.iter().zip(interests);
        let queries = queries.map(|(query, interest)| (scorer(metric, query, rows), 0.0, interest.weight));
        let best_of = BestOf::new(queries.collect());
        for local in nodes {
            let (interest, score) = best_of.best(local);
            each(Ranked { node: NodeId(part.start + local), score, interest });
            if local % ASKED_EVERY == ASKED_EVERY - 1 && !keep_going() {
                return Err(Interrupted);
            }
        }
    });
    Ok(())
}

/// Best first; equal scores by video id.
fn order(rules: &NodeRules<'_>, a: &Ranked, b: &Ranked) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then_with(|| rules.video_id(a.node).cmp(&rules.video_id(b.node)))
}
