//! One request with rules against the parts of an index.
//!
//! Explored are as many nodes as the rules leave enough of; chosen are the hits of one page after another, so that
//! all pages are of one order. Where places stay free that are kept for fresh nodes or for an interest, those are
//! looked for by themselves, and the page is chosen again.

use std::borrow::Cow;

use rustc_hash::FxHashSet;

use super::choice::{Choice, Ranked, Room, choose};
use super::explore::{Coarse, Explored, Wanted, explore};
use super::loss::Loss;
use super::params::{Effort, Plan, SearchParams};
use super::rules::{Interest, NodeRules, Part, Shortfall};
use super::searcher::{Searcher, Workspace, prefetch_ids, prepared, scorer};
use crate::base::id::{NodeId, VideoId};
use crate::graph::{BeamStats, BestOf, BlockQuery, Candidate, CodeScorer, Score};
use crate::node_set::NodeSet;
use crate::quantize::{Affine, ResidualTable};
use crate::with_rows;

/// Nodes that are scored again between two looks at whether to go on.
const RESCORED_AT_ONCE: usize = 4096;
/// What a scan of blocks may miss, of what a traversal of the same effort is expected to: where hits are hard to
/// find, it misses more than it sees. With so little effort that a traversal is expected to miss more than [`FEW_MISSED`],
/// as many times more: the walk that follows finds most of it where hits are easy to find. But never more than
/// [`MOST_MISSED`]: elsewhere it finds none of it.
const CAUTION: f32 = 0.35;
const FEW_MISSED: f32 = 0.065;
const MOST_MISSED: f32 = 0.35;
/// One in so many of what was found may be excluded, where it is looked up after it was scored exactly: half as many
/// again as are wanted were, which makes up for it.
const FEW_EXCLUDED: usize = 8;
/// How many look-ups ahead what they need is asked for.
const LOOKED_UP_AHEAD: usize = 16;

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
    /// The best `params.k()` nodes for `interests` that pass `rules`, after the first `rules.offset`, of all parts.
    ///
    /// Fewer only if there are no more. `keep_going` is asked all along; when it says no, what was found until then
    /// is given. If a node is `watched`, the answer says how far it came.
    ///
    /// # Panics
    /// If there is no interest, or the dimension of one is not that of the parts.
    pub fn search_ruled(
        &self,
        interests: &[Interest<'_>],
        params: &SearchParams,
        rules: &NodeRules<'_>,
        watched: Option<NodeId>,
        mut keep_going: impl FnMut() -> bool,
    ) -> RuledFound {
        let base = rules.parts[0].index;
        let queries: Vec<_> = interests.iter().map(|interest| prepared(base, &interest.vector)).collect();
        self.with_workspace(|workspace| {
            let mut run = Run {
                interests,
                params,
                rules,
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

struct Run<'a, 'q> {
    interests: &'a [Interest<'q>],
    params: &'a SearchParams,
    rules: &'a NodeRules<'a>,
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

impl<'a> Run<'a, '_> {
    fn search(&mut self) -> RuledFound {
        let (k, offset) = (self.params.k(), self.rules.offset);
        let keeps_places = self.keeps_places();
        let end = offset + k;
        let mut chosen = self.rules.first_page.clone();
        let mut room = Room::new(self.rules);
        chosen.iter().for_each(|ranked| _ = room.take(ranked.node));
        let mut pool =
            Pool { ranked: Vec::new(), is_complete: false, is_scanned: false, reached: f32::INFINITY };
        let (mut depth, mut depths) = (0, Depths::new(self, 0, &chosen));
        let mut shortfall = None;
        while chosen.len() < end && shortfall.is_none() && !self.is_interrupted {
            // Pages that are not deeper than twice the last one share a pool: their order does not depend on which
            // of them is asked for.
            let wanted = k * (chosen.len() / k + 1).next_power_of_two();
            if wanted != depth {
                pool = self.pool(Source::All, wanted, false);
                (depth, depths) = (wanted, Depths::new(self, wanted, &chosen));
                depths.main.reached = pool.reached;
            } else {
                depths.before.extend(chosen[depths.before.len()..].iter().map(|ranked| ranked.node.0));
                self.is_interrupted |= !(self.keep_going)();
            }
            let page = if keeps_places { k } else { wanted - chosen.len() };
            let choice = self.choose_page(&mut pool, &mut depths, page, room);
            if choice.taken.len() < page && !self.is_interrupted {
                shortfall = Some(self.shortfall(&choice, &chosen));
            }
            chosen.extend(choice.taken);
            room = choice.room;
        }
        if chosen.iter().take(offset).any(|ranked| Some(ranked.node) == self.watched) {
            self.loss = Loss::EarlierPage;
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

    /// Whether some of k places are kept for some of the nodes.
    fn keeps_places(&self) -> bool {
        self.rules.fresh_at_least > 0 || self.interests.iter().any(|interest| interest.at_least > 0)
    }

    /// One page of `size` after those before, from a pool that is deepened where it does not suffice.
    fn choose_page(
        &mut self,
        pool: &mut Pool,
        depths: &mut Depths,
        size: usize,
        room: Room<'a>,
    ) -> Choice<'a> {
        let Depths { main, fresh, of_interests, before } = depths;
        loop {
            let is_left = |ranked: &&Ranked| !before.contains(&ranked.node.0);
            let left = match before.is_empty() {
                true => Cow::Borrowed(&pool.ranked),
                false => Cow::Owned(pool.ranked.iter().filter(is_left).copied().collect()),
            };
            let Self { is_interrupted, keep_going, .. } = self;
            let was_interrupted = *is_interrupted;
            let mut keep_going = || {
                *is_interrupted |= !was_interrupted && !keep_going();
                was_interrupted || !*is_interrupted
            };
            let choice = choose(&left, size, (self.rules, self.interests), room.clone(), &mut keep_going);
            if self.is_interrupted || pool.is_complete {
                return choice;
            }
            let is_short = choice.taken.len() < size;
            if is_short && !choice.is_below || !main.covers(choice.lowest_plain) {
                let deeper = self.deeper(main);
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
                let mut kept = std::iter::once(&mut *fresh).chain(&mut *of_interests).zip(filled);
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
        // By numbers, whose comparison has no branch to guess wrong.
        let place = |(at, ranked): (usize, &Ranked)| Candidate::new(at as u32, ranked.score);
        let mut places: Vec<Candidate> = ranked.iter().enumerate().map(place).collect();
        places.sort_unstable();
        let sorted: Vec<Ranked> = places.iter().map(|place| ranked[place.node() as usize]).collect();
        ranked.copy_from_slice(&sorted);
        for equal in ranked.chunk_by_mut(|a, b| a.score.total_cmp(&b.score).is_eq()) {
            if equal.len() > 1 {
                equal.sort_unstable_by_key(|ranked| self.rules.video_id(ranked.node));
            }
        }
    }

    /// Why a page is short, after those that were `chosen`: what is true of the videos that it lacks.
    fn shortfall(&self, choice: &Choice<'_>, chosen: &[Ranked]) -> Shortfall {
        let all: usize = self.rules.parts.iter().map(Part::matching).sum();
        let is_match = |seed: &&NodeId| {
            let (_, part, node) = self.rules.locate(**seed);
            part.matches.is_none_or(|(matches, _)| matches.contains(node.0))
        };
        let seeds: FxHashSet<u32> = self.rules.seeds.iter().filter(is_match).map(|seed| seed.0).collect();
        if choice.is_below {
            Shortfall::ScoreThreshold
        } else if choice.is_capped {
            Shortfall::CapsExhausted
        } else if chosen.len() + choice.taken.len() + seeds.len() < all {
            Shortfall::Excluded
        } else if self.rules.parts[0].matches.is_some() {
            Shortfall::TooFewMatches
        } else {
            Shortfall::IndexExhausted
        }
    }

    /// At least `count` nodes of a source that pass the rules, if there are so many, and whatever scores better.
    /// `is_scan`: everything is looked at for them, whatever the plan.
    fn pool(&mut self, source: Source, count: usize, is_scan: bool) -> Pool {
        // Caps and kept places may leave any number of what was looked at, or ask for more of it.
        let may_be_unsieved =
            !self.rules.exclusion.is_empty() && self.rules.caps.is_empty() && !self.keeps_places();
        let (mut pool, is_sieved) = self.explore_parts(source, (count, is_scan), may_be_unsieved);
        if !is_sieved && !self.sieve(&mut pool, count) && !self.is_interrupted {
            (pool, _) = self.explore_parts(source, (count, is_scan), false);
        }
        pool
    }

    /// The same; if it `may_be_unsieved`, says whether all of it passes the rules, and not only nearly all.
    fn explore_parts(
        &mut self,
        source: Source,
        wanted: (usize, bool),
        may_be_unsieved: bool,
    ) -> (Pool, bool) {
        let mut pool =
            Pool { ranked: Vec::new(), is_complete: true, is_scanned: true, reached: f32::NEG_INFINITY };
        let mut is_sieved = true;
        for at in 0..self.rules.parts.len() {
            is_sieved &= self.explore_part(at, source, wanted, may_be_unsieved, &mut pool);
            if self.is_interrupted {
                break;
            }
        }
        self.sort(&mut pool.ranked);
        (pool, is_sieved)
    }

    /// Leaves the best `count` that pass the rules, each looked up when its turn comes; says whether there are so many,
    /// and few that do not.
    fn sieve(&self, pool: &mut Pool, count: usize) -> bool {
        let rules = self.rules;
        // All at once, which then wait for memory side by side.
        let ids: Vec<VideoId> = pool.ranked.iter().map(|ranked| rules.video_id(ranked.node)).collect();
        let prefetch = |id: &VideoId| rules.exclusion.prefetch(*id);
        let (first, mut ahead) = ids.split_at(LOOKED_UP_AHEAD.min(ids.len()));
        first.iter().for_each(prefetch);
        let mut passing = Vec::with_capacity(count.min(pool.ranked.len()));
        let mut failed = 0;
        for ranked in &pool.ranked {
            if passing.len() == count {
                break;
            }
            ahead.split_off_first().into_iter().for_each(prefetch);
            if rules.allows(ranked.node) {
                passing.push(*ranked);
            } else {
                failed += 1;
            }
        }
        pool.ranked = passing;
        pool.is_complete = false;
        pool.reached = pool.ranked.last().map_or(f32::INFINITY, |last| last.score);
        pool.ranked.len() == count && failed <= count / FEW_EXCLUDED
    }

    /// Adds to a pool what one of the parts has for it; says whether all of that passes the rules.
    fn explore_part(
        &mut self,
        at: usize,
        source: Source,
        (count, is_scan): (usize, bool),
        may_be_unsieved: bool,
        pool: &mut Pool,
    ) -> bool {
        let part = self.rules.parts[at];
        let of_fresh = |fresh: &NodeSet| {
            let mut both = fresh.clone();
            part.matches.into_iter().for_each(|(matches, _)| both.intersect(matches));
            both
        };
        let fresh = part.fresh.filter(|_| source == Source::Fresh).map(of_fresh);
        let matches = fresh.as_ref().map(|set| (set, set.count())).or(part.matches);
        let k = self.params.k();
        let (ef_search, is_exact) = match self.params.effort() {
            Effort::EfSearch(ef_search) => (ef_search + count.saturating_sub(k), false),
            Effort::Exact => (0, true),
        };
        let expected = expected_to_miss(k, ef_search);
        let missed = (CAUTION * expected * (expected / FEW_MISSED).max(1.0)).min(MOST_MISSED);
        let has_codes = part.index.codes().is_some();
        let plan = match (is_exact, is_scan) {
            // What is asked for is asked of the base.
            (false, false) => self.params.plan().filter(|_| at == 0),
            (false, true) if has_codes => Some(Plan::CodeScan),
            _ => Some(Plan::ExactScan),
        };
        let wanted = Wanted { matches, count, ef_search, missed, plan, may_be_unsieved };
        let watched = self.watched.map(|node| self.rules.locate(node)).filter(|(of, ..)| *of == at);
        let watched = watched.map(|(.., node)| node);
        self.workspace.scratch.watch(watched);
        let of: Vec<usize> = match source {
            Source::Interest(interest) => vec![interest],
            Source::All | Source::Fresh => (0..self.interests.len()).collect(),
        };
        let explored = if has_codes && !is_exact {
            self.explore_codes(&part, &of, &wanted)
        } else {
            self.explore_exact(&part, &of, &wanted)
        };
        self.stats += explored.stats;
        self.plan.get_or_insert(explored.plan);
        self.is_interrupted |= explored.is_interrupted;
        if let Some(node) = watched {
            self.loss = self.loss.max(self.workspace.scratch.stage(node).into());
        }
        let before = pool.ranked.len();
        self.rank(&part, explored.is_sieved, &mut pool.ranked);
        if let Source::Interest(interest) = source {
            let mut seen = 0;
            pool.ranked.retain(|ranked| {
                seen += 1;
                seen <= before || ranked.interest == interest
            });
        }
        pool.is_complete &= explored.is_complete;
        pool.is_scanned &= matches!(explored.plan, Plan::ExactScan | Plan::CodeScan | Plan::MatchScan);
        if !explored.is_complete {
            let lowest = pool.ranked[before..].iter().map(|ranked| ranked.score).min_by(f32::total_cmp);
            pool.reached = pool.reached.max(lowest.unwrap_or(f32::INFINITY));
        }
        explored.is_sieved
    }

    /// Explores by codes, for some of the interests.
    fn explore_codes(&mut self, part: &Part<'_>, of: &[usize], wanted: &Wanted<'_>) -> Explored {
        let Workspace { scratch, query_codes, residual_tables } = &mut *self.workspace;
        let (codes, quantizer) = part.index.codes().expect("there are codes");
        query_codes.clear();
        of.iter().for_each(|at| quantizer.push_query(&self.queries[*at], query_codes));
        let stride = query_codes.stride();
        debug_assert_eq!(stride * part.index.len(), codes.len());
        let weight = |at: usize| self.interests[of[at]].weight;
        let is_plain = of.len() == 1 && weight(0) == 1.0;
        // Offset, and what a unit of a dot product of codes and one of inner product are worth. A single query is
        // searched for in dot products of codes.
        let units = |at: usize| match query_codes.affine()[at] {
            Affine { scale, .. } if is_plain => (0.0, 1.0, if scale > 0.0 { 1.0 / scale } else { 0.0 }),
            Affine { bias, scale } => (weight(at) * bias, weight(at) * scale, weight(at)),
        };
        let blocks = part.index.blocks().filter(|_| wanted.matches.is_some() || of.len() > 1);
        residual_tables.resize_with(of.len(), ResidualTable::default);
        if let Some(blocks) = &blocks {
            for (at, table) in residual_tables.iter_mut().enumerate() {
                table.fill(&self.queries[of[at]], &blocks.codes, units(at).2);
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
            explore(part, &coarse, self.rules, wanted, scratch, self.keep_going)
        } else {
            let scorer = |at: usize| {
                let (offset, scale, _) = units(at);
                (CodeScorer::new(query_codes.query(at), codes), offset, scale)
            };
            let nodes = BestOf::new((0..of.len()).map(scorer).collect());
            let coarse = Coarse { nodes, blocks, each };
            explore(part, &coarse, self.rules, wanted, scratch, self.keep_going)
        }
    }

    /// Explores in full precision, for some of the interests.
    fn explore_exact(&mut self, part: &Part<'_>, of: &[usize], wanted: &Wanted<'_>) -> Explored {
        let metric = part.index.metadata().metric;
        with_rows!(part.index.vectors(), rows => {
            let weighted =
                |at: &usize| (scorer(metric, &self.queries[*at], rows), self.interests[*at].weight);
            let scorers: Vec<_> = of.iter().map(weighted).collect();
            let scratch = &mut self.workspace.scratch;
            match scorers.as_slice() {
                [(scorer, 1.0)] => {
                    let coarse = Coarse { nodes: *scorer, blocks: None, each: vec![*scorer] };
                    explore(part, &coarse, self.rules, wanted, scratch, self.keep_going)
                }
                _ => {
                    let best_of = scorers.iter().map(|(scorer, weight)| (*scorer, 0.0, *weight)).collect();
                    let best_of = BestOf::new(best_of);
                    let coarse = Coarse { nodes: best_of.clone(), blocks: None, each: vec![best_of] };
                    explore(part, &coarse, self.rules, wanted, scratch, self.keep_going)
                }
            }
        })
    }

    /// Appends what was found, scored in full precision.
    fn rank(&mut self, part: &Part<'_>, is_sieved: bool, ranked: &mut Vec<Ranked>) {
        let found = &mut self.workspace.scratch.found;
        if found.len() > RESCORED_AT_ONCE {
            // Best first: it may be told to stop halfway.
            found.sort_unstable();
        }
        let metric = part.index.metadata().metric;
        with_rows!(part.index.vectors(), rows => {
            let queries = self.queries.iter().zip(self.interests);
            let scorers = queries.map(|(query, interest)| (scorer(metric, query, rows), 0.0, interest.weight));
            let best_of = BestOf::new(scorers.collect());
            let global = |node: u32| NodeId(part.start + node);
            let found = &self.workspace.scratch.found;
            ranked.reserve(found.len());
            let mut scores = Vec::new();
            for (chunk, some) in found.chunks(RESCORED_AT_ONCE).enumerate() {
                if chunk > 0 && !(self.keep_going)() {
                    self.is_interrupted = true;
                    break;
                }
                if self.rules.exclusion.is_empty() || !is_sieved {
                    prefetch_ids(part.video_ids, some);
                }
                let nodes: Vec<u32> = some.iter().map(Candidate::node).collect();
                scores.resize(nodes.len(), 0.0);
                self.stats.distances += (nodes.len() * self.interests.len()) as u64;
                if self.interests.len() == 1 {
                    best_of.score_rows(&nodes, &mut scores);
                    let one = nodes.iter().zip(&scores);
                    ranked.extend(one.map(|(node, score)| Ranked {
                        node: global(*node),
                        score: *score,
                        interest: 0,
                    }));
                } else {
                    ranked.extend(nodes.iter().map(|node| {
                        let (interest, score) = best_of.best(*node);
                        Ranked { node: global(*node), score, interest }
                    }));
                }
            }
        })
    }
}

/// How deep each source was looked into for a pool, and what was chosen from it.
struct Depths {
    main: Deeper,
    fresh: Deeper,
    of_interests: Vec<Deeper>,
    before: FxHashSet<u32>,
}

impl Depths {
    fn new(run: &Run<'_, '_>, wanted: usize, chosen: &[Ranked]) -> Self {
        let interest = |(at, interest): (usize, &Interest<'_>)| {
            Deeper::new(Source::Interest(at), interest.at_least + chosen.len())
        };
        Self {
            main: Deeper::new(Source::All, wanted),
            fresh: Deeper::new(Source::Fresh, run.rules.fresh_at_least + chosen.len()),
            of_interests: run.interests.iter().enumerate().map(interest).collect(),
            before: chosen.iter().map(|ranked| ranked.node.0).collect(),
        }
    }
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
    ((8.0 + k as f32 / 20.0) / ef_search.max(1) as f32).min(1.0)
}
