//! The place of one node in the order of all nodes that pass the rules.

use super::caps::CapCounters;
use super::hit::{Hit, Interrupted};
use super::order::best_first;
use super::rules::{Interest, NodeRules, Segment};
use super::scorers::{best_of, prepared};
use super::searcher::Searcher;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;

/// Nodes that are scored or counted between two checks of the interrupt.
const SCORED_AT_ONCE: u32 = 1024;

/// Where a node is in the order of all that pass the rules, without kept places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its rank, from 1.
    Rank(usize),
    /// No rank: the cap at this position has no room for it.
    Capped(usize),
}

impl Searcher {
    /// The score of a node, and the interest for which it scores best.
    ///
    /// # Panics
    /// As [`Searcher::search_segments`], or if there is no such node.
    pub fn score(&self, interests: &[Interest<'_>], rules: &NodeRules<'_>, node: NodeId) -> Hit {
        let located = rules.locate(node);
        let (mut own, nodes) = (None, located.node.0..located.node.0 + 1);
        let _ = for_each_scored(
            located.segment,
            interests,
            nodes,
            |hit| own = Some(hit),
            &mut Interrupt::never(),
        );
        own.expect("a range of one node contains one node")
    }

    /// The place of a node in the order of all that pass the rules, without kept places.
    ///
    /// # Errors
    /// [`Interrupted`]. The interrupt is checked once per some hundred nodes.
    ///
    /// # Panics
    /// As [`Searcher::score`].
    pub fn place(
        &self,
        interests: &[Interest<'_>],
        rules: &NodeRules<'_>,
        node: NodeId,
        interrupt: &mut Interrupt<'_>,
    ) -> Result<Place, Interrupted> {
        let order = |one: &Hit, other: &Hit| {
            best_first((one.score, rules.video_id(one.node)), (other.score, rules.video_id(other.node)))
        };
        let own = self.score(interests, rules, node);
        let mut better = Vec::new();
        for segment in rules.segments {
            let take = |other: Hit| {
                if order(&other, &own).is_lt() && rules.allows(other.node) {
                    better.push(other);
                }
            };
            for_each_scored(segment, interests, 0..segment.index.len() as u32, take, interrupt)?;
        }
        better.sort_unstable_by(order);
        let mut counters = CapCounters::default();
        let mut before = 0;
        for (other, at) in better.iter().zip(1u32..) {
            before += usize::from(counters.take(rules, other.node));
            if at.is_multiple_of(SCORED_AT_ONCE) && interrupt.should_stop() {
                return Err(Interrupted);
            }
        }
        Ok(counters.full_cap(rules, node).map_or(Place::Rank(before + 1), Place::Capped))
    }
}

/// Scores some nodes of a segment as hits are scored.
fn for_each_scored(
    segment: &Segment<'_>,
    interests: &[Interest<'_>],
    nodes: std::ops::Range<u32>,
    mut each: impl FnMut(Hit),
    interrupt: &mut Interrupt<'_>,
) -> Result<(), Interrupted> {
    let queries: Vec<_> =
        interests.iter().map(|interest| prepared(segment.index, &interest.vector)).collect();
    let best_of = best_of(segment.index, &queries, interests);
    for local in nodes {
        let (interest, score) = best_of.best(local);
        let score = score + segment.terms.map_or(0.0, |terms| terms.added(local));
        each(Hit { node: NodeId(segment.start + local), score, interest });
        if local % SCORED_AT_ONCE == SCORED_AT_ONCE - 1 && interrupt.should_stop() {
            return Err(Interrupted);
        }
    }
    Ok(())
}
