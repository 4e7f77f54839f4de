//! The nodes that may become hits of a request with rules: which of the ways to find them is fastest, and how far to
//! go until enough of them pass the rules.
//!
//! | there are | way |
//! |---|---|
//! | no filter | traversal; where much is excluded or capped, expanding more |
//! | no filter, and so much effort, or no graph | a scan of everything |
//! | few matches, or so much effort, or no graph | a scan of them |
//! | otherwise | a scan of the likeliest blocks of them, then a walk from what that found |
//! | the same in an index without blocks | traversal, passing through what does not match, and expanding more for it |
//!
//! Whatever comes too short ends as a scan of all that matches: an answer is short only if there are no more.

use std::cmp::Ordering;

use rustc_hash::FxHashSet;

use super::choice::Room;
use super::params::Plan;
use super::rules::{NodeRules, Part};
use super::searcher::prefetch_ids;
use crate::base::id::NodeId;
use crate::graph::{
    self, BeamStats, BlockQuery, BlockScan, Blocks, Candidate, GraphView, Outcome, Scan, Score, Scratch,
};
use crate::node_set::NodeSet;

/// So few matches are scanned, or one of so many nodes: a scan of blocks would have to look at most of them.
const SCANNED_MATCHES: usize = 4096;
const SCANNED_SHARE: usize = 100;
/// The same where there are no blocks, and the other ways are traversals.
const SCANNED_WITHOUT_BLOCKS: usize = 20_000;
/// One in so many nodes matches, or more do, where a traversal meets enough that do.
const TRAVERSED_SHARE: usize = 4;
/// Starts that a look into the likeliest blocks gives to a traversal for several interests: it sees the regions of
/// all of them at once, where a traversal would go for the one that it comes upon first. Measured with four users as
/// interests among one million videos: recall@100 0.96 for the effort of 0.83 without.
const SCOUTED_STARTS: usize = 100;
/// Where a traversal would have to expand one in so many more for the rules, what it has is as good: going on puts all
/// that was scored in order again, which takes half as long as the traversal did.
const NOT_WORTH_EXPANDING: usize = 16;
/// A traversal that would have to expand so many times more for the rules is given up for a scan.
const WORTH_EXPANDING: usize = 4;
/// One in so many of the nodes that a traversal would expand is expanded after a scan of blocks.
const EXPANDED_SHARE: usize = 4;
/// For so many that the rules took away, one more is scored again, where they took more than that are anyway: the further
/// down, the closer scores lie, and the more of them codes put in another order. Measured with the best 1,000 to 10,000
/// excluded.
const FAILED_FOR_ONE: usize = 8;
/// Nodes that are looked up between two questions whether to go on.
const ASKED_EVERY: usize = 1024;
/// So many of the best are left to choose from when it is late, and so many for each that is scored again.
const LEFT_WHEN_LATE: usize = 4096;
const LEFT_FOR_EACH: usize = 4;
/// So many of the best are looked up to see whether much is excluded.
const SAMPLED: usize = 64;
/// Where no more of those are, the others are looked up when they have been scored exactly.
const FEW_EXCLUDED: usize = 4;

/// What is searched for, in a form that scores nodes quickly.
pub(super) struct Coarse<'a, C, S> {
    /// Scores nodes.
    pub(super) nodes: C,
    /// The blocks, and what scores them in the same units.
    pub(super) blocks: Option<(Blocks<'a>, Vec<BlockQuery<'a>>)>,
    /// Scores nodes for each interest by itself: a traversal starts where the descents of all of them end.
    pub(super) each: Vec<S>,
}

/// Which of the nodes, how many, and how hard to look for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// All nodes where there is none; with how many they are.
    pub(super) matches: Option<(&'a NodeSet, usize)>,
    /// How many that pass the rules.
    pub(super) count: usize,
    pub(super) ef_search: usize,
    /// The share of the best that a scan of blocks may miss.
    pub(super) missed: f32,
    pub(super) plan: Option<Plan>,
    /// Whether what is excluded may stay among what is found, where it is little.
    pub(super) may_be_unsieved: bool,
}

/// What an exploration came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explored {
    pub(super) plan: Plan,
    pub(super) stats: BeamStats,
    /// Whether it found all there are.
    pub(super) is_complete: bool,
    /// Whether all that was found passes the rules, and not only nearly all.
    pub(super) is_sieved: bool,
    pub(super) is_interrupted: bool,
}

/// Leaves nodes that pass the rules, scored by `coarse`, in `scratch.found`: those among which the best
/// `wanted.count` are when they are scored exactly and the caps have been applied.
pub(super) fn explore<C: Scan, S: Score>(
    part: &Part<'_>,
    coarse: &Coarse<'_, C, S>,
    rules: &NodeRules<'_>,
    wanted: &Wanted<'_>,
    scratch: &mut Scratch,
    keep_going: &mut dyn FnMut() -> bool,
) -> Explored {
    let index = part.index;
    let mut explorer = Explorer {
        coarse,
        wanted,
        sieve: Sieve { rules, part, matches: wanted.matches.map(|(set, _)| set), known: Known::default() },
        rows: index.len(),
        scanned_bytes: index
            .codes()
            .map_or(index.len() * index.dim() * size_of::<f32>(), |(codes, _)| codes.len()),
        has_graph: index.has_graph(),
        whole_scan: if index.codes().is_some() { Plan::CodeScan } else { Plan::ExactScan },
        is_sieved: true,
        stats: BeamStats::default(),
        scratch,
        keep_going,
    };
    let plan = explorer.first_plan();
    let mut explored = match plan {
        Plan::Graph | Plan::FilteredGraph => explorer.traverse(&index.graph(), plan),
        plan => explorer.scan(plan),
    };
    if explored.is_none() {
        explored = explorer.scan(explorer.last_plan());
    }
    let (plan, is_complete, is_interrupted) = explored.unwrap_or((plan, true, false));
    Explored { plan, stats: explorer.stats, is_complete, is_sieved: explorer.is_sieved, is_interrupted }
}

struct Explorer<'a, C, S> {
    coarse: &'a Coarse<'a, C, S>,
    wanted: &'a Wanted<'a>,
    sieve: Sieve<'a>,
    rows: usize,
    scanned_bytes: usize,
    has_graph: bool,
    /// What a scan of everything is called.
    whole_scan: Plan,
    is_sieved: bool,
    stats: BeamStats,
    scratch: &'a mut Scratch,
    keep_going: &'a mut dyn FnMut() -> bool,
}

/// The plan, whether everything there is was found, and whether the search was told to stop.
type Found = (Plan, bool, bool);

impl<C: Scan, S: Score> Explorer<'_, C, S> {
    fn matching(&self) -> usize {
        self.wanted.matches.map_or(self.rows, |(_, count)| count)
    }

    /// How many are scored again to get the best right.
    fn kept(&self) -> usize {
        graph::rescored(self.wanted.count)
    }

    /// How many more, where the rules took so many away before those.
    fn more_again(&self, failed: usize) -> usize {
        failed.saturating_sub(self.kept()) / FAILED_FOR_ONE
    }

    /// Whether reading everything is faster than a traversal of this effort, whose reads are scattered.
    fn is_better_scanned(&self, ef_search: usize) -> bool {
        ef_search >= Plan::scanned_from(self.scanned_bytes)
    }

    fn first_plan(&self) -> Plan {
        if let Some(plan) = self.wanted.plan {
            // Where there are matches, theirs are the codes that are scored.
            let is_of_matches = plan == Plan::CodeScan && self.wanted.matches.is_some();
            return if is_of_matches { Plan::MatchScan } else { plan };
        }
        if !self.has_graph {
            return if self.wanted.matches.is_some() { Plan::MatchScan } else { self.whole_scan };
        }
        let Some((_, matching)) = self.wanted.matches else {
            return if self.is_better_scanned(self.wanted.ef_search) { self.whole_scan } else { Plan::Graph };
        };
        let few = match self.coarse.blocks {
            Some(_) => SCANNED_MATCHES.max(self.rows / SCANNED_SHARE),
            None => SCANNED_WITHOUT_BLOCKS,
        };
        if matching <= few.max(2 * self.kept()) || self.is_better_scanned(self.wanted.ef_search) {
            Plan::MatchScan
        } else if self.coarse.blocks.is_some() {
            Plan::BlockScan
        } else if matching >= self.rows / TRAVERSED_SHARE {
            Plan::Graph
        } else {
            Plan::FilteredGraph
        }
    }

    /// What is done when a traversal would take too long.
    fn last_plan(&self) -> Plan {
        if self.wanted.matches.is_some() { Plan::MatchScan } else { self.whole_scan }
    }

    /// Expands until enough nodes pass; `None` if something else is faster.
    fn traverse(&mut self, graph: &GraphView<'_>, plan: Plan) -> Option<Found> {
        let (base, count) = (self.wanted.ef_search, self.wanted.count);
        let scorer = &self.coarse.nodes;
        let mut ef_search = base.max(1);
        let mut starts = if self.coarse.each.len() > 1 { self.scout() } else { Vec::new() };
        for scorer in &self.coarse.each {
            let (start, descent) = graph::descend(graph, scorer, self.scratch);
            self.stats += descent;
            starts.push(start);
        }
        let outcome = match (plan, self.wanted.matches) {
            (Plan::FilteredGraph, Some((matches, _))) => graph::traverse_matching(
                graph,
                scorer,
                &starts,
                matches,
                (ef_search, count),
                self.scratch,
                &mut *self.keep_going,
            ),
            _ => graph::traverse_from(
                graph,
                scorer,
                &starts,
                (ef_search, count),
                self.scratch,
                &mut *self.keep_going,
            ),
        };
        self.add(outcome);
        let mut is_interrupted = outcome.is_interrupted;
        if !is_interrupted
            && self.scratch.met() < self.rows
            && let Some(excluded) = self.little_excluded()
        {
            self.is_sieved = false;
            self.scratch.collect(self.kept() + self.kept() * excluded / SAMPLED);
            return Some((plan, false, false));
        }
        // Without rules as many are expanded whatever is wanted, and what else was scored fills up the answer. That does
        // not do under caps, which leave less and less the further a search goes.
        let has_caps = !self.sieve.rules.caps.is_empty();
        let expanded = if has_caps { count } else { count.min(base.max(1)) };
        loop {
            let candidates = self.scratch.candidates.as_slice();
            self.sieve.prefetch(candidates.iter().take(expanded + expanded / 8));
            let passed = self.sieve.count_passing(candidates, expanded, &mut *self.keep_going);
            // A traversal that does not know of the filter meets what does not match, too.
            let all = if plan == Plan::FilteredGraph { self.matching() } else { self.rows };
            let met = self.scratch.met();
            let is_all = met >= all;
            // As many nodes as would have been expanded without rules, besides those that the rules took away.
            let mut needed = match passed {
                Passing::Enough { failed } => base + failed,
                // As many again as failed, at first; where that did not do, or more fail the further it goes, twice as
                // many.
                Passing::TooFew { passed } => {
                    let met = self.scratch.candidates.as_slice().len();
                    let is_first = ef_search <= base.max(1) && !has_caps;
                    let least = if is_first { base + met - passed } else { 2 * ef_search };
                    (met * expanded / passed.max(1)).clamp(least, (8 * ef_search).max(least))
                }
                Passing::Unknown => {
                    is_interrupted = true;
                    base
                }
            };
            if is_interrupted || is_all || needed <= ef_search + ef_search / NOT_WORTH_EXPANDING {
                // Of those that fill up the answer as many fail as of those that were expanded, or else all are looked at.
                let failed = needed.saturating_sub(base);
                let kept = self.kept() + self.more_again(failed);
                let enough = ef_search.max(kept + kept * failed / expanded.max(1));
                for some in [if is_all { met } else { enough }, met] {
                    self.scratch.collect(some);
                    let is_whole = self.keep_passing(kept, &mut is_interrupted);
                    if is_interrupted || is_all || self.scratch.found.len() >= count {
                        return Some((plan, is_all && is_whole, is_interrupted));
                    }
                }
                needed = 2 * ef_search;
            }
            let is_forced = self.wanted.plan == Some(plan);
            let is_dear = self.wanted.matches.is_some() && needed > WORTH_EXPANDING * base
                || self.is_better_scanned(needed);
            if plan == Plan::FilteredGraph || is_dear && !is_forced || ef_search >= self.rows {
                return None;
            }
            ef_search = needed + needed / 16;
            let keep_going = &mut *self.keep_going;
            let outcome =
                graph::traverse_further(graph, scorer, (ef_search, count), self.scratch, keep_going);
            self.add(outcome);
            is_interrupted = outcome.is_interrupted;
        }
    }

    /// How many of [`SAMPLED`] are excluded, if what was found may stay unsieved, as far as the best of it tell.
    fn little_excluded(&self) -> Option<usize> {
        if !self.wanted.may_be_unsieved || self.wanted.matches.is_some() {
            return None;
        }
        let candidates = self.scratch.candidates.as_slice();
        let sample = &candidates[..SAMPLED.min(candidates.len())];
        self.sieve.prefetch(sample.iter());
        let excluded = sample.iter().filter(|candidate| !self.sieve.allows(candidate.node())).count();
        (excluded <= FEW_EXCLUDED).then_some(excluded)
    }

    /// More starts, where it is worth looking for them.
    fn scout(&mut self) -> Vec<NodeId> {
        let Some((blocks, queries)) = &self.coarse.blocks else { return Vec::new() };
        let matches = self.wanted.matches.map(|(matches, _)| matches);
        let count = SCOUTED_STARTS.max(self.wanted.count).min(self.matching().max(1));
        let scan = BlockScan { k: count, keep: count, missed: f32::INFINITY };
        let scorers = (queries.as_slice(), &self.coarse.nodes);
        let outcome =
            graph::scan_blocks(blocks, scorers, matches, &scan, self.scratch, &mut *self.keep_going);
        self.add(outcome);
        self.scratch.found.iter().map(|found| NodeId(found.node())).collect()
    }

    /// Scans until enough nodes pass, or there are no more.
    fn scan(&mut self, mut plan: Plan) -> Option<Found> {
        let matching = self.matching();
        let mut keep = self.kept().min(matching);
        loop {
            let outcome = self.scan_once(plan, keep)?;
            self.add(outcome);
            let mut is_interrupted = outcome.is_interrupted;
            let found = self.scratch.found.len();
            // In a damaged file some score no number, and are not found however many are kept.
            let is_whole_scan = keep == matching && plan != Plan::BlockScan && !is_interrupted;
            let is_all = found >= matching || is_whole_scan;
            if is_interrupted {
                self.drop_for_lateness();
            }
            self.scratch.found.sort_unstable();
            self.sieve.prefetch(self.scratch.found.iter());
            let kept = self.kept();
            let (passed, failed) =
                match self.sieve.count_passing(&self.scratch.found, kept, &mut *self.keep_going) {
                    Passing::Enough { failed } => (self.wanted.count, failed),
                    Passing::TooFew { passed } => (passed, found - passed),
                    Passing::Unknown => {
                        is_interrupted = true;
                        self.drop_for_lateness();
                        (0, 0)
                    }
                };
            // Equal scores are in order of the videos, which a cut through them does not know.
            let is_cut = plan == Plan::ExactScan
                && !is_interrupted
                && self.sieve.is_tied(&self.scratch.found, self.wanted.count);
            let more_again = self.more_again(failed);
            let is_enough = passed >= self.wanted.count && found >= self.wanted.count + failed + more_again;
            if is_interrupted || is_all || is_enough && !is_cut {
                if plan == Plan::ExactScan && !is_all {
                    self.drop_cut();
                }
                let is_whole = self.keep_passing(kept + more_again, &mut is_interrupted);
                return Some((plan, is_all && is_whole, is_interrupted));
            }
            // As many more as failed, or rather in proportion where most did.
            let more = (found * self.kept() / passed.max(1)).clamp(2 * keep, 16 * keep);
            if plan == Plan::BlockScan && (found < keep || more > matching / 8) {
                plan = Plan::MatchScan;
            }
            keep = more.min(matching);
        }
    }

    /// `None` if the plan does not fit.
    fn scan_once(&mut self, plan: Plan, keep: usize) -> Option<Outcome> {
        let scorer = &self.coarse.nodes;
        let keep_going = &mut *self.keep_going;
        match (plan, self.wanted.matches, &self.coarse.blocks) {
            (Plan::BlockScan, Some((matches, _)), Some((blocks, queries))) => {
                // What is left after scoring again is as many as it was made for.
                let k = (keep * 2 / 3).max(1);
                let scan = BlockScan { k, keep, missed: self.wanted.missed };
                let scorers = (queries.as_slice(), scorer);
                let scratch = &mut *self.scratch;
                let mut outcome =
                    graph::scan_blocks(blocks, scorers, Some(matches), &scan, scratch, &mut *keep_going);
                let expanded = self.wanted.ef_search / EXPANDED_SHARE;
                if expanded > 0 && !outcome.is_interrupted {
                    let graph = self.sieve.part.index.graph();
                    let effort = (expanded, keep);
                    let walk = graph::expand_found(&graph, scorer, matches, effort, scratch, keep_going);
                    outcome.stats += walk.stats;
                    outcome.is_interrupted = walk.is_interrupted;
                }
                Some(outcome)
            }
            (_, Some((matches, _)), _) => {
                Some(graph::scan_matching(scorer, matches, keep, self.scratch, keep_going))
            }
            (_, None, _) => Some(graph::scan_codes(scorer, keep, self.scratch, keep_going)),
        }
    }

    /// Leaves so few of the best in `found` that the rest of the way takes next to no time.
    fn drop_for_lateness(&mut self) {
        let few = LEFT_WHEN_LATE.max(LEFT_FOR_EACH * self.kept());
        graph::keep_best(&mut self.scratch.found, few);
    }

    /// Leaves in `found` what passes, about the best `kept` of it; says whether that is all of it. What was told to stop
    /// before is few enough; otherwise it may be told so now.
    fn keep_passing(&mut self, kept: usize, is_interrupted: &mut bool) -> bool {
        let was_interrupted = *is_interrupted;
        let mut keep_going = || {
            *is_interrupted |= !was_interrupted && !(self.keep_going)();
            was_interrupted || !*is_interrupted
        };
        self.sieve.retain_passing(&mut self.scratch.found, kept, &mut keep_going)
    }

    /// Takes the last of `found`, which are in order, and all that score as they do: some of those may be missing.
    fn drop_cut(&mut self) {
        let found = &mut self.scratch.found;
        if let Some(last) = found.last().map(Candidate::score) {
            found.truncate(found.partition_point(|candidate| candidate.score() > last));
        }
    }

    fn add(&mut self, outcome: Outcome) {
        self.stats += outcome.stats;
    }
}

/// How many of some nodes pass the rules.
enum Passing {
    /// As many as are wanted, after so many that did not.
    Enough { failed: usize },
    /// Not as many.
    TooFew { passed: usize },
    /// It was told to stop.
    Unknown,
}

/// The rules that can be looked up for one node after another, best first.
struct Sieve<'a> {
    rules: &'a NodeRules<'a>,
    /// What the nodes are of.
    part: &'a Part<'a>,
    matches: Option<&'a NodeSet>,
    known: Known,
}

/// What was found when nodes were counted last, where looking at one again takes longer than to remember it.
#[derive(Default)]
struct Known {
    /// How many were looked at that score more than this.
    above: Option<(f32, usize)>,
    /// Those of them, and perhaps others, that are not allowed.
    failed: FxHashSet<u32>,
}

impl Known {
    /// The score that all of `found`, the best of all nodes that were met, are known above.
    ///
    /// Those that were looked at are among all that were met: if as many score more, it is they who do.
    fn above(&self, found: &[Candidate]) -> Option<f32> {
        let (score, known) = self.above?;
        let above = found.iter().filter(|candidate| scores_more(candidate, score)).count();
        (above == known && above < found.len()).then_some(score)
    }
}

/// In the order of candidates, where what is no number has a place, too.
fn scores_more(candidate: &Candidate, score: f32) -> bool {
    candidate.score().total_cmp(&score).is_gt()
}

impl Sieve<'_> {
    fn allows(&self, node: u32) -> bool {
        self.matches.is_none_or(|matches| matches.contains(node))
            && self.part.allows(NodeId(node))
            && (self.rules.exclusion.is_empty()
                || !self.rules.exclusion.contains(self.part.video_ids[node as usize]))
            && !self.rules.seeds.contains(&self.global(node))
    }

    /// Before these are looked at.
    fn prefetch<'c>(&self, found: impl Iterator<Item = &'c Candidate> + Clone) {
        let exclusion = self.rules.exclusion;
        if exclusion.is_empty() {
            return;
        }
        prefetch_ids(self.part.video_ids, found.clone());
        found.for_each(|candidate| exclusion.prefetch(self.part.video_ids[candidate.node() as usize]));
    }

    /// A node of the part among those of all.
    fn global(&self, node: u32) -> NodeId {
        NodeId(self.part.start + node)
    }

    /// Whether the last of all scores as the last that is wanted.
    fn is_tied(&mut self, ranked: &[Candidate], wanted: usize) -> bool {
        match (self.count_passing(ranked, wanted, &mut || true), ranked.last()) {
            (Passing::Enough { failed }, Some(last)) => ranked[wanted + failed - 1].score() == last.score(),
            _ => false,
        }
    }

    /// `ranked`: best first. `keep_going` is asked once per [`ASKED_EVERY`] of them.
    fn count_passing(
        &mut self,
        ranked: &[Candidate],
        wanted: usize,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Passing {
        let remembers = !self.rules.exclusion.is_empty();
        self.known.failed.clear();
        let mut room = Room::new(self.rules);
        let (mut passed, mut looked_at) = (0, 0);
        while passed < wanted && looked_at < ranked.len() {
            let node = ranked[looked_at].node();
            looked_at += 1;
            if looked_at.is_multiple_of(ASKED_EVERY) && !keep_going() {
                self.known = Known::default();
                return Passing::Unknown;
            }
            if self.allows(node) {
                passed += usize::from(room.take(self.global(node)));
            } else if remembers {
                self.known.failed.insert(node);
            }
        }
        let last = ranked[..looked_at].last().filter(|_| remembers).map(Candidate::score);
        self.known.above = last.map(|last| (last, ranked.partition_point(|known| scores_more(known, last))));
        if passed == wanted {
            Passing::Enough { failed: looked_at - passed }
        } else {
            Passing::TooFew { passed }
        }
    }

    /// Leaves what is allowed, up to the `wanted`th that the caps have room for and those that score as it does.
    /// What they have no room for stays: scored exactly, it may come first. Says whether that is all that is allowed.
    /// At least one is `wanted`. `keep_going` is asked as before; told to stop, it leaves fewer.
    fn retain_passing(
        &self,
        found: &mut Vec<Candidate>,
        wanted: usize,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> bool {
        let known_above = self.known.above(found);
        let is_known = |candidate: &Candidate| known_above.is_some_and(|score| scores_more(candidate, score));
        self.prefetch(found.iter().filter(|candidate| !is_known(candidate)));
        found.retain(|candidate| match is_known(candidate) {
            true => !self.known.failed.contains(&candidate.node()),
            false => self.allows(candidate.node()),
        });
        let Some(last) = self.last_passing(found, wanted, keep_going) else { return true };
        let allowed = found.len();
        // What scores no number, as some do in a damaged file, is not less than anything.
        found.retain(|candidate| candidate.score().partial_cmp(&last) != Some(Ordering::Less));
        found.len() == allowed
    }

    /// The score of the `wanted`th of `allowed` that the caps have room for, if there are so many; or of the last that was
    /// looked at.
    fn last_passing(
        &self,
        allowed: &mut [Candidate],
        wanted: usize,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Option<f32> {
        let last = if self.rules.caps.is_empty() {
            // No need for an order of all of them, which would take longer than everything else here.
            let at = (wanted - 1 < allowed.len()).then_some(wanted - 1)?;
            *allowed.select_nth_unstable(at).1
        } else {
            allowed.sort_unstable();
            let (mut room, mut passed) = (Room::new(self.rules), 0);
            *allowed.iter().zip(1usize..).find_map(|(candidate, looked_at)| {
                passed += usize::from(room.take(self.global(candidate.node())));
                let is_last = passed == wanted || looked_at.is_multiple_of(ASKED_EVERY) && !keep_going();
                is_last.then_some(candidate)
            })?
        };
        Some(last.score())
    }
}
