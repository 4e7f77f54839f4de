//! One request against its segments, page by page.
//!
//! Pages are chosen one after another, which gives all of them one order. Each page is chosen from a pool, which is
//! deepened until it suffices. If places stay free that are kept for a reserve or for an interest, those are
//! searched for on their own, and the page is chosen again.
//!
//! Scores do not increase from page to page: a deeper pool may contain a better hit that the pool of an earlier page
//! missed, and such a hit is passed over until no others are left. With kept places, each page is sorted by itself.
//!
//! The first page of a plain request is found on the fast path, and the later ones like those of any other request.

use std::borrow::Cow;

use rustc_hash::{FxHashMap, FxHashSet};

use super::choose::{Choice, choose, choose_best};
use super::draw::{Draw, Drawn};
use super::hit::{Found, Hit};
use super::loss::Loss;
use super::params::SearchParams;
use super::plan::Plan;
use super::pool::{Pool, Pools, Source};
use super::quota::{Groups, Quota};
use super::ranked::Ranked;
use super::room::Room;
use super::rules::{Interest, NodeRules, Reserve, Segment, Shortfall};
use super::stages::{Stages, add_run};
use super::workspace::Workspace;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::graph::Cost;
use crate::rules::Diversity;

/// One request, page by page.
pub(super) struct Pages<'a, 'q, 'i> {
    pub(super) pools: Pools<'a, 'q, 'i>,
    /// The groups whose kept places each hit fills, by node; without those that fill none.
    held: FxHashMap<u32, Groups>,
}

impl<'a, 'q, 'i> Pages<'a, 'q, 'i> {
    /// `queries`: the vectors of `interests`, prepared.
    pub(super) fn new(
        interests: &'a [Interest<'q>],
        queries: &'a [Cow<'q, [f32]>],
        params: &'a SearchParams,
        rules: &'a NodeRules<'a>,
        watched: Option<NodeId>,
        workspace: &'a mut Workspace,
        interrupt: &'a mut Interrupt<'i>,
    ) -> Self {
        Self {
            pools: Pools {
                interests,
                queries,
                params,
                rules,
                watched,
                workspace,
                interrupt,
                cost: Cost::default(),
                stages: Stages::default(),
                plan: None,
                ef_search: 0,
                loss: Loss::NotReached,
            },
            held: FxHashMap::default(),
        }
    }

    pub(super) fn search(&mut self) -> Found {
        if !self.pools.rules.is_plain(self.pools.interests) {
            return self.search_from(Vec::new(), Plan::MatchScan);
        }
        let plain = self.pools.plain();
        let is_whole = plain.hits.len() == self.pools.params.k() && !self.pools.interrupt.has_stopped();
        if is_whole && self.pools.rules.offset > 0 {
            return self.search_from(plain.hits, plain.plan);
        }
        let found = Found { plan: plain.plan, is_plain: true, ..self.no_hits() };
        self.finish(found, plain.hits, Some(Shortfall::IndexExhausted))
    }

    /// Goes on after the hits that were `chosen` by `plan`.
    fn search_from(&mut self, mut chosen: Vec<Hit>, plan: Plan) -> Found {
        let (k, rules) = (self.pools.params.k(), self.pools.rules);
        let (is_diverse, has_pages) = (rules.diversity.lambda.is_some(), self.has_pages());
        let end = rules.offset + k;
        let mut room = Room::new(rules.diversity.max_similarity);
        chosen.iter().for_each(|hit| _ = room.take(rules, hit.node));
        let mut pool = Pool::empty();
        let (mut depth, mut depths) = (0, self.depths(0, &chosen));
        let mut draws = Draw::all(&self.pools);
        let mut quota = self.quota();
        let mut shortfall = None;
        while chosen.len() < end && shortfall.is_none() && !self.pools.interrupt.has_stopped() {
            // Pages up to twice the depth of the last pool share one: their order does not depend on which of them is
            // requested.
            let wanted = k * (chosen.len() / k + 1).next_power_of_two();
            if wanted != depth {
                let explored = if is_diverse { Diversity::CHOSEN_AMONG * wanted } else { wanted };
                pool = self.pools.pool(Source::All, explored, false);
                (depth, depths) = (wanted, self.depths(explored, &chosen));
                depths.main.reached = pool.reached;
            } else {
                depths.before.extend(chosen[depths.before.len()..].iter().map(|hit| hit.node.0));
                self.pools.interrupt.should_stop();
            }
            quota.size = if has_pages { k } else { wanted - chosen.len() };
            let drawn = Drawn::of(&mut draws, &mut self.pools, &depths.before, &quota, &mut room);
            let choice = self.choose_page(&mut pool, &mut depths, &quota, drawn, &mut room);
            self.hold(&choice.held);
            if choice.taken.len() < quota.size && !self.pools.interrupt.has_stopped() {
                shortfall = Some(self.shortfall(&choice, &chosen));
            }
            chosen.extend(choice.taken);
        }
        let found = Found { plan: self.pools.plan.unwrap_or(plan), ..self.no_hits() };
        self.finish(found, chosen, shortfall)
    }

    fn no_hits(&self) -> Found {
        Found {
            hits: Vec::new(),
            shortfall: None,
            cost: self.pools.cost,
            plan: Plan::MatchScan,
            is_plain: false,
            is_interrupted: self.pools.interrupt.has_stopped(),
            ef_search: self.pools.ef_search,
            stages: self.pools.stages,
            held: FxHashMap::default(),
            loss: None,
        }
    }

    /// Remembers whose places hits hold.
    fn hold(&mut self, held: &[(NodeId, Groups)]) {
        for (node, groups) in held {
            *self.held.entry(node.0).or_default() |= groups;
        }
    }

    /// Cuts the requested page out of the hits of all pages that were chosen.
    fn finish(&mut self, mut found: Found, chosen: Vec<Hit>, shortfall: Option<Shortfall>) -> Found {
        let (k, offset, watched) = (self.pools.params.k(), self.pools.rules.offset, self.pools.watched);
        let is_earlier = chosen.iter().take(offset).any(|hit| Some(hit.node) == watched);
        found.hits = chosen;
        if offset > 0 {
            found.hits.drain(..offset.min(found.hits.len()));
        }
        found.hits.truncate(k);
        if !offset.is_multiple_of(k) && self.pools.rules.diversity.lambda.is_none() {
            // Of two pages, each sorted by itself.
            self.pools.sort(&mut found.hits);
        }
        let is_lost = |node: &NodeId| found.hits.iter().all(|hit| hit.node != *node);
        found.loss = watched.filter(is_lost).map(|node| match (is_earlier, found.is_plain) {
            (true, _) => Loss::EarlierPage,
            (false, true) => self.pools.workspace.scratch.stage(node).into(),
            (false, false) => self.pools.loss,
        });
        found.held = std::mem::take(&mut self.held);
        found.shortfall = shortfall.filter(|_| found.hits.len() < k && !found.is_interrupted);
        found
    }

    /// One page of hits: those that were drawn for it, and others that are not on the pages before.
    fn choose_page(
        &mut self,
        pool: &mut Pool,
        depths: &mut Depths,
        quota: &Quota,
        mut drawn: Drawn,
        room: &mut Room,
    ) -> Choice {
        if drawn.hits.is_empty() {
            return self.choose_others(pool, depths, quota, &drawn, room);
        }
        let rest = drawn.rest(quota, self.pools.rules);
        depths.ranked = None;
        let mut choice = self.choose_others(pool, depths, &rest, &drawn, room);
        depths.ranked = None;
        choice.taken.append(&mut drawn.hits);
        choice.held.append(&mut drawn.held);
        if self.pools.rules.diversity.lambda.is_none() {
            self.pools.sort(&mut choice.taken);
        }
        choice
    }

    /// The hits of one page that are neither drawn nor on the pages before, from a pool that is deepened if it does not suffice.
    fn choose_others(
        &mut self,
        pool: &mut Pool,
        depths: &mut Depths,
        quota: &Quota,
        drawn: &Drawn,
        room: &mut Room,
    ) -> Choice {
        let rules = self.pools.rules;
        if let Some(lambda) = rules.diversity.lambda {
            return self.choose_diverse(lambda, pool, depths, quota, drawn, room);
        }
        let is_best = !rules.limits_room() && !self.pools.keeps_places();
        let Depths { main, kept, before, ceiling, ranked } = depths;
        loop {
            let began = self.pools.params.clock();
            let mut never = Interrupt::never();
            let interrupt =
                if self.pools.interrupt.has_stopped() { &mut never } else { &mut *self.pools.interrupt };
            let is_left = |hit: &Hit| {
                hit.score <= *ceiling
                    && (before.is_empty() || !before.contains(&hit.node.0))
                    && !drawn.contains(hit)
            };
            let choice = if is_best {
                choose_best(pool.hits.iter().filter(|hit| is_left(hit)), quota)
            } else {
                let ranked = ranked.get_or_insert_with(|| Ranked::of(&pool.hits, is_left, quota, rules));
                choose(&pool.hits, ranked, quota, rules, room, interrupt)
            };
            add_run(&mut self.pools.stages.choosing, began);
            if self.pools.interrupt.has_stopped() {
                return choice;
            }
            let is_short = choice.taken.len() < quota.size;
            let is_covered = main.covers(choice.lowest_plain);
            let is_all = pool.is_complete || choice.is_below && is_covered && pool.is_scanned;
            if is_short && is_all && *ceiling < f32::INFINITY {
                // Only the hits that were passed over are left. They come after the others.
                return with_passed_over(choice, pool, before, quota, rules, room);
            }
            if pool.is_complete {
                return choice;
            }
            if is_short && !choice.is_below || !is_covered {
                let deeper = self.deeper(main);
                (pool.is_complete, pool.is_scanned) = (deeper.is_complete, deeper.is_scanned);
                pool.reached = main.reached;
                self.merge(pool, deeper);
            } else if is_short && !pool.is_scanned {
                // A longer traversal would not find better hits, but there may be some that it does not reach.
                let scanned = self.pools.pool(Source::All, main.count, true);
                (pool.is_complete, pool.is_scanned) = (scanned.is_complete, true);
                self.merge(pool, scanned);
            } else {
                // A place may only go to a hit if no better one exists that it is kept for.
                let mut kept = kept.iter_mut().zip(&choice.filled);
                let unsettled = kept.find(|(kept, filled)| !main.covers(**filled) && !kept.covers(**filled));
                let Some((source, _)) = unsettled else { return choice };
                let deeper = self.deeper(source);
                self.merge(pool, deeper);
            }
            // The page is chosen again, from more hits.
            *ranked = None;
            choice.taken.iter().for_each(|hit| room.release(rules, hit.node));
        }
    }

    /// The places of one page. Their number is set page by page.
    fn quota(&self) -> Quota {
        let rules = self.pools.rules;
        Quota {
            size: 0,
            score_threshold: rules.score_threshold,
            kept: self.kept().map(|(_, at_least)| at_least).collect(),
            reserves: rules.reserves.len(),
        }
    }

    /// The groups that places may be kept for, and how many of a page are.
    fn kept(&self) -> impl Iterator<Item = (Source, usize)> {
        let reserve = |(at, reserve): (usize, &Reserve)| {
            // The places of a sampled one are filled before.
            (Source::Reserve(at), if reserve.sample.is_none() { reserve.at_least } else { 0 })
        };
        let interest = |(at, interest): (usize, &Interest<'_>)| (Source::Interest(at), interest.at_least);
        let reserves = self.pools.rules.reserves.iter().enumerate().map(reserve);
        reserves.chain(self.pools.interests.iter().enumerate().map(interest))
    }

    /// A pool of the same source with twice the depth. After one that had room for every node, it is a scan, and the last:
    /// this ends even where scores are not numbers, which no order covers.
    pub(super) fn deeper(&mut self, depth: &mut Depth) -> Pool {
        let nodes: usize = self.pools.rules.segments.iter().map(|segment| segment.index.len()).sum();
        let is_last = depth.count >= nodes;
        depth.count = depth.count.saturating_mul(2);
        let mut pool = self.pools.pool(depth.source, depth.count, is_last);
        pool.is_complete |= is_last;
        depth.reached = if pool.is_complete { f32::NEG_INFINITY } else { pool.reached };
        pool
    }

    pub(super) fn merge(&self, pool: &mut Pool, other: Pool) {
        let known: FxHashSet<u32> = pool.hits.iter().map(|hit| hit.node.0).collect();
        pool.hits.extend(other.hits.into_iter().filter(|hit| !known.contains(&hit.node.0)));
        self.pools.sort(&mut pool.hits);
    }

    /// Why the page after the hits that were `chosen` is short.
    fn shortfall(&self, choice: &Choice, chosen: &[Hit]) -> Shortfall {
        let rules = self.pools.rules;
        let all: usize = rules.segments.iter().map(Segment::matching).sum();
        let is_match = |seed: &&NodeId| {
            let located = rules.locate(**seed);
            located.segment.matches.is_none_or(|matches| matches.nodes.contains(located.node.0))
        };
        let seeds: FxHashSet<u32> = rules.seeds.iter().filter(is_match).map(|seed| seed.0).collect();
        if choice.is_below {
            Shortfall::ScoreThreshold
        } else if choice.is_capped {
            Shortfall::CapsExhausted
        } else if choice.is_similar {
            Shortfall::TooSimilar
        } else if chosen.len() + choice.taken.len() + seeds.len() < all {
            Shortfall::Excluded
        } else if rules.segments[0].matches.is_some() {
            Shortfall::TooFewMatches
        } else {
            Shortfall::IndexExhausted
        }
    }

    fn depths(&self, wanted: usize, chosen: &[Hit]) -> Depths {
        let depth = |(source, at_least)| Depth::new(source, at_least + chosen.len());
        Depths {
            main: Depth::new(Source::All, wanted),
            kept: self.kept().map(depth).collect(),
            before: chosen.iter().map(|hit| hit.node.0).collect(),
            ceiling: self.ceiling(chosen),
            ranked: None,
        }
    }

    /// Whether each page is chosen by itself, and not the next part of one order.
    fn has_pages(&self) -> bool {
        self.pools.rules.diversity.lambda.is_some() || self.pools.keeps_places()
    }

    /// The highest score on the page after the hits that were `chosen`.
    fn ceiling(&self, chosen: &[Hit]) -> f32 {
        chosen.last().filter(|_| !self.has_pages()).map_or(f32::INFINITY, |last| last.score)
    }
}

/// Fills the places that are left with hits that score more than those of an earlier page.
fn with_passed_over(
    mut choice: Choice,
    pool: &Pool,
    before: &FxHashSet<u32>,
    quota: &Quota,
    rules: &NodeRules<'_>,
    room: &mut Room,
) -> Choice {
    let taken: FxHashSet<u32> = choice.taken.iter().map(|hit| hit.node.0).collect();
    let is_left = |hit: &Hit| !before.contains(&hit.node.0) && !taken.contains(&hit.node.0);
    let quota = Quota { size: quota.size - taken.len(), ..quota.clone() };
    let rest = if !rules.limits_room() {
        choose_best(pool.hits.iter().filter(|hit| is_left(hit)), &quota)
    } else {
        let mut left = Ranked::of(&pool.hits, is_left, &quota, rules);
        choose(&pool.hits, &mut left, &quota, rules, room, &mut Interrupt::never())
    };
    choice.taken.extend(rest.taken);
    choice.is_capped |= rest.is_capped;
    choice.is_similar |= rest.is_similar;
    choice.is_below |= rest.is_below;
    choice
}

/// How deep each source was explored for a pool, and the hits that were chosen before.
pub(super) struct Depths {
    pub(super) main: Depth,
    /// `[groups]`: of the groups that places may be kept for.
    pub(super) kept: Vec<Depth>,
    pub(super) before: FxHashSet<u32>,
    /// Hits with a higher score are passed over.
    ceiling: f32,
    /// The hits of the pool that are left; `None` until a page is chosen from them.
    ranked: Option<Ranked>,
}

/// How deep one source was explored.
pub(super) struct Depth {
    source: Source,
    pub(super) count: usize,
    /// The score down to which every hit was found: infinite before the first exploration, negative infinite after a
    /// complete one.
    pub(super) reached: f32,
}

impl Depth {
    fn new(source: Source, count: usize) -> Self {
        Self { source, count: count.max(1), reached: f32::INFINITY }
    }

    /// Whether every hit with a better score was found.
    pub(super) fn covers(&self, score: f32) -> bool {
        self.reached == f32::NEG_INFINITY || score >= self.reached
    }
}
