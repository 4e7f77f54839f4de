//! Traversals, resumed until enough candidates pass the rules.
//!
//! A traversal goes by the scores of embeddings alone, and score terms choose among the nodes that it visited. Terms say nothing about
//! where other good nodes are: the neighbors of a node are near it, and not as fresh or as popular. With one million videos and
//! terms that decide half of the best 100, at `ef_search` 200: recall 0.891, and 0.875 for a traversal by the sums.

use super::super::plan::Plan;
use super::super::rule_filter::Passing;
use super::explorer::{Done, Explorer};
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::graph::{self, BlockScan, BlockScorers, GraphView, Scan, Score, Width};

/// The best candidates of this number are looked up to see whether much is excluded;
const SAMPLED: usize = 64;
/// if at most this many of them are, the others are looked up after they were rescored.
const FEW_EXCLUDED_OF_SAMPLE: usize = 4;
/// A traversal under rules expands one more node per node that failed, up to `ef_search` divided by this. Without this reserve,
/// recall@100 is 2.6 points lower if half of all videos are excluded.
const RESERVE_DIVISOR: usize = 2;
/// The exclusion data of 1/8 more candidates is prefetched than would be looked up if all passed.
const PREFETCH_RESERVE: usize = 8;

impl<C: Scan, S: Score> Explorer<'_, '_, C, S> {
    /// Expands nodes until enough candidates pass; `None` if another plan is faster.
    pub(super) fn traverse(&mut self, graph: &GraphView<'_>, plan: Plan) -> Option<Done> {
        let (base, count, rows) = (self.plan.ef_search, self.plan.count, self.plan.rows);
        let scorer = self.scorers.nodes.bare();
        let mut ef_search = base.max(1);
        self.start(graph, plan, Width { ef_search, at_least: count });
        if !self.interrupt.has_stopped()
            && self.memory.scratch.visited() < rows
            && let Some(excluded) = self.few_excluded()
        {
            self.is_sieved = false;
            let kept = self.plan.rescored;
            self.memory.scratch.collect(kept + kept * excluded / SAMPLED);
            return Some(Done { plan, is_complete: false });
        }
        // Without caps, as many passing nodes are expanded as for any other `count`, and the other visited nodes fill up the
        // answer. Under caps that is not enough: they leave less and less the further a search goes.
        let has_caps = self.filter.has_caps();
        let expanded = if has_caps { count } else { count.min(base.max(1)) };
        loop {
            self.ef_search = ef_search;
            let candidates = self.memory.scratch.candidates.as_slice();
            self.filter.prefetch(candidates.iter().take(expanded + expanded / PREFETCH_RESERVE));
            let mut never = Interrupt::never();
            let interrupt = if self.interrupt.has_stopped() { &mut never } else { &mut *self.interrupt };
            let passed = self.filter.count_passing(candidates, expanded, interrupt);
            let met = candidates.len();
            // A traversal that ignores the filter also visits nodes that do not match.
            let all = if plan == Plan::FilteredGraph { self.plan.matching } else { rows };
            let visited = self.memory.scratch.visited();
            let is_all = visited >= all;
            // As many passing nodes as would have been expanded without rules. The reserve is for further nodes that fail.
            let mut needed = match passed {
                Passing::Enough { failed } => base + failed + failed.min(base / RESERVE_DIVISOR),
                Passing::TooFew { passed } => {
                    let is_first = ef_search <= base.max(1) && !has_caps;
                    self.plan.widened(ef_search, met, passed, expanded, is_first)
                }
                Passing::Unknown => base,
            };
            if self.interrupt.has_stopped() || is_all || !self.plan.is_worth_expanding(ef_search, needed) {
                // The visited nodes that fill up the answer should fail as often as the expanded ones; if they fail more
                // often, all visited nodes are sieved.
                let failed = needed.saturating_sub(base);
                let kept = self.plan.rescored_after(failed);
                let enough = ef_search.max(kept + kept * failed / expanded.max(1));
                if self.scorers.nodes.has_terms() {
                    self.filter.forget();
                }
                let mut wider = None;
                for some in [if is_all { visited } else { enough }, visited] {
                    self.scorers.nodes.collect(some, self.memory.scratch);
                    let is_whole = self.keep_passing(kept);
                    let is_last = self.interrupt.has_stopped() || is_all;
                    if is_last || self.memory.scratch.found.len() >= count {
                        wider =
                            self.plan.widened_for_terms(plan, ef_search, self.beyond()).filter(|_| !is_last);
                        if wider.is_none() {
                            return Some(Done { plan, is_complete: is_all && is_whole });
                        }
                        break;
                    }
                }
                needed = wider.unwrap_or(2 * ef_search);
            }
            if self.plan.gives_up(plan, needed) || ef_search >= rows {
                return None;
            }
            ef_search = self.plan.resumed(needed);
            let width = Width { ef_search, at_least: count };
            self.cost += graph::traverse_further(graph, scorer, width, self.memory.scratch, self.interrupt);
        }
    }

    /// The traversal before any rules are considered.
    fn start(&mut self, graph: &GraphView<'_>, plan: Plan, width: Width) {
        let scorer = self.scorers.nodes.bare();
        let mut starts = if self.scorers.each.len() > 1 { self.scout() } else { Vec::new() };
        let scratch = &mut *self.memory.scratch;
        match &graph.landmarks {
            // A filtered traversal could use few of their nodes: most do not match.
            Some(landmarks) if plan != Plan::FilteredGraph => {
                for query in &self.scorers.queries {
                    self.cost += landmarks.find(query, scratch, &mut starts);
                }
            }
            _ => {
                for scorer in &self.scorers.each {
                    let (start, descent) = graph::descend(graph, scorer, scratch);
                    self.cost += descent;
                    starts.push(start);
                }
            }
        }
        self.cost += match (plan, self.wanted.matches) {
            (Plan::FilteredGraph, Some(matches)) => {
                let matches = matches.nodes;
                graph::traverse_matching(graph, scorer, &starts, matches, width, scratch, self.interrupt)
            }
            _ => graph::traverse_from(graph, scorer, &starts, width, scratch, self.interrupt),
        };
    }

    /// How many of the best [`SAMPLED`] candidates are excluded, if they are few and may stay.
    fn few_excluded(&self) -> Option<usize> {
        if !self.wanted.may_be_unsieved || self.wanted.matches.is_some() || self.scorers.nodes.has_terms() {
            return None;
        }
        let candidates = self.memory.scratch.candidates.as_slice();
        let sample = &candidates[..SAMPLED.min(candidates.len())];
        self.filter.prefetch(sample.iter());
        let excluded = sample.iter().filter(|candidate| !self.filter.allows(candidate.node())).count();
        (excluded <= FEW_EXCLUDED_OF_SAMPLE).then_some(excluded)
    }

    /// More starts for a traversal for several interests: the best of a block scan. None without blocks.
    fn scout(&mut self) -> Vec<NodeId> {
        let Some(blocks) = &self.scorers.blocks else { return Vec::new() };
        let matches = self.wanted.matches.map(|matches| matches.nodes);
        let count = self.plan.scouted();
        let scan = BlockScan { k: count, keep: count, missed: f32::INFINITY };
        let scorers = BlockScorers { queries: &blocks.queries, nodes: &self.scorers.nodes };
        let memory = &mut self.memory;
        self.cost += graph::scan_blocks(
            &blocks.blocks,
            scorers,
            matches,
            &scan,
            memory.scratch,
            memory.blocks,
            self.interrupt,
        );
        self.memory.scratch.found.iter().map(|found| NodeId(found.node())).collect()
    }
}
