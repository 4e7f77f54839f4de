//! One request with rules against one index.
//!
//! Explored are as many nodes as the rules leave enough of; chosen are the hits of one page after another, so that
//! all pages are of one order. Where places stay free that are kept for fresh nodes or for an interest, those are
//! looked for by themselves, and the page is chosen again.

use rustc_hash::FxHashSet;

use super::choice::{Choice, Ranked, Room, choose};
use super::explore::{Coarse, Explored, Wanted, explore};
use super::params::{Effort, Plan, SearchParams};
use super::rules::{Interest, NodeRules, Shortfall};
use super::searcher::{Searcher, Workspace, prepared, scorer};
use crate::element::Element;
use crate::graph::{
    BeamStats, BestOf, BlockQuery, Candidate, CodeScorer, Loss, NodeSet, Scan, Score, Scorer,
};
use crate::id::{NodeId, VideoId};
use crate::index::Index;
use crate::quantize::{Affine, ResidualTable};
use crate::with_rows;

/// Nodes that are scored again between two looks at whether to go on.
const RESCORED_AT_ONCE: usize = 4096;
/// What a scan of blocks may miss, of what a traversal of the same effort is expected to: where hits are hard to
/// find, it misses more than it sees.
const CAUTION: f32 = 0.4;

/// What a search with rules found and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct RuledFound {
    /// At most k, best first; equal scores by video id.
    pub hits: Vec<Ranked>,
    /// Why there are fewer than k; `None` if there are k, or the search was interrupted.
    pub shortfall: Option<Shortfall>,
    /// The cost.
    pub stats: BeamStats,
    /// How most of them were found.
    pub plan: Plan,
    /// Whether it was told to stop before it was done: then they are the best so far.
    pub is_interrupted: bool,
    /// How far the node came that was watched, if one was and it is not among the hits.
    pub loss: Option<Loss>,
}

impl Searcher {
    /// The best `params.k()` nodes for `interests` that pass `rules`, after the first `rules.offset`.
    ///
    /// Fewer only if there are no more. `keep_going` is asked all along; when it says no, what was found until then
    /// is given. If a node is `watched`, the answer says how far it came.
    ///
    /// # Panics
    /// If there is no interest, or the dimension of one is not that of the index.
    pub fn search_ruled(
        &self,
        index: &Index,
        interests: &[Interest<'_>],
        params: &SearchParams,
        rules: &NodeRules<'_>,
        watched: Option<NodeId>,
        mut keep_going: impl FnMut() -> bool,
    ) -> RuledFound {
        let queries: Vec<_> = interests.iter().map(|interest| prepared(index, &interest.vector)).collect();
        let metric = index.metadata().metric;
        with_rows!(index.vectors(), rows => {
            let exact = queries.iter().zip(interests).map(|(query, interest)| (scorer(metric, query, rows), interest.weight));
            let exact = Exact { queries: exact.collect() };
            self.with_workspace(|workspace| {
                let mut run = Run {
                    index,
                    interests,
                    params,
                    rules,
                    exact,
                    queries: &queries,
                    workspace,
                    keep_going: &mut keep_going,
                    stats: BeamStats::default(),
                    plan: None,
                    is_interrupted: false,
                    watched,
                    loss: Loss::NotReached,
                };
                run.search()
            })
        })
    }
}

/// The interests in full precision.
struct Exact<'a, T> {
    queries: Vec<(Scorer<'a, T>, f32)>,
}

impl<'a, T: Element> Exact<'a, T> {
    fn best_of(&self) -> BestOf<Scorer<'a, T>> {
        BestOf::new(self.queries.iter().map(|(scorer, weight)| (*scorer, 0.0, *weight)).collect())
    }
}

/// Nodes in the order of their exact scores.
struct Pool {
    ranked: Vec<Ranked>,
    /// Whether all that pass the rules are among them.
    is_complete: bool,
    /// Whether everything was looked at for them.
    is_scanned: bool,
    /// The lowest score among them; infinite if there is none.
    reached: f32,
}

/// Which nodes a pool is of.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    All,
    Fresh,
    Interest(usize),
}

struct Run<'a, 'q, T> {
    index: &'a Index,
    interests: &'a [Interest<'q>],
    params: &'a SearchParams,
    rules: &'a NodeRules<'a>,
    exact: Exact<'a, T>,
    queries: &'a [std::borrow::Cow<'q, [f32]>],
    workspace: &'a mut Workspace,
    keep_going: &'a mut dyn FnMut() -> bool,
    stats: BeamStats,
    /// Of the first exploration.
    plan: Option<Plan>,
    is_interrupted: bool,
    watched: Option<NodeId>,
    /// As far as the watched node came.
    loss: Loss,
}

impl<'a, T: Element> Run<'a, '_, T> {
    fn search(&mut self) -> RuledFound {
        let (k, offset) = (self.params.k(), self.rules.offset);
        let keeps_places =
            self.rules.fresh.is_some() || self.interests.iter().any(|interest| interest.at_least > 0);
        let end = offset + k;
        let mut chosen = self.rules.first_page.clone();
        let mut room = Room::new(&self.rules.caps);
        chosen.iter().for_each(|ranked| _ = room.take(ranked.node));
        let mut pool =
            Pool { ranked: Vec::new(), is_complete: false, is_scanned: false, reached: f32::INFINITY };
        let mut depth = 0;
        let mut shortfall = None;
        while chosen.len() < end && shortfall.is_none() && !self.is_interrupted {
            // Pages that are not deeper than twice the last one share a pool: their order does not depend on which
            // of them is asked for.
            let wanted = k * (chosen.len() / k + 1).next_power_of_two();
            if wanted != depth {
                pool = self.pool(Source::All, wanted, false);
                depth = wanted;
            }
            let page = if keeps_places { k } else { wanted - chosen.len() };
            let choice = self.choose_page(&mut pool, &chosen, page, wanted, room);
            if choice.taken.len() < page && !self.is_interrupted {
                shortfall = Some(self.shortfall(&choice, &chosen));
            }
            chosen.extend(choice.taken);
            room = choice.room;
        }
        let mut hits: Vec<Ranked> = chosen.into_iter().skip(offset).take(k).collect();
        if !offset.is_multiple_of(k) {
            // Of two pages, each in its own order.
            self.sort(&mut hits);
        }
        let is_lost = |node: &NodeId| hits.iter().all(|hit| hit.node != *node);
        RuledFound {
            loss: self.watched.filter(is_lost).map(|_| self.loss),
            shortfall: shortfall.filter(|_| hits.len() < k && !self.is_interrupted),
            hits,
            stats: self.stats,
            plan: self.plan.unwrap_or(Plan::MatchScan),
            is_interrupted: self.is_interrupted,
        }
    }

    /// One page of `size` after those that were `chosen`, from a pool that is deepened where it does not suffice.
    fn choose_page(
        &mut self,
        pool: &mut Pool,
        chosen: &[Ranked],
        size: usize,
        wanted: usize,
        room: Room<'a>,
    ) -> Choice<'a> {
        let before: FxHashSet<u32> = chosen.iter().map(|ranked| ranked.node.0).collect();
        let mut main = Deeper::new(Source::All, wanted);
        main.reached = pool.reached;
        let fresh = self.rules.fresh.map_or(0, |(_, at_least)| at_least);
        let mut fresh = Deeper::new(Source::Fresh, fresh + chosen.len());
        let interest = |(at, interest): (usize, &Interest<'_>)| {
            Deeper::new(Source::Interest(at), interest.at_least + chosen.len())
        };
        let mut of_interests: Vec<Deeper> = self.interests.iter().enumerate().map(interest).collect();
        loop {
            let left: Vec<Ranked> =
                pool.ranked.iter().filter(|ranked| !before.contains(&ranked.node.0)).copied().collect();
            let choice = choose(&left, size, (self.rules, self.interests), room.clone());
            if self.is_interrupted || pool.is_complete {
                return choice;
            }
            let is_short = choice.taken.len() < size;
            if is_short && !choice.is_below || !main.covers(choice.lowest_plain) {
                let deeper = self.deeper(&mut main);
                (pool.is_complete, pool.is_scanned) = (deeper.is_complete, deeper.is_scanned);
                pool.reached = main.reached;
                self.merge(pool, deeper);
            } else if is_short && !pool.is_scanned {
                // Going on would not find better ones, but there may be some where the traversal did not come.
                let scanned = self.pool(Source::All, main.count, true);
                (pool.is_complete, pool.is_scanned) = (scanned.is_complete, true);
                self.merge(pool, scanned);
            } else {
                // A place may only go to a node if there is no better one that it is kept for.
                let filled = std::iter::once(choice.filled_fresh).chain(choice.filled.iter().copied());
                let mut kept = std::iter::once(&mut fresh).chain(&mut of_interests).zip(filled);
                let unsettled = kept.find(|(kept, filled)| !main.covers(*filled) && !kept.covers(*filled));
                let Some((source, _)) = unsettled else { return choice };
                let deeper = self.deeper(source);
                self.merge(pool, deeper);
            }
        }
    }

    /// More of a source than before.
    fn deeper(&mut self, source: &mut Deeper) -> Pool {
        source.count *= 2;
        let pool = self.pool(source.source, source.count, false);
        source.reached = if pool.is_complete { f32::NEG_INFINITY } else { pool.reached };
        pool
    }

    fn merge(&self, pool: &mut Pool, other: Pool) {
        let known: FxHashSet<u32> = pool.ranked.iter().map(|ranked| ranked.node.0).collect();
        pool.ranked.extend(other.ranked.into_iter().filter(|ranked| !known.contains(&ranked.node.0)));
        self.sort(&mut pool.ranked);
    }

    /// Best first; equal scores by video id.
    fn sort(&self, ranked: &mut [Ranked]) {
        let ids = self.index.video_ids();
        ranked.sort_unstable_by(|a, b| order(ids, a, b));
    }

    /// Why a page is short, after those that were `chosen`: what is true of the videos that it lacks.
    fn shortfall(&self, choice: &Choice<'_>, chosen: &[Ranked]) -> Shortfall {
        let all = self.rules.matches.map_or(self.index.len(), |(_, count)| count);
        let is_match =
            |seed: &&NodeId| self.rules.matches.is_none_or(|(matches, _)| matches.contains(seed.0));
        let seeds: FxHashSet<u32> = self.rules.seeds.iter().filter(is_match).map(|seed| seed.0).collect();
        if choice.is_below {
            Shortfall::ScoreThreshold
        } else if choice.is_capped {
            Shortfall::CapsExhausted
        } else if chosen.len() + choice.taken.len() + seeds.len() < all {
            Shortfall::Excluded
        } else if self.rules.matches.is_some() {
            Shortfall::TooFewMatches
        } else {
            Shortfall::IndexExhausted
        }
    }

    /// At least `count` nodes of a source that pass the rules, if there are so many, and whatever scores better.
    /// `is_scan`: everything is looked at for them, whatever the plan.
    fn pool(&mut self, source: Source, count: usize, is_scan: bool) -> Pool {
        let of_fresh = |fresh: &NodeSet| match self.rules.matches {
            None => fresh.clone(),
            Some((matches, _)) => {
                let mut both = fresh.clone();
                both.intersect(matches);
                both
            }
        };
        let fresh = self.rules.fresh.filter(|_| source == Source::Fresh).map(|(fresh, _)| of_fresh(fresh));
        let matches = fresh.as_ref().map(|set| (set, set.count())).or(self.rules.matches);
        let k = self.params.k();
        let (ef_search, is_exact) = match self.params.effort() {
            Effort::EfSearch(ef_search) => (ef_search + count.saturating_sub(k), false),
            Effort::Exact => (0, true),
        };
        let missed = CAUTION * expected_to_miss(k, ef_search);
        let plan = match (is_exact, is_scan) {
            (false, false) => self.params.plan(),
            (false, true) if self.index.codes().is_some() => Some(Plan::CodeScan),
            _ => Some(Plan::ExactScan),
        };
        let wanted = Wanted { matches, count, ef_search, missed, plan };
        self.workspace.scratch.watch(self.watched);
        let explored = match (self.index.codes(), source) {
            (Some(_), Source::Interest(interest)) if !is_exact => self.explore_codes(&[interest], &wanted),
            (Some(_), _) if !is_exact => {
                let all: Vec<usize> = (0..self.interests.len()).collect();
                self.explore_codes(&all, &wanted)
            }
            (_, Source::Interest(interest)) => {
                let (scorer, weight) = self.exact.queries[interest];
                self.explore_exact(BestOf::new(vec![(scorer, 0.0, weight)]), &wanted)
            }
            _ => match self.exact.queries.as_slice() {
                [(scorer, 1.0)] => {
                    let scorer = *scorer;
                    self.explore_exact(scorer, &wanted)
                }
                _ => {
                    let best_of = self.exact.best_of();
                    self.explore_exact(best_of, &wanted)
                }
            },
        };
        self.stats += explored.stats;
        self.plan.get_or_insert(explored.plan);
        self.is_interrupted |= explored.is_interrupted;
        if let Some(node) = self.watched {
            self.loss = self.loss.max(self.workspace.scratch.loss(node));
        }
        let mut ranked = self.rank();
        if let Source::Interest(interest) = source {
            ranked.retain(|ranked| ranked.interest == interest);
        }
        self.sort(&mut ranked);
        let is_scanned = matches!(explored.plan, Plan::ExactScan | Plan::CodeScan | Plan::MatchScan);
        let reached = ranked.last().map_or(f32::INFINITY, |last| last.score);
        Pool { ranked, is_complete: explored.is_complete, is_scanned, reached }
    }

    /// Explores by codes, for some of the interests.
    fn explore_codes(&mut self, of: &[usize], wanted: &Wanted<'_>) -> Explored {
        let Workspace { scratch, query_codes, residual_tables } = &mut *self.workspace;
        let (codes, quantizer) = self.index.codes().expect("there are codes");
        query_codes.clear();
        of.iter().for_each(|at| quantizer.push_query(&self.queries[*at], query_codes));
        let stride = query_codes.stride();
        debug_assert_eq!(stride * self.index.len(), codes.len());
        let weight = |at: usize| self.interests[of[at]].weight;
        let is_plain = of.len() == 1 && weight(0) == 1.0;
        // Offset, and what a unit of a dot product of codes and one of inner product are worth. A single query is
        // searched for in dot products of codes.
        let units = |at: usize| match query_codes.affine()[at] {
            Affine { scale, .. } if is_plain => (0.0, 1.0, if scale > 0.0 { 1.0 / scale } else { 0.0 }),
            Affine { bias, scale } => (weight(at) * bias, weight(at) * scale, weight(at)),
        };
        let blocks = self.index.blocks().filter(|_| wanted.matches.is_some() || of.len() > 1);
        residual_tables.resize_with(of.len(), ResidualTable::default);
        if let Some(blocks) = &blocks {
            for (at, table) in residual_tables.iter_mut().enumerate() {
                table.fill(&self.queries[of[at]], blocks.deviations, units(at).2);
            }
        }
        let blocks = blocks.map(|blocks| {
            let query = |(at, residuals)| {
                let (offset, scale, _) = units(at);
                let means = CodeScorer::new(query_codes.query(at), blocks.means);
                BlockQuery { means, offset, scale, residuals }
            };
            (blocks, residual_tables.iter().enumerate().map(query).collect())
        });
        let each = (0..of.len()).map(|at| CodeScorer::new(query_codes.query(at), codes)).collect();
        if is_plain {
            let coarse = Coarse { nodes: CodeScorer::new(query_codes.query(0), codes), blocks, each };
            explore(self.index, &coarse, self.rules, wanted, scratch, self.keep_going)
        } else {
            let scorer = |at: usize| {
                let (offset, scale, _) = units(at);
                (CodeScorer::new(query_codes.query(at), codes), offset, scale)
            };
            let nodes = BestOf::new((0..of.len()).map(scorer).collect());
            let coarse = Coarse { nodes, blocks, each };
            explore(self.index, &coarse, self.rules, wanted, scratch, self.keep_going)
        }
    }

    /// Explores in full precision.
    fn explore_exact(&mut self, nodes: impl Scan + Clone, wanted: &Wanted<'_>) -> Explored {
        let scratch = &mut self.workspace.scratch;
        let each = vec![nodes.clone()];
        let coarse = Coarse { nodes, blocks: None, each };
        explore(self.index, &coarse, self.rules, wanted, scratch, self.keep_going)
    }

    /// What was found, scored in full precision.
    fn rank(&mut self) -> Vec<Ranked> {
        let found = &self.workspace.scratch.found;
        let mut ranked = Vec::with_capacity(found.len());
        let mut scores = Vec::new();
        let best_of = self.exact.best_of();
        for some in found.chunks(RESCORED_AT_ONCE) {
            if ranked.len() >= RESCORED_AT_ONCE && !(self.keep_going)() {
                self.is_interrupted = true;
                break;
            }
            let nodes: Vec<u32> = some.iter().map(Candidate::node).collect();
            scores.resize(nodes.len(), 0.0);
            self.stats.distances += (nodes.len() * self.interests.len()) as u64;
            if self.interests.len() == 1 {
                best_of.score_rows(&nodes, &mut scores);
                let one = nodes.iter().zip(&scores);
                ranked.extend(one.map(|(node, score)| Ranked {
                    node: NodeId(*node),
                    score: *score,
                    interest: 0,
                }));
            } else {
                ranked.extend(nodes.iter().map(|node| {
                    let (interest, score) = best_of.best(*node);
                    Ranked { node: NodeId(*node), score, interest }
                }));
            }
        }
        ranked
    }
}

impl Searcher {
    /// The exact score of a node and the interest it fits best.
    ///
    /// # Panics
    /// As [`Searcher::search_ruled`], or if there is no such node.
    pub fn score(&self, index: &Index, interests: &[Interest<'_>], node: NodeId) -> Ranked {
        let queries: Vec<_> = interests.iter().map(|interest| prepared(index, &interest.vector)).collect();
        let metric = index.metadata().metric;
        with_rows!(index.vectors(), rows => {
            let queries = queries.iter().zip(interests);
            let queries = queries.map(|(query, interest)| (scorer(metric, query, rows), 0.0, interest.weight));
            let (interest, score) = BestOf::new(queries.collect()).best(node.0);
            Ranked { node, score, interest }
        })
    }

    /// The place of a node in the order of all that pass the rules, from 1, no places being kept; or the cap that
    /// has no room for it.
    ///
    /// # Errors
    /// The position of the cap among the rules.
    ///
    /// # Panics
    /// As [`Searcher::score`].
    pub fn place(
        &self,
        index: &Index,
        interests: &[Interest<'_>],
        rules: &NodeRules<'_>,
        node: NodeId,
    ) -> Result<usize, usize> {
        let own = self.score(index, interests, node);
        let ids = index.video_ids();
        let allowed = |other: &u32| {
            rules.matches.is_none_or(|(matches, _)| matches.contains(*other))
                && !rules.exclusion.contains(ids[*other as usize])
                && !rules.seeds.contains(&NodeId(*other))
        };
        let mut better: Vec<Ranked> = (0..index.len() as u32)
            .filter(allowed)
            .map(|other| self.score(index, interests, NodeId(other)))
            .filter(|other| precedes(ids, other, &own))
            .collect();
        better.sort_unstable_by(|a, b| order(ids, a, b));
        let mut room = Room::new(&rules.caps);
        let before = better.iter().filter(|other| room.take(other.node)).count();
        room.full_cap(node).map_or(Ok(before + 1), Err)
    }
}

/// Best first; equal scores by video id.
fn order(ids: &[VideoId], a: &Ranked, b: &Ranked) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then_with(|| ids[a.node.index()].cmp(&ids[b.node.index()]))
}

fn precedes(ids: &[VideoId], a: &Ranked, b: &Ranked) -> bool {
    order(ids, a, b) == std::cmp::Ordering::Less
}

/// How deep a source was looked into.
struct Deeper {
    source: Source,
    count: usize,
    /// The lowest score that was come upon: whatever is better was found, too. Infinite before the first look, and
    /// negative infinite after all was found.
    reached: f32,
}

impl Deeper {
    fn new(source: Source, count: usize) -> Self {
        Self { source, count: count.max(1), reached: f32::INFINITY }
    }

    /// Whether all that are better than this were found.
    fn covers(&self, score: f32) -> bool {
        score >= self.reached
    }
}

/// The share of the best `k` that a traversal with this effort misses, about: measured on one million made-up
/// videos and their users.
fn expected_to_miss(k: usize, ef_search: usize) -> f32 {
    ((8.0 + k as f32 / 20.0) / ef_search.max(1) as f32).min(0.5)
}
