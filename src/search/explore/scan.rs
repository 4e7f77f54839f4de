//! Scans, repeated until enough candidates pass the rules or there are no more.

use super::super::plan::{Plan, best_of_block_scan};
use super::super::rule_filter::Passing;
use super::explorer::{Done, Explorer};
use crate::base::interrupt::Interrupt;
use crate::graph::{self, BlockScan, BlockScorers, Candidate, Cost, Scan, Score};

/// After an interrupt only this many of the best candidates, and this many per rescored one, are sieved: that takes next to
/// no time.
const LEFT_WHEN_LATE: usize = 4096;
const LEFT_PER_RESCORED: usize = 4;

impl<C: Scan, S: Score> Explorer<'_, '_, C, S> {
    /// Scans until enough candidates pass, or there are no more; `None` if the plan does not fit the segment.
    pub(super) fn scan(&mut self, mut plan: Plan) -> Option<Done> {
        let matching = self.plan.matching;
        let mut keep = self.plan.kept_first(self.filter.may_fail_many()).min(matching);
        loop {
            let cost = self.scan_once(plan, keep)?;
            self.cost += cost;
            let found = self.memory.scratch.found.len();
            // In a damaged file some scores are NaN, and such nodes are not found however many are kept.
            let is_whole_scan = keep == matching && plan != Plan::BlockScan && !self.interrupt.has_stopped();
            let is_all = found >= matching || is_whole_scan;
            let (passed, failed) = self.count_passing(found);
            // Which of equal scores a scan keeps depends on the node, not on the video id: one more scan must keep them all.
            let is_cut = plan == Plan::ExactScan
                && !self.interrupt.has_stopped()
                && self.filter.is_tied(&self.memory.scratch.found, self.plan.count);
            let kept = self.plan.rescored_after(failed);
            let more = kept - self.plan.rescored;
            let is_enough = passed >= self.plan.count && found >= self.plan.count + failed + more && !is_cut;
            if self.interrupt.has_stopped() || is_all || is_enough && self.has_margin(plan, passed) {
                if plan == Plan::ExactScan && !is_all {
                    self.drop_cut();
                }
                let is_whole = self.keep_passing(kept);
                return Some(Done { plan, is_complete: is_all && is_whole });
            }
            let next = self.plan.kept_next(keep, found, passed);
            plan = self.plan.scan_next(plan, keep, found, next);
            keep = next.min(matching);
        }
    }

    /// Sorts the candidates, of which there are `scanned`, and counts how many pass, until enough to be rescored do, and how
    /// many fail before.
    fn count_passing(&mut self, scanned: usize) -> (usize, usize) {
        let rescored = self.plan.rescored;
        let mut never = Interrupt::never();
        let interrupt = match self.interrupt.has_stopped() {
            true => {
                drop_for_lateness(&mut self.memory.scratch.found, rescored);
                &mut never
            }
            false => &mut *self.interrupt,
        };
        let found = &mut self.memory.scratch.found;
        found.sort_unstable();
        self.filter.prefetch(found.iter());
        match self.filter.count_passing(found, rescored, interrupt) {
            Passing::Enough { failed } => (rescored, failed),
            Passing::TooFew { passed } => (passed, scanned - passed),
            Passing::Unknown => {
                drop_for_lateness(&mut self.memory.scratch.found, rescored);
                (0, 0)
            }
        }
    }

    /// Whether at least half of the rescoring margin follows the last wanted candidate: codes misorder neighbors. `passed`: how
    /// many candidates pass.
    fn has_margin(&mut self, plan: Plan, passed: usize) -> bool {
        let (count, rescored) = (self.plan.count, self.plan.rescored);
        if plan == Plan::ExactScan || passed >= rescored {
            return true;
        }
        let found = &self.memory.scratch.found;
        match self.filter.count_passing(found, count, self.interrupt) {
            Passing::Enough { failed } => count + failed + (rescored - count) / 2 <= found.len(),
            Passing::TooFew { .. } | Passing::Unknown => false,
        }
    }

    /// One scan that keeps `keep` candidates; `None` if the plan does not fit the segment.
    fn scan_once(&mut self, plan: Plan, keep: usize) -> Option<Cost> {
        let scorer = &self.scorers.nodes;
        let scratch = &mut *self.memory.scratch;
        let interrupt = &mut *self.interrupt;
        match (plan, self.wanted.matches, &self.scorers.blocks) {
            (Plan::BlockScan, Some(matches), Some(blocks)) => {
                let scan = BlockScan { k: best_of_block_scan(keep), keep, missed: self.plan.missed };
                let scorers = BlockScorers { queries: &blocks.queries, nodes: scorer };
                let (matches, memory) = (matches.nodes, &mut *self.memory.blocks);
                let mut cost = graph::scan_blocks(
                    &blocks.blocks,
                    scorers,
                    Some(matches),
                    &scan,
                    scratch,
                    memory,
                    interrupt,
                );
                let ef_search = self.plan.expanded_after_blocks();
                if ef_search > 0 && !interrupt.has_stopped() {
                    let graph = self.filter.segment().index.graph();
                    cost += graph::expand_found(&graph, scorer, matches, ef_search, scratch, interrupt);
                    scratch.collect(keep);
                }
                Some(cost)
            }
            (_, Some(matches), _) => {
                Some(graph::scan_matching(scorer, matches.nodes, keep, scratch, interrupt))
            }
            (_, None, _) => Some(graph::scan_codes(scorer, keep, scratch, interrupt)),
        }
    }

    /// Removes the last of `found`, which is sorted, and all with the same score: some of those may be missing.
    fn drop_cut(&mut self) {
        let found = &mut self.memory.scratch.found;
        if let Some(last) = found.last().map(Candidate::score) {
            found.truncate(found.partition_point(|candidate| candidate.score() > last));
        }
    }
}

/// Leaves few enough of the best candidates that sieving them takes next to no time.
fn drop_for_lateness(found: &mut Vec<Candidate>, rescored: usize) {
    graph::keep_best(found, LEFT_WHEN_LATE.max(LEFT_PER_RESCORED * rescored));
}
