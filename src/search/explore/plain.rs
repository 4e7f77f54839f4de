//! The fast path of a plain search: one query, one whole segment, and nothing to sieve.
//!
//! It explores, rescores in place and sorts, without any step for rules: such a search takes 30 to 130 µs.

use super::super::hit::{Hit, Interrupted};
use super::super::order::sort_candidates;
use super::super::params::{Effort, SearchParams};
use super::super::plan::Plan;
use super::super::row_scorer::RowScorer;
use super::super::rules::Segment;
use super::super::scorers::prefetch_ids;
use super::super::stages::{Stage, add_run};
use super::super::top_k::TopK;
use super::super::workspace::Workspace;
use crate::base::id::{NodeId, VideoId};
use crate::base::interrupt::Interrupt;
use crate::graph::{self, Candidate, CodeScorer, Corrections, Cost, Scan, Score, Scratch, Width};
use crate::index::Index;
use crate::quantize::RowCodes;

/// Rows scored between two checks of the interrupt, in an exact scan.
const SCAN_BLOCK: usize = 1024;

/// The result of a plain search.
pub(in super::super) struct Plain {
    /// At most k, best first; equal scores by video id.
    pub(in super::super) hits: Vec<Hit>,
    pub(in super::super) plan: Plan,
    pub(in super::super) cost: Cost,
    /// `None` if nothing was rescored, or the search is not timed.
    pub(in super::super) rescoring: Option<Stage>,
}

/// The best `k` nodes of `segment` for `query`, which must be prepared.
pub(in super::super) fn explore_plain(
    segment: &Segment<'_>,
    query: &[f32],
    k: usize,
    params: &SearchParams,
    workspace: &mut Workspace,
    interrupt: &mut Interrupt<'_>,
) -> Plain {
    let Segment { index, video_ids, .. } = *segment;
    let scorer = RowScorer::new(index, query);
    match params.effort() {
        Effort::Exact => scan(video_ids, &scorer, k, interrupt),
        // Too few rows for a graph, and no codes.
        Effort::EfSearch(_) if index.codes().is_none() && !index.has_graph() => {
            scan(video_ids, &scorer, k, interrupt)
        }
        Effort::EfSearch(ef_search) => {
            let wanted = PlainWanted { width: Width { ef_search, at_least: k }, keep: k };
            let (plan, mut cost) =
                collect(index, query, &scorer, params.plan(), wanted, workspace, interrupt);
            let scratch = &mut workspace.scratch;
            prefetch_ids(video_ids, &scratch.found);
            let mut rescoring = None;
            if index.codes().is_some() {
                let began = params.clock();
                scratch.rescore(&scorer, &mut cost);
                add_run(&mut rescoring, began);
            }
            Plain { hits: best(video_ids, &mut scratch.found, k), plan, cost, rescoring }
        }
    }
}

/// The hits of [`explore_plain`] for each k of `ks`, ascending, mostly for the price of one traversal.
///
/// # Errors
/// [`Interrupted`].
pub(in super::super) fn explore_plain_each(
    index: &Index,
    query: &[f32],
    ks: &[usize],
    ef_search: usize,
    workspace: &mut Workspace,
    interrupt: &mut Interrupt<'_>,
) -> Result<Vec<Vec<Hit>>, Interrupted> {
    let scorer = &RowScorer::new(index, query);
    let video_ids = index.video_ids();
    let largest = ks.last().copied().unwrap_or_default();
    let mut answers: Vec<Vec<Hit>> = Vec::with_capacity(ks.len());
    while let [smallest, larger @ ..] = &ks[answers.len()..] {
        let wanted = PlainWanted { width: Width { ef_search, at_least: *smallest }, keep: largest };
        let (plan, _) = collect(index, query, scorer, None, wanted, workspace, interrupt);
        if interrupt.has_stopped() {
            return Err(Interrupted);
        }
        let Scratch { found, candidates, .. } = &mut workspace.scratch;
        // If the candidate list had to be lengthened for the smallest k, a search for a larger k may expand more.
        let widened = plan == Plan::Graph && candidates.capacity() > ef_search;
        let met = larger.iter().take_while(|k| !widened && **k <= found.len()).count();
        let answered = &ks[answers.len()..=answers.len() + met];
        if index.codes().is_none() {
            answers.extend(answered.iter().map(|k| best(video_ids, found, *k)));
            continue;
        }
        // The candidates that a search for a smaller k rescores are the first of these.
        found.sort_unstable();
        let nodes: Vec<u32> = found.iter().map(Candidate::node).collect();
        let mut scores = vec![0f32; nodes.len()];
        scorer.score_rows(&nodes, &mut scores);
        let rescored = |k: usize| {
            let scored = nodes.iter().zip(&scores).take(graph::rescored(k));
            scored.map(|(node, score)| Candidate::new(*node, *score)).collect::<Vec<_>>()
        };
        answers.extend(answered.iter().map(|k| best(video_ids, &mut rescored(*k), *k)));
    }
    Ok(answers)
}

/// How wide a plain search explores, and for how many hits it keeps candidates.
#[derive(Clone, Copy)]
struct PlainWanted {
    width: Width,
    keep: usize,
}

/// Leaves the candidates for the best `wanted.keep` hits in the workspace, in no particular order, scored by codes if the
/// index has any; then with the rescoring margin.
fn collect(
    index: &Index,
    query: &[f32],
    scorer: &RowScorer<'_>,
    forced: Option<Plan>,
    PlainWanted { width, keep }: PlainWanted,
    workspace: &mut Workspace,
    interrupt: &mut Interrupt<'_>,
) -> (Plan, Cost) {
    let Workspace { scratch, query_codes, .. } = workspace;
    let codes = index.codes();
    let plan = Plan::of_plain(forced, index, width.ef_search);
    let Some(row_codes @ RowCodes { rows: codes, quantizer, .. }) = codes else {
        if plan == Plan::ExactScan {
            return (plan, graph::scan_codes(scorer, keep, scratch, interrupt));
        }
        let cost = graph::traverse(&index.graph(), query, scorer, width, scratch, interrupt);
        scratch.collect(keep);
        return (plan, cost);
    };
    quantizer.encode_query(query, query_codes);
    let corrections = Corrections::of(&row_codes, query_codes.affine()[0], || scorer.clone());
    let by_codes = CodeScorer::new(query_codes.as_slice(), codes).corrected(corrections.as_ref());
    let keep = graph::rescored(keep);
    let cost = if plan == Plan::CodeScan {
        graph::scan_codes(&by_codes, keep, scratch, interrupt)
    } else {
        let cost = graph::traverse(&index.graph(), query, &by_codes, width, scratch, interrupt);
        scratch.collect(keep);
        cost
    };
    (plan, cost)
}

/// The best `k` of the candidates.
fn best(video_ids: &[VideoId], found: &mut [Candidate], k: usize) -> Vec<Hit> {
    sort_candidates(found, video_ids);
    let hit = |hit: &Candidate| Hit { node: NodeId(hit.node()), score: hit.score(), interest: 0 };
    found.iter().take(k).map(hit).collect()
}

/// The best `k` of all rows.
fn scan(video_ids: &[VideoId], scorer: &RowScorer<'_>, k: usize, interrupt: &mut Interrupt<'_>) -> Plain {
    let mut cost = Cost::default();
    let mut best = TopK::new(k, video_ids);
    let mut scores = [0f32; SCAN_BLOCK];
    for first in (0..scorer.rows()).step_by(SCAN_BLOCK) {
        if interrupt.should_stop() {
            break;
        }
        let block = &mut scores[..SCAN_BLOCK.min(scorer.rows() - first)];
        scorer.score_scan(first, block);
        cost.distances += block.len() as u64;
        for (offset, score) in block.iter().enumerate() {
            if *score >= best.threshold() {
                best.push(NodeId((first + offset) as u32), *score);
            }
        }
    }
    Plain { hits: best.into_sorted(), plan: Plan::ExactScan, cost, rescoring: None }
}
