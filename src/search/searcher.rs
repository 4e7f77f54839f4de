//! One query against one index: a traversal of the graph, a scan of its codes, or an exact scan.

use std::borrow::Cow;

use parking_lot::Mutex;

use super::loss::Loss;
use super::params::{Effort, Plan, SearchParams};
use super::top_k::TopK;
use crate::base::element::Element;
use crate::base::id::{NodeId, VideoId};
use crate::base::metric::Metric;
use crate::dataset::Rows;
use crate::graph::{self, BeamStats, Candidate, CodeScorer, Outcome, Scan, Score, Scorer, Scratch};
use crate::index::Index;
use crate::kernel::{Kernels, prefetch};
use crate::quantize::{QueryCodes, ResidualTable};
use crate::with_rows;

/// Rows scored between two looks at whether to go on, in an exact scan.
const SCAN_BLOCK: usize = 1024;

/// One node found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The node.
    pub node: NodeId,
    /// Larger is better, for every metric.
    pub score: f32,
}

/// What a search found and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// At most k, best first; equal scores by video id.
    pub hits: Vec<Hit>,
    /// The cost.
    pub stats: BeamStats,
    /// How they were found.
    pub plan: Plan,
    /// Whether it was told to stop before it was done: then they are the best so far.
    pub is_interrupted: bool,
    /// How far the node came that was watched, if one was and it is not among the hits.
    pub loss: Option<Loss>,
}

/// Searches were told to stop before they were done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the search was interrupted")]
pub struct Interrupted;

#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) scratch: Scratch,
    pub(super) query_codes: QueryCodes,
    pub(super) residual_tables: Vec<ResidualTable>,
}

/// Searches indexes; keeps the memory that searches need, so that they do not allocate it anew.
///
/// Any number of threads may search at once.
#[derive(Debug, Default)]
pub struct Searcher {
    pool: Mutex<Vec<Workspace>>,
}

impl Searcher {
    /// The best `params.k()` nodes of `index` for `query`, `[dim]` finite.
    ///
    /// `keep_going` is asked once per hop or block of the scan; when it says no, what was found until then is given.
    ///
    /// # Panics
    /// If the dimension of the query is not that of the index.
    pub fn search(
        &self,
        index: &Index,
        query: &[f32],
        params: &SearchParams,
        keep_going: impl FnMut() -> bool,
    ) -> Found {
        self.search_watching(index, query, params, None, keep_going)
    }

    /// The same, with an eye on one node.
    ///
    /// # Panics
    /// As [`Self::search`].
    pub fn search_watching(
        &self,
        index: &Index,
        query: &[f32],
        params: &SearchParams,
        watched: Option<NodeId>,
        mut keep_going: impl FnMut() -> bool,
    ) -> Found {
        let query = &prepared(index, query);
        with_rows!(index.vectors(), rows => {
            let scorer = scorer(index.metadata().metric, query, rows);
            match params.effort() {
                Effort::Exact => scan(index, &scorer, params.k(), &mut keep_going),
                Effort::EfSearch(ef_search) => self.with_workspace(|workspace| {
                    workspace.scratch.watch(watched);
                    let mut found = find(index, query, &scorer, params, ef_search, workspace, &mut keep_going);
                    let is_lost = |node: &NodeId| found.hits.iter().all(|hit| hit.node != *node);
                    found.loss = watched.filter(is_lost).map(|node| workspace.scratch.stage(node).into());
                    found
                }),
            }
        })
    }

    /// The hits that [`Self::search`] gives for each k of `ks`, ascending, at `ef_search`, mostly at the price
    /// of one traversal: k only decides how many candidates are scored again.
    ///
    /// `keep_going` is asked once per hop.
    ///
    /// # Errors
    /// [`Interrupted`] when `keep_going` says no.
    ///
    /// # Panics
    /// If the dimension of the query is not that of the index, or `ks` do not ascend.
    pub fn search_each(
        &self,
        index: &Index,
        query: &[f32],
        ks: &[usize],
        ef_search: usize,
        keep_going: impl FnMut() -> bool,
    ) -> Result<Vec<Vec<Hit>>, Interrupted> {
        assert!(ks.is_sorted(), "{ks:?} do not ascend");
        let query = &prepared(index, query);
        with_rows!(index.vectors(), rows => {
            let scorer = scorer(index.metadata().metric, query, rows);
            self.with_workspace(|workspace| {
                find_each(index, query, &scorer, ks, ef_search, workspace, keep_going)
            })
        })
    }

    pub(super) fn with_workspace<R>(&self, work: impl FnOnce(&mut Workspace) -> R) -> R {
        let mut workspace = self.pool.lock().pop().unwrap_or_default();
        let result = work(&mut workspace);
        self.pool.lock().push(workspace);
        result
    }
}

/// The query as rows are compared with it: of norm 1 under cosine.
pub(super) fn prepared<'q>(index: &Index, query: &'q [f32]) -> Cow<'q, [f32]> {
    assert_eq!(query.len(), index.dim(), "the query has another dimension than the index");
    if index.metadata().metric == Metric::Cosine {
        Cow::Owned(normalize(query))
    } else {
        Cow::Borrowed(query)
    }
}

pub(super) fn scorer<'a, T: Element>(metric: Metric, query: &'a [f32], rows: Rows<'a, T>) -> Scorer<'a, T> {
    Scorer::new(metric, query, rows.as_contiguous().expect("the rows of an index are contiguous"))
}

/// A query of norm 1; one that is all zeros stays as it is and scores 0 everywhere.
fn normalize(query: &[f32]) -> Vec<f32> {
    let largest = query.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return query.to_vec();
    }
    let scaled: Vec<f32> = query.iter().map(|value| value / largest).collect();
    let norm = Kernels::get().norm_squared(&scaled).sqrt();
    scaled.into_iter().map(|value| value / norm).collect()
}

/// What a traversal or a scan of the codes finds, the best scored in full precision.
fn find<T: Element>(
    index: &Index,
    query: &[f32],
    scorer: &Scorer<'_, T>,
    params: &SearchParams,
    ef_search: usize,
    workspace: &mut Workspace,
    keep_going: impl FnMut() -> bool,
) -> Found {
    let k = params.k();
    let (plan, Outcome { mut stats, is_interrupted }) =
        collect(index, query, scorer, params.plan(), (ef_search, k, k), workspace, keep_going);
    let scratch = &mut workspace.scratch;
    prefetch_ids(index.video_ids(), &scratch.found);
    if index.codes().is_some() {
        scratch.rescore(scorer, &mut stats);
    }
    Found { hits: best(index, &mut scratch.found, k), stats, plan, is_interrupted, loss: None }
}

/// As [`find`], for several k at once.
fn find_each<T: Element>(
    index: &Index,
    query: &[f32],
    scorer: &Scorer<'_, T>,
    ks: &[usize],
    ef_search: usize,
    workspace: &mut Workspace,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Vec<Vec<Hit>>, Interrupted> {
    let largest = ks.last().copied().unwrap_or_default();
    let mut answers: Vec<Vec<Hit>> = Vec::with_capacity(ks.len());
    while let [smallest, larger @ ..] = &ks[answers.len()..] {
        let wanted = (ef_search, *smallest, largest);
        let (plan, outcome) = collect(index, query, scorer, None, wanted, workspace, &mut keep_going);
        if outcome.is_interrupted {
            return Err(Interrupted);
        }
        let Scratch { found, candidates, .. } = &mut workspace.scratch;
        // Where so little effort meets less than a larger k, a search for that expands more.
        let widened = plan == Plan::Graph && candidates.capacity() > ef_search;
        let met = larger.iter().take_while(|k| !widened && **k <= found.len()).count();
        let answered = &ks[answers.len()..=answers.len() + met];
        if index.codes().is_none() {
            answers.extend(answered.iter().map(|k| best(index, found, *k)));
            continue;
        }
        // Those that a search for a smaller k scores again are the first of them.
        found.sort_unstable();
        let nodes: Vec<u32> = found.iter().map(Candidate::node).collect();
        let mut scores = vec![0f32; nodes.len()];
        scorer.score_rows(&nodes, &mut scores);
        let rescored = |k: usize| {
            let scored = nodes.iter().zip(&scores).take(graph::rescored(k));
            scored.map(|(node, score)| Candidate::new(*node, *score)).collect::<Vec<_>>()
        };
        answers.extend(answered.iter().map(|k| best(index, &mut rescored(*k), *k)));
    }
    Ok(answers)
}

/// Searches for the best `k` and leaves what may be the best `keep` in the workspace, in no particular order,
/// scored by codes where there are any.
fn collect<T: Element>(
    index: &Index,
    query: &[f32],
    scorer: &Scorer<'_, T>,
    plan: Option<Plan>,
    (ef_search, k, keep): (usize, usize, usize),
    workspace: &mut Workspace,
    keep_going: impl FnMut() -> bool,
) -> (Plan, Outcome) {
    let Workspace { scratch, query_codes, .. } = workspace;
    let Some((codes, quantizer)) = index.codes() else {
        let outcome = graph::traverse(&index.graph(), scorer, (ef_search, k), scratch, keep_going);
        scratch.collect(keep);
        return (Plan::Graph, outcome);
    };
    quantizer.encode_query(query, query_codes);
    let coarse = CodeScorer::new(query_codes.as_slice(), codes);
    let plan = plan.unwrap_or_else(|| Plan::for_effort(codes.len(), ef_search));
    let keep = graph::rescored(keep);
    let outcome = if plan == Plan::CodeScan {
        graph::scan_codes(&coarse, keep, scratch, keep_going)
    } else {
        let outcome = graph::traverse(&index.graph(), &coarse, (ef_search, k), scratch, keep_going);
        scratch.collect(keep);
        outcome
    };
    (plan, outcome)
}

/// Fetches the ids of what was found, which lie far apart: all at once instead of one after another when they are
/// needed.
pub(super) fn prefetch_ids<'c>(ids: &[VideoId], found: impl IntoIterator<Item = &'c Candidate>) {
    found.into_iter().for_each(|candidate| prefetch(std::slice::from_ref(&ids[candidate.node() as usize])));
}

/// The best `k` of what was found, in order.
pub(super) fn best(index: &Index, found: &mut [Candidate], k: usize) -> Vec<Hit> {
    found.sort_unstable();
    let ids = index.video_ids();
    for equal in found.chunk_by_mut(|a, b| a.score().total_cmp(&b.score()).is_eq()) {
        if equal.len() > 1 {
            equal.sort_unstable_by_key(|hit| ids[hit.node() as usize]);
        }
    }
    found.iter().take(k).map(|hit| Hit { node: NodeId(hit.node()), score: hit.score() }).collect()
}

fn scan<T: Element>(
    index: &Index,
    scorer: &Scorer<'_, T>,
    k: usize,
    keep_going: &mut impl FnMut() -> bool,
) -> Found {
    let mut stats = BeamStats::default();
    let mut is_interrupted = false;
    let mut best = TopK::new(k, index.video_ids());
    let mut scores = [0f32; SCAN_BLOCK];
    for first in (0..scorer.rows()).step_by(SCAN_BLOCK) {
        is_interrupted = !keep_going();
        if is_interrupted {
            break;
        }
        let block = &mut scores[..SCAN_BLOCK.min(scorer.rows() - first)];
        scorer.score_scan(first, block);
        stats.distances += block.len() as u64;
        for (offset, score) in block.iter().enumerate() {
            if *score >= best.threshold() {
                best.push(Hit { node: NodeId((first + offset) as u32), score: *score });
            }
        }
    }
    Found { hits: best.into_sorted(), stats, plan: Plan::ExactScan, is_interrupted, loss: None }
}
