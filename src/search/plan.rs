//! Which of the ways to find candidates a search uses: every choice, and every constant of these choices.
//!
//! A plan is one row of [`PLANS`], and one arm of the exploration in `explore/`. These are the choices, in this order:
//!
//! | the segment and the request | plan |
//! |---|---|
//! | the request forces a plan | that plan, in the base segment only |
//! | effort is exact, or a segment without codes must be scanned | exact scan; of the matches only, if there is a filter |
//! | no filter, `ef_search` below [`Plan::scanned_from`] | graph |
//! | no filter, otherwise or without a graph | code scan, or exact scan without codes |
//! | filter: few matches, a large `ef_search`, or no graph | match scan |
//! | filter: otherwise, with blocks | block scan, then a short traversal from what it found |
//! | filter: otherwise, at least 1 in [`TRAVERSED_SHARE`] nodes matches | graph, whose candidates are filtered |
//! | filter: otherwise | filtered graph |
//!
//! A plan that finds too few candidates ends as a scan of everything that matches ([`SegmentPlan::last`]): an answer is
//! short only if there are no more.

use crate::graph;
use crate::index::Index;

/// How candidates are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A traversal of the graph, over codes if there are any.
    Graph,
    /// Scores every code, and the best again.
    CodeScan,
    /// Scores every embedding.
    ExactScan,
    /// A traversal of the graph that scores only nodes that match a filter.
    FilteredGraph,
    /// Scores every node that matches a filter.
    MatchScan,
    /// Scores matching nodes in the blocks where good ones are likely, then follows edges from the best of them.
    BlockScan,
}

/// What is known of a plan wherever it is used.
struct PlanSpec {
    plan: Plan,
    /// The name in answers, reports and requests.
    name: &'static str,
    /// Whether it needs a filter.
    needs_filter: bool,
    /// Whether it scores every node that may be a hit.
    scores_all: bool,
}

/// In the order of [`Plan`].
const PLANS: [PlanSpec; 6] = [
    PlanSpec { plan: Plan::Graph, name: "graph", needs_filter: false, scores_all: false },
    PlanSpec { plan: Plan::CodeScan, name: "code_scan", needs_filter: false, scores_all: true },
    PlanSpec { plan: Plan::ExactScan, name: "exact_scan", needs_filter: false, scores_all: true },
    PlanSpec { plan: Plan::FilteredGraph, name: "filtered_graph", needs_filter: true, scores_all: false },
    PlanSpec { plan: Plan::MatchScan, name: "match_scan", needs_filter: true, scores_all: true },
    PlanSpec { plan: Plan::BlockScan, name: "block_scan", needs_filter: true, scores_all: false },
];

/// Bytes of codes that are read one after another in the time of one candidate of a traversal, whose reads are scattered.
/// Measured at 20,102 x 128 and 38,576 x 64, where scan and traversal meet at 320 and 400 candidates.
const BYTES_PER_CANDIDATE: usize = 7 << 10;

/// All matches are scanned if there are at most this many, or at most 1 in [`SCANNED_SHARE`] nodes matches: a block scan
/// would read most of their blocks anyway.
const SCANNED_MATCHES: usize = 4096;
const SCANNED_SHARE: usize = 100;
/// The same in an index without blocks, where the alternatives are traversals.
const SCANNED_WITHOUT_BLOCKS: usize = 20_000;
/// All matches are scanned if there are at most this many per rescored candidate: any other plan would score most of them.
const SCANNED_PER_RESCORED: usize = 2;
/// If at least 1 in this many nodes matches, a traversal that ignores the filter meets enough matches.
const TRAVERSED_SHARE: usize = 4;

/// Starts that a block scan gives to a traversal for several interests: it sees the regions of all interests, whereas a
/// traversal would go for the first one that it meets. Measured with four users as interests among one million videos:
/// recall@100 0.96 with the effort that reaches 0.83 without.
const SCOUTED_STARTS: usize = 100;
/// A traversal is not resumed for fewer than `ef_search` / 16 more expansions: resuming sorts everything that was scored
/// again, which takes half of the time of the traversal.
const NOT_WORTH_EXPANDING: usize = 16;
/// A resumed traversal expands 1/16 more than it needs, so that it is rarely resumed for the last few.
const EXPANSION_RESERVE: usize = 16;
/// A filtered traversal is given up for a scan when it would have to expand more than this many times `ef_search`. Such a
/// traversal reads scattered memory for a few matches.
const WORTH_EXPANDING: usize = 4;
/// One resumption makes a traversal at most this many times as wide: the estimate from few passing nodes is unreliable.
const MAX_WIDENING: usize = 8;
/// 1 in this many of the nodes that a traversal would expand is expanded after a block scan.
const EXPANDED_SHARE: usize = 4;

/// The first scan keeps one more candidate per 4 where rules may remove many: a second scan costs far more.
const KEPT_MORE_SHARE: usize = 4;
/// A repeated scan keeps between 2 and 16 times as many candidates as the one before: at least 2, so that few repetitions
/// suffice, at most 16, since the estimate from few passing nodes is unreliable.
const MIN_SCAN_GROWTH: usize = 2;
const MAX_SCAN_GROWTH: usize = 16;
/// A block scan that would have to keep more than 1 in this many matches becomes a scan of all matches: it would read most
/// blocks.
const KEPT_SHARE_OF_BLOCK_SCAN: usize = 8;

/// A traversal under score terms is widened until at most this share of the best candidates scores less by embeddings than its whole
/// candidate list. With one million videos and k = 100, this keeps recall within 0.007 of a search without terms where terms decide up
/// to half of the best.
const MOST_BEYOND: f32 = 0.06;
/// How much wider a traversal becomes at once: by the share beyond it over [`MOST_BEYOND`] to this power, within these bounds.
const WIDENING_POWER: f32 = 0.7;
const WIDENING: std::ops::RangeInclusive<f32> = 1.25..=3.0;
/// The most, as a multiple of the width without terms.
const MOST_WIDENED: usize = 16;

/// One more candidate is rescored per 8 that the rules removed beyond the rescoring margin: further down, scores are closer,
/// and codes misorder more of them. Measured with the best 1,000 to 10,000 excluded.
const FAILED_PER_RESCORED: usize = 8;

/// Miss budget of a block scan, as a fraction of the miss rate expected of a traversal with the same `ef_search`: it
/// misses more than its own estimate where hits are hard to find. Scaled up when the expected rate exceeds [`FEW_MISSED`],
/// since the traversal that follows finds most of what was missed where hits are easy to find; at most [`MOST_MISSED`],
/// since elsewhere it finds none of it.
const CAUTION: f32 = 0.35;
const FEW_MISSED: f32 = 0.065;
const MOST_MISSED: f32 = 0.35;

impl Plan {
    fn spec(self) -> &'static PlanSpec {
        &PLANS[self as usize]
    }

    /// The name in answers, reports and requests.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Whether the plan needs a filter.
    pub fn needs_filter(self) -> bool {
        self.spec().needs_filter
    }

    /// Whether the plan scores every node that may be a hit, whatever the effort.
    pub fn scores_all(self) -> bool {
        self.spec().scores_all
    }

    /// The least `ef_search` with which this many bytes of codes are scanned instead of traversing the graph.
    pub fn scanned_from(code_bytes: usize) -> usize {
        code_bytes / BYTES_PER_CANDIDATE
    }

    /// The plan of a plain search: `forced`, or the faster one for this effort. Without codes it is always a traversal, and
    /// without a graph always a scan.
    pub(super) fn of_plain(forced: Option<Plan>, index: &Index, ef_search: usize) -> Plan {
        match index.codes() {
            None if index.has_graph() => Plan::Graph,
            None => Plan::ExactScan,
            Some(_) if !index.has_graph() => Plan::CodeScan,
            Some(codes) => forced.unwrap_or_else(|| {
                let is_scanned = ef_search >= Self::scanned_from(codes.rows.len());
                if is_scanned { Plan::CodeScan } else { Plan::Graph }
            }),
        }
    }
}

impl std::str::FromStr for Plan {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = PLANS.iter().find(|spec| spec.name == word);
        let known = PLANS.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
        found.map(|spec| spec.plan).ok_or_else(|| format!("unknown plan {word:?}: expected one of {known}"))
    }
}

/// What is wanted of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    /// How many of its nodes match the filter; `None` without one.
    pub(super) matches: Option<usize>,
    /// How many candidates that pass the rules are wanted.
    pub(super) count: usize,
    /// k of the request. `count` is larger where pages or rules need more.
    pub(super) k: usize,
    /// `None` for exact effort.
    pub(super) ef_search: Option<usize>,
    /// Whether everything must be scored, because a traversal found too few.
    pub(super) is_scan: bool,
    /// The longest candidate list that score terms may lead to, if it is longer than `ef_search`.
    pub(super) widest: usize,
    /// The plan that the request forces on this segment.
    pub(super) forced: Option<Plan>,
}

/// How one segment is explored: the plan, how wide it is, and when another one takes over.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentPlan {
    /// The first plan.
    pub(super) first: Plan,
    /// The plan after one that found too few or would take too long.
    pub(super) last: Plan,
    /// Whether codes are scored, and not embeddings.
    pub(super) uses_codes: bool,
    /// How many candidates that pass the rules are wanted.
    pub(super) count: usize,
    /// How many candidates are rescored to get those right.
    pub(super) rescored: usize,
    /// Nodes to expand; 0 for exact effort.
    pub(super) ef_search: usize,
    /// The share of the best that a block scan may miss.
    pub(super) missed: f32,
    /// Nodes of the segment.
    pub(super) rows: usize,
    /// How many of them match the filter; all without one.
    pub(super) matching: usize,
    has_filter: bool,
    widest: usize,
    is_forced: bool,
    /// With this `ef_search` or more, a scan is faster than a traversal.
    scanned_from: usize,
}

impl SegmentPlan {
    /// Chooses how to explore `index` for `goal`.
    pub(super) fn of(index: &Index, goal: &Goal) -> Self {
        let rows = index.len();
        let codes = index.codes().map(|codes| codes.rows.len());
        let is_exact = goal.ef_search.is_none();
        let forced = match (is_exact, goal.is_scan, codes) {
            (false, false, _) => goal.forced,
            (false, true, Some(_)) => Some(Plan::CodeScan),
            _ => Some(Plan::ExactScan),
        };
        let ef_search = goal.ef_search.map_or(0, |ef_search| ef_search + goal.count.saturating_sub(goal.k));
        let scan = if codes.is_some() { Plan::CodeScan } else { Plan::ExactScan };
        let last = if goal.matches.is_some() { Plan::MatchScan } else { scan };
        let mut plan = Self {
            first: last,
            last,
            uses_codes: codes.is_some() && !is_exact,
            count: goal.count,
            rescored: graph::rescored(goal.count),
            ef_search,
            missed: may_be_missed(goal.k, ef_search),
            rows,
            matching: goal.matches.unwrap_or(rows),
            has_filter: goal.matches.is_some(),
            widest: goal.widest,
            is_forced: forced.is_some(),
            scanned_from: Plan::scanned_from(codes.unwrap_or(rows * index.dim() * size_of::<f32>())),
        };
        plan.first = match forced {
            // A code scan under a filter scores the codes of the matches.
            Some(Plan::CodeScan) if plan.has_filter => Plan::MatchScan,
            Some(Plan::Graph | Plan::FilteredGraph) if !index.has_graph() => last,
            Some(forced) => forced,
            None if !index.has_graph() || plan.is_better_scanned(ef_search) => last,
            None if !plan.has_filter => Plan::Graph,
            None => plan.of_filter(plan.uses_codes && index.blocks().is_some()),
        };
        plan
    }

    /// The plan for a filter and an effort for which a scan is not faster in any case.
    fn of_filter(&self, has_blocks: bool) -> Plan {
        let few = match has_blocks {
            true => SCANNED_MATCHES.max(self.rows / SCANNED_SHARE),
            false => SCANNED_WITHOUT_BLOCKS,
        };
        if self.matching <= few.max(SCANNED_PER_RESCORED * self.rescored) {
            Plan::MatchScan
        } else if has_blocks {
            Plan::BlockScan
        } else if self.matching >= self.rows / TRAVERSED_SHARE {
            Plan::Graph
        } else {
            Plan::FilteredGraph
        }
    }

    /// Whether reading everything is faster than a traversal with this effort, whose reads are scattered.
    fn is_better_scanned(&self, ef_search: usize) -> bool {
        ef_search >= self.scanned_from
    }

    /// How many candidates the first scan keeps. `may_fail_many`: whether rules may remove many of them.
    pub(super) fn kept_first(&self, may_fail_many: bool) -> usize {
        if may_fail_many { self.rescored + self.rescored / KEPT_MORE_SHARE } else { self.rescored }
    }

    /// How many candidates are rescored where the rules removed `failed` better ones.
    pub(super) fn rescored_after(&self, failed: usize) -> usize {
        self.rescored + failed.saturating_sub(self.rescored) / FAILED_PER_RESCORED
    }

    /// How many starts a block scan finds for a traversal for several interests.
    pub(super) fn scouted(&self) -> usize {
        SCOUTED_STARTS.max(self.count).min(self.matching.max(1))
    }

    /// The `ef_search` that a traversal needs next, if of its `met` candidates only `passed` pass the rules and `wanted`
    /// should: in proportion, within bounds. `is_first`: the rules were not taken into account yet.
    pub(super) fn widened(
        &self,
        ef_search: usize,
        met: usize,
        passed: usize,
        wanted: usize,
        is_first: bool,
    ) -> usize {
        // As many more as failed, at first. If that did not suffice, or more fail the further it goes, twice as many.
        let least = if is_first { self.ef_search + met - passed } else { 2 * ef_search };
        (met * wanted / passed.max(1)).clamp(least, (MAX_WIDENING * ef_search).max(least))
    }

    /// The `ef_search` that a traversal needs for score terms, if this share of the best candidates is beyond its list; `None` if it may
    /// end.
    pub(super) fn widened_for_terms(&self, plan: Plan, ef_search: usize, beyond: f32) -> Option<usize> {
        let most = self.ef_search.saturating_mul(MOST_WIDENED).min(self.widest);
        if plan == Plan::FilteredGraph || beyond <= MOST_BEYOND || ef_search >= most {
            return None;
        }
        let factor = (beyond / MOST_BEYOND).powf(WIDENING_POWER).clamp(*WIDENING.start(), *WIDENING.end());
        Some(((ef_search as f32 * factor) as usize).min(most))
    }

    /// Whether a traversal that has expanded `ef_search` nodes should go on to expand `needed`.
    pub(super) fn is_worth_expanding(&self, ef_search: usize, needed: usize) -> bool {
        needed > ef_search + ef_search / NOT_WORTH_EXPANDING
    }

    /// Whether a traversal should be given up, rather than expand `needed` nodes.
    pub(super) fn gives_up(&self, plan: Plan, needed: usize) -> bool {
        let is_expensive =
            self.has_filter && needed > WORTH_EXPANDING * self.ef_search || self.is_better_scanned(needed);
        plan == Plan::FilteredGraph || is_expensive && !(self.is_forced && self.first == plan)
    }

    /// The `ef_search` with which a traversal that needs `needed` expansions is resumed.
    pub(super) fn resumed(&self, needed: usize) -> usize {
        needed + needed / EXPANSION_RESERVE
    }

    /// How many nodes are expanded after a block scan.
    pub(super) fn expanded_after_blocks(&self) -> usize {
        self.ef_search / EXPANDED_SHARE
    }

    /// How many candidates the next scan keeps, after one that kept `keep`, found `found` and of which `passed` passed.
    pub(super) fn kept_next(&self, keep: usize, found: usize, passed: usize) -> usize {
        (found * self.rescored / passed.max(1)).clamp(MIN_SCAN_GROWTH * keep, MAX_SCAN_GROWTH * keep)
    }

    /// The plan of the next scan, after one by `plan` that kept `keep` and found `found`, if it is to keep `next`.
    pub(super) fn scan_next(&self, plan: Plan, keep: usize, found: usize, next: usize) -> Plan {
        let is_used_up = found < keep || next > self.matching / KEPT_SHARE_OF_BLOCK_SCAN;
        if plan == Plan::BlockScan && is_used_up { Plan::MatchScan } else { plan }
    }
}

/// The bytes of codes, or of embeddings without codes, that are read one after another in the time that one query takes to
/// explore `index` for `count` hits; `ef_search` is `None` for exact effort. Matches of a filter are not known yet: they are
/// taken to be many.
pub fn explored_bytes(
    index: &Index,
    k: usize,
    count: usize,
    ef_search: Option<usize>,
    forced: Option<Plan>,
    has_filter: bool,
) -> usize {
    let matches = has_filter.then_some(index.len());
    let forced = forced.filter(|plan| has_filter || !plan.needs_filter());
    let plan =
        SegmentPlan::of(index, &Goal { matches, count, k, ef_search, is_scan: false, widest: 0, forced });
    let scanned = match index.codes().filter(|_| plan.uses_codes) {
        Some(codes) => codes.rows.len(),
        None => plan.rows * index.dim() * size_of::<f32>(),
    };
    if plan.first.scores_all() { scanned } else { scanned.min(plan.ef_search * BYTES_PER_CANDIDATE) }
}

/// How many of the best a block scan is for that keeps `keep`.
///
/// The inverse of [`graph::rescored`] for k ≥ 40, up to rounding. For a smaller k the rescoring margin is 20, and the scan is for more than
/// k (for k = 10 it keeps 30 and is for the best 20): it goes on a little longer and misses fewer.
pub(super) fn best_of_block_scan(keep: usize) -> usize {
    (keep * 2 / 3).max(1)
}

/// The share of the best `k` that a block scan may miss.
fn may_be_missed(k: usize, ef_search: usize) -> f32 {
    let expected = expected_to_miss(k, ef_search);
    (CAUTION * expected * (expected / FEW_MISSED).max(1.0)).min(MOST_MISSED)
}

/// The approximate share of the best `k` that a traversal with this effort misses: measured on one million synthetic
/// videos and their users.
fn expected_to_miss(k: usize, ef_search: usize) -> f32 {
    ((8.0 + k as f32 / 20.0) / ef_search.max(1) as f32).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_has_its_row_and_is_read_by_its_name() {
        for (at, spec) in PLANS.iter().enumerate() {
            assert_eq!(spec.plan as usize, at, "{}", spec.name);
            assert_eq!(spec.name.parse(), Ok(spec.plan));
        }
        assert!("scan".parse::<Plan>().is_err());
    }

    #[test]
    fn a_block_scan_is_for_the_wanted_from_forty_on_and_for_more_below() {
        assert!((40..1000).all(|k| k - best_of_block_scan(graph::rescored(k)) <= 1));
        assert!((1..40).all(|k| best_of_block_scan(graph::rescored(k)) >= k));
    }
}
