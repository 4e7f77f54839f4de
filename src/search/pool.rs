//! Pools: candidates of all segments that pass the rules, scored as hits, best first.
//!
//! Per segment: plan, explore, sieve, rescore. Pages are chosen from the sorted result.

use std::borrow::Cow;

use super::explore::{Explored, Memory, Plain, Wanted, explore, explore_plain};
use super::hit::Hit;
use super::loss::Loss;
use super::order::sort_hits;
use super::params::{Effort, SearchParams};
use super::plan::{Goal, Plan, SegmentPlan};
use super::row_scorer::RowScorer;
use super::rules::{Interest, NodeRules, Segment};
use super::scorers::{SegmentBlocks, SegmentScorers, best_of, prefetch_ids};
use super::stages::{Stages, add_run};
use super::with_terms::{Noise, WithTerms};
use super::workspace::Workspace;
use crate::base::id::{NodeId, VideoId};
use crate::base::interrupt::Interrupt;
use crate::graph::{BestOf, BlockQuery, Candidate, CodeScorer, Corrections, Cost, Weighted};
use crate::node_set::CountedSet;
use crate::quantize::{Affine, ResidualTable, RowCodes};

/// Candidates that are rescored between two checks of the interrupt.
const RESCORED_AT_ONCE: usize = 4096;
/// With late exclusion checks, at most 1/8 of the results may be excluded; the 50 % rescoring margin covers them.
const FEW_EXCLUDED: usize = 8;
/// How many exclusion look-ups ahead their memory is prefetched.
const LOOKED_UP_AHEAD: usize = 16;

/// Hits in the order of their scores.
pub(super) struct Pool {
    pub(super) hits: Vec<Hit>,
    /// Whether these are all that pass the rules.
    pub(super) is_complete: bool,
    /// Whether every node that may pass was scored.
    pub(super) is_scanned: bool,
    /// The lowest score down to which no hit is missing; infinite before anything was found.
    pub(super) reached: f32,
}

impl Pool {
    /// Before anything was explored.
    pub(super) fn empty() -> Self {
        Self { hits: Vec::new(), is_complete: false, is_scanned: false, reached: f32::INFINITY }
    }
}

/// Which nodes a pool is of.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Source {
    All,
    /// Those that match one reserve.
    Reserve(usize),
    /// Those that are drawn from one reserve.
    Drawn(usize),
    Interest(usize),
}

/// How a pool is explored.
#[derive(Clone, Copy)]
struct PoolGoal {
    source: Source,
    /// How many hits are wanted.
    count: usize,
    /// Whether every node is scored instead of following the plan.
    is_scan: bool,
    /// Whether excluded nodes may stay, if they are few.
    may_be_unsieved: bool,
}

/// How the nodes of one exploration are scored.
#[derive(Clone, Copy)]
struct Scored<'a> {
    /// For which interests.
    of: &'a [usize],
    /// By what they are drawn.
    noise: Option<Noise<'a>>,
}

/// Explores for one request, and sums up the cost.
pub(super) struct Pools<'a, 'q, 'i> {
    pub(super) interests: &'a [Interest<'q>],
    /// `[interests]`: their vectors as rows are compared with them.
    pub(super) queries: &'a [Cow<'q, [f32]>],
    pub(super) params: &'a SearchParams,
    pub(super) rules: &'a NodeRules<'a>,
    pub(super) watched: Option<NodeId>,
    pub(super) workspace: &'a mut Workspace,
    pub(super) interrupt: &'a mut Interrupt<'i>,
    pub(super) cost: Cost,
    pub(super) stages: Stages,
    /// The plan of the first exploration.
    pub(super) plan: Option<Plan>,
    /// The longest candidate list; 0 without a traversal.
    pub(super) ef_search: usize,
    /// How far the watched node got.
    pub(super) loss: Loss,
}

impl Pools<'_, '_, '_> {
    /// Whether places are kept for a reserve or for an interest.
    pub(super) fn keeps_places(&self) -> bool {
        self.rules.reserves.iter().any(|reserve| reserve.at_least > 0)
            || self.interests.iter().any(|interest| interest.at_least > 0)
    }

    /// The best `k` hits of a plain request. Leaves their plan to the caller: later pages are found by other plans.
    pub(super) fn plain(&mut self) -> Plain {
        let (k, seeds) = (self.params.k(), self.rules.seeds);
        let segment = &self.rules.segments[0];
        self.workspace.scratch.watch(self.watched);
        // Seeds may be among the best, and are dropped.
        let wanted = k + seeds.len();
        let mut plain =
            explore_plain(segment, &self.queries[0], wanted, self.params, self.workspace, self.interrupt);
        if !seeds.is_empty() {
            plain.hits.retain(|hit| !seeds.contains(&hit.node));
            plain.hits.truncate(k);
        }
        self.cost += plain.cost;
        self.stages.rescoring = plain.rescoring;
        plain
    }

    /// At least `count` hits of a source, if there are that many, and every hit that scores better. `is_scan`: every node
    /// is scored instead of following the plan.
    pub(super) fn pool(&mut self, source: Source, count: usize, is_scan: bool) -> Pool {
        // Caps and kept places may use any number of the candidates: then excluded ones must be known before.
        let may_be_unsieved =
            self.rules.exclusion.is_some() && self.rules.caps.is_empty() && !self.keeps_places();
        let goal = PoolGoal { source, count, is_scan, may_be_unsieved };
        let (mut pool, is_sieved) = self.explore_segments(goal);
        if !is_sieved && !self.sieve(&mut pool, count) && !self.interrupt.has_stopped() {
            (pool, _) = self.explore_segments(PoolGoal { may_be_unsieved: false, ..goal });
        }
        pool
    }

    /// Sorts hits best first.
    pub(super) fn sort(&self, hits: &mut [Hit]) {
        sort_hits(hits, |node| self.rules.video_id(node));
    }

    /// Explores all segments. Also returns whether every hit passes the rules, and not only nearly every one.
    fn explore_segments(&mut self, goal: PoolGoal) -> (Pool, bool) {
        let reached = f32::NEG_INFINITY;
        let mut pool = Pool { hits: Vec::new(), is_complete: true, is_scanned: true, reached };
        let mut is_sieved = true;
        for at in 0..self.rules.segments.len() {
            is_sieved &= self.explore_segment(at, goal, &mut pool);
            if self.interrupt.has_stopped() {
                break;
            }
        }
        self.sort(&mut pool.hits);
        (pool, is_sieved)
    }

    /// Leaves the best `count` hits that pass the exclusion, which is looked up for one hit after another. Returns whether
    /// there are that many, and few that do not pass.
    fn sieve(&self, pool: &mut Pool, count: usize) -> bool {
        let rules = self.rules;
        // All ids at once, so that their cache misses overlap.
        let ids: Vec<VideoId> = pool.hits.iter().map(|hit| rules.video_id(hit.node)).collect();
        let prefetch = |id: &VideoId| rules.exclusion.iter().for_each(|exclusion| exclusion.prefetch(*id));
        let (first, mut ahead) = ids.split_at(LOOKED_UP_AHEAD.min(ids.len()));
        first.iter().for_each(prefetch);
        let mut passing = Vec::with_capacity(count.min(pool.hits.len()));
        let mut failed = 0;
        for hit in &pool.hits {
            if passing.len() == count {
                break;
            }
            ahead.split_off_first().into_iter().for_each(prefetch);
            if rules.allows(hit.node) {
                passing.push(*hit);
            } else {
                failed += 1;
            }
        }
        pool.hits = passing;
        pool.is_complete = false;
        pool.reached = pool.hits.last().map_or(f32::INFINITY, |last| last.score);
        pool.hits.len() == count && failed <= count / FEW_EXCLUDED
    }

    /// Adds the hits of one segment to a pool. Returns whether all of them pass the rules.
    fn explore_segment(&mut self, at: usize, goal: PoolGoal, pool: &mut Pool) -> bool {
        let segment = self.rules.segments[at];
        let both = match (goal.source, segment.matches) {
            (Source::Reserve(reserve) | Source::Drawn(reserve), Some(matches)) => {
                let mut both = (*segment.reserves[reserve].nodes).clone();
                both.intersect(matches.nodes);
                Some(CountedSet::new(both))
            }
            _ => None,
        };
        let matches = match (goal.source, &both) {
            (_, Some(both)) => Some(both.as_ref()),
            (Source::Reserve(reserve) | Source::Drawn(reserve), None) => {
                let CountedSet { nodes, count } = &segment.reserves[reserve];
                Some(CountedSet { nodes: &**nodes, count: *count })
            }
            _ => segment.matches,
        };
        let ef_search = match self.params.effort() {
            Effort::EfSearch(ef_search) => Some(ef_search),
            Effort::Exact => None,
        };
        let segment_goal = Goal {
            matches: matches.map(|matches| matches.count),
            count: goal.count,
            // A page by marginal relevance is chosen among more hits, not all of which must be right.
            k: if self.rules.diversity.lambda.is_some() { goal.count } else { self.params.k() },
            ef_search,
            is_scan: goal.is_scan,
            widest: self.params.widest(),
            // A forced plan is meant for the base segment.
            forced: match goal.source {
                // No bound holds for a block of nodes, and no neighbor is near in what is drawn.
                Source::Drawn(_) => Some(Plan::MatchScan),
                _ => self.params.plan().filter(|_| at == 0),
            },
        };
        let noise = match goal.source {
            Source::Drawn(reserve) => self.rules.reserves[reserve].sample,
            _ => None,
        };
        let noise = noise.map(|sample| Noise { sample, video_ids: segment.video_ids });
        let plan = SegmentPlan::of(segment.index, &segment_goal);
        let wanted = Wanted { plan, matches, may_be_unsieved: goal.may_be_unsieved };
        let watched = self.watched.map(|node| self.rules.locate(node)).filter(|located| located.at == at);
        let watched = watched.map(|located| located.node);
        self.workspace.scratch.watch(watched);
        let of: Vec<usize> = match goal.source {
            Source::Interest(interest) => vec![interest],
            Source::All | Source::Reserve(_) | Source::Drawn(_) => (0..self.interests.len()).collect(),
        };
        let nodes = Scored { of: &of, noise };
        let explored = if plan.uses_codes {
            self.explore_codes(&segment, &nodes, &wanted)
        } else {
            self.explore_exact(&segment, &nodes, &wanted)
        };
        self.cost += explored.cost;
        self.ef_search = self.ef_search.max(explored.ef_search);
        self.plan.get_or_insert(explored.plan);
        if let Some(node) = watched {
            self.loss = self.loss.max(self.workspace.scratch.stage(node).into());
        }
        let before = pool.hits.len();
        let began = self.params.clock();
        self.rescore(&segment, explored.is_sieved, &mut pool.hits);
        add_run(&mut self.stages.rescoring, began);
        if let Source::Interest(interest) = goal.source {
            let mut seen = 0;
            pool.hits.retain(|hit| {
                seen += 1;
                seen <= before || hit.interest == interest
            });
        }
        pool.is_complete &= explored.is_complete;
        pool.is_scanned &= explored.plan.scores_all();
        if !explored.is_complete {
            let lowest = pool.hits[before..].iter().map(|hit| hit.score).min_by(f32::total_cmp);
            pool.reached = pool.reached.max(lowest.unwrap_or(f32::INFINITY));
        }
        explored.is_sieved
    }

    /// Explores by codes, for some of the interests.
    fn explore_codes(&mut self, segment: &Segment<'_>, nodes: &Scored<'_>, wanted: &Wanted<'_>) -> Explored {
        let Scored { of, noise } = *nodes;
        let Workspace { scratch, blocks: block_scratch, query_codes, residual_tables } = &mut *self.workspace;
        let row_codes = segment.index.codes().expect("the plan uses codes");
        let RowCodes { rows: codes, quantizer, .. } = row_codes;
        query_codes.clear();
        of.iter().for_each(|at| quantizer.push_query(&self.queries[*at], query_codes));
        debug_assert_eq!(query_codes.stride() * segment.index.len(), codes.len());
        let weight = |at: usize| self.interests[of[at]].weight;
        let is_plain = of.len() == 1 && weight(0) == 1.0;
        // A single query is searched for in units of dot products of codes, several in units of weighted inner products.
        let units = |at: usize| match query_codes.affine()[at] {
            Affine { scale, .. } if is_plain => {
                Units { offset: 0.0, per_dot: 1.0, per_product: if scale > 0.0 { 1.0 / scale } else { 0.0 } }
            }
            Affine { bias, scale } => {
                let weight = weight(at);
                Units { offset: weight * bias, per_dot: weight * scale, per_product: weight }
            }
        };
        let blocks = segment.index.blocks().filter(|_| wanted.matches.is_some() || of.len() > 1);
        residual_tables.resize_with(of.len(), ResidualTable::default);
        if let Some(blocks) = &blocks {
            for (at, table) in residual_tables.iter_mut().enumerate() {
                table.fill(&self.queries[of[at]], &blocks.codes, units(at).per_product);
            }
        }
        let blocks = blocks.map(|blocks| {
            let query = |(at, residuals)| {
                let Units { offset, per_dot, .. } = units(at);
                let means = CodeScorer::new(query_codes.query(at), blocks.means);
                BlockQuery { means, offset, scale: per_dot, residuals }
            };
            SegmentBlocks { queries: residual_tables.iter().enumerate().map(query).collect(), blocks }
        });
        let corrections = |at: usize| {
            let affine = query_codes.affine()[at];
            Corrections::of(&row_codes, affine, || RowScorer::new(segment.index, &self.queries[of[at]]))
        };
        let corrections: Vec<Option<Corrections<'_>>> = (0..of.len()).map(corrections).collect();
        let by_codes =
            |at: usize| CodeScorer::new(query_codes.query(at), codes).corrected(corrections[at].as_ref());
        let each = (0..of.len()).map(by_codes).collect();
        let queries = of.iter().map(|at| &*self.queries[*at]).collect();
        let memory = Memory { scratch, blocks: block_scratch };
        if is_plain {
            let Units { per_product, .. } = units(0);
            let per_score = if per_product > 0.0 { per_product } else { 1.0 };
            let nodes = WithTerms::nearly(by_codes(0), segment.terms, per_score);
            let nodes = nodes.with_noise(noise, Some(per_score));
            let scorers = SegmentScorers { queries, nodes, blocks, each };
            explore(segment, &scorers, self.rules, wanted, memory, self.interrupt)
        } else {
            let weighted = |at: usize| {
                let Units { offset, per_dot, .. } = units(at);
                Weighted { scorer: by_codes(at), offset, scale: per_dot }
            };
            let best_of = BestOf::new((0..of.len()).map(weighted).collect());
            let nodes = WithTerms::nearly(best_of, segment.terms, 1.0).with_noise(noise, Some(1.0));
            let scorers = SegmentScorers { queries, nodes, blocks, each };
            explore(segment, &scorers, self.rules, wanted, memory, self.interrupt)
        }
    }

    /// Explores by the scores of hits, for some of the interests.
    fn explore_exact(&mut self, segment: &Segment<'_>, nodes: &Scored<'_>, wanted: &Wanted<'_>) -> Explored {
        let Scored { of, noise } = *nodes;
        let Workspace { scratch, blocks, .. } = &mut *self.workspace;
        let memory = Memory { scratch, blocks };
        let queries = of.iter().map(|at| &*self.queries[*at]).collect();
        let weighted = |at: &usize| {
            let scorer = RowScorer::new(segment.index, &self.queries[*at]);
            Weighted { scorer, offset: 0.0, scale: self.interests[*at].weight }
        };
        let weighted: Vec<_> = of.iter().map(weighted).collect();
        match weighted.as_slice() {
            [Weighted { scorer, scale: 1.0, .. }] => {
                let nodes = WithTerms::exact(scorer.clone(), segment.terms).with_noise(noise, None);
                let each = vec![scorer.clone()];
                let scorers = SegmentScorers { queries, nodes, blocks: None, each };
                explore(segment, &scorers, self.rules, wanted, memory, self.interrupt)
            }
            _ => {
                let best_of = BestOf::new(weighted);
                let nodes = WithTerms::exact(best_of.clone(), segment.terms).with_noise(noise, None);
                let each = vec![best_of];
                let scorers = SegmentScorers { queries, nodes, blocks: None, each };
                explore(segment, &scorers, self.rules, wanted, memory, self.interrupt)
            }
        }
    }

    /// Rescores the candidates and appends them as hits.
    fn rescore(&mut self, segment: &Segment<'_>, is_sieved: bool, hits: &mut Vec<Hit>) {
        let found = &mut self.workspace.scratch.found;
        if found.len() > RESCORED_AT_ONCE {
            // Best first: an interrupt may leave the others out.
            found.sort_unstable();
        }
        let best_of = best_of(segment.index, self.queries, self.interests);
        let global = |node: u32| NodeId(segment.start + node);
        let found = &self.workspace.scratch.found;
        hits.reserve(found.len());
        let mut scored = Vec::new();
        for (chunk, some) in found.chunks(RESCORED_AT_ONCE).enumerate() {
            if chunk > 0 && self.interrupt.should_stop() {
                break;
            }
            if self.rules.exclusion.is_none() || !is_sieved {
                prefetch_ids(segment.video_ids, some);
            }
            let nodes: Vec<u32> = some.iter().map(Candidate::node).collect();
            segment.terms.iter().for_each(|terms| terms.prefetch(&nodes));
            self.cost.distances += (nodes.len() * self.interests.len()) as u64;
            best_of.best_rows(&nodes, &mut scored);
            let added = |node: u32| segment.terms.map_or(0.0, |terms| terms.added(node));
            let hit = |(node, (interest, score)): (&u32, &(usize, f32))| Hit {
                node: global(*node),
                score: *score + added(*node),
                interest: *interest,
            };
            hits.extend(nodes.iter().zip(&scored).map(hit));
        }
    }
}

/// The units that the nodes and blocks of a segment are scored in for one query.
struct Units {
    offset: f32,
    /// Units per dot product of codes,
    per_dot: f32,
    /// and per inner product.
    per_product: f32,
}
