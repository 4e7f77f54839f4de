//! The state of one exploration, and which way it goes.

use super::super::plan::{Plan, SegmentPlan};
use super::super::rule_filter::RuleFilter;
use super::super::rules::{NodeRules, Segment};
use super::super::scorers::SegmentScorers;
use crate::base::interrupt::Interrupt;
use crate::graph::{BlockScratch, Candidate, Cost, Scan, Score, Scratch};
use crate::node_set::{CountedSet, NodeSet};

/// What is wanted of one segment.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Wanted<'a> {
    /// How to explore it.
    pub(in super::super) plan: SegmentPlan,
    /// The nodes that match; all without a filter.
    pub(in super::super) matches: Option<CountedSet<&'a NodeSet>>,
    /// Whether excluded nodes may stay among the candidates, if they are few.
    pub(in super::super) may_be_unsieved: bool,
}

/// The memory that an exploration uses. It leaves the candidates in `scratch.found`.
pub(in super::super) struct Memory<'a> {
    pub(in super::super) scratch: &'a mut Scratch,
    pub(in super::super) blocks: &'a mut BlockScratch,
}

/// How an exploration ended.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Explored {
    /// The plan that found the candidates.
    pub(in super::super) plan: Plan,
    pub(in super::super) cost: Cost,
    /// Whether the candidates are all that pass the rules.
    pub(in super::super) is_complete: bool,
    /// Whether every candidate passes the rules, and not only nearly every one.
    pub(in super::super) is_sieved: bool,
    /// The length of the candidate list in the end; 0 without a traversal.
    pub(in super::super) ef_search: usize,
}

/// Leaves candidates that pass the rules, scored by `scorers`, in `scratch.found`: enough of them that the best
/// `wanted.plan.count` by their scores as hits are included, after the caps were applied.
pub(in super::super) fn explore<C: Scan, S: Score>(
    segment: &Segment<'_>,
    scorers: &SegmentScorers<'_, C, S>,
    rules: &NodeRules<'_>,
    wanted: &Wanted<'_>,
    memory: Memory<'_>,
    interrupt: &mut Interrupt<'_>,
) -> Explored {
    let mut explorer = Explorer {
        scorers,
        wanted,
        plan: &wanted.plan,
        filter: RuleFilter::new(rules, segment, wanted.matches.map(|matches| matches.nodes)),
        is_sieved: true,
        cost: Cost::default(),
        ef_search: 0,
        memory,
        interrupt,
    };
    let first = wanted.plan.first;
    let mut done = match first {
        Plan::Graph | Plan::FilteredGraph => explorer.traverse(&segment.index.graph(), first),
        scan => explorer.scan(scan),
    };
    if done.is_none() {
        done = explorer.scan(wanted.plan.last);
    }
    let Done { plan, is_complete } = done.unwrap_or(Done { plan: first, is_complete: true });
    let Explorer { cost, is_sieved, ef_search, .. } = explorer;
    Explored { plan, cost, is_complete, is_sieved, ef_search }
}

/// A way of exploring that found enough.
pub(super) struct Done {
    pub(super) plan: Plan,
    pub(super) is_complete: bool,
}

/// The state of one exploration.
pub(super) struct Explorer<'a, 'i, C, S> {
    pub(super) scorers: &'a SegmentScorers<'a, C, S>,
    pub(super) wanted: &'a Wanted<'a>,
    pub(super) plan: &'a SegmentPlan,
    pub(super) filter: RuleFilter<'a>,
    pub(super) is_sieved: bool,
    pub(super) cost: Cost,
    pub(super) ef_search: usize,
    pub(super) memory: Memory<'a>,
    pub(super) interrupt: &'a mut Interrupt<'i>,
}

impl<C: Scan, S: Score> Explorer<'_, '_, C, S> {
    /// The share of the best candidates that score less by their embeddings than every candidate of the list: such nodes are seldom
    /// visited, so more of them are missing. Sorts the candidates.
    pub(super) fn beyond(&mut self) -> f32 {
        let Scratch { found, candidates, .. } = &mut *self.memory.scratch;
        let Some(last) = candidates.as_slice().last().filter(|_| self.scorers.nodes.has_terms()) else {
            return 0.0;
        };
        found.sort_unstable();
        let best = &found[..self.plan.count.min(found.len())];
        let is_beyond = |one: &&Candidate| one.score() - self.scorers.nodes.added(one.node()) < last.score();
        best.iter().filter(is_beyond).count() as f32 / best.len().max(1) as f32
    }

    /// Leaves the candidates in `found` that pass, about the best `kept` of them. Returns whether these are all that pass.
    ///
    /// After an interrupt it runs to its end, since what is left then is little; otherwise an interrupt leaves fewer.
    pub(super) fn keep_passing(&mut self, kept: usize) -> bool {
        let mut never = Interrupt::never();
        let interrupt = if self.interrupt.has_stopped() { &mut never } else { &mut *self.interrupt };
        self.filter.retain_passing(&mut self.memory.scratch.found, kept, interrupt)
    }
}
