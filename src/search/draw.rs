//! Hits drawn for the places of sampled reserves.
//!
//! What flows in: the matches of a reserve, in the order in which they are drawn. What flows out: the hits that get its places on
//! one page. They are taken before the other hits of the page. A hit that several reserves draw gets a place of each.

use rustc_hash::FxHashSet;

use super::hit::Hit;
use super::pool::{Pools, Source};
use super::quota::{Groups, HitKeys, Quota, positions};
use super::room::Room;
use super::rules::Reserve;
use crate::base::id::{NodeId, VideoId};
use crate::rules::Sample;

/// A repeated exploration finds this many times as many hits.
const GROWTH: usize = 4;

/// One sampled reserve.
pub(super) struct Draw {
    reserve: usize,
    at_least: usize,
    sample: Sample,
    /// How many hits were asked for.
    count: usize,
    /// In the order in which they are drawn.
    hits: Vec<Hit>,
    /// Whether these are all that pass the rules.
    is_complete: bool,
}

/// The hits that were drawn for one page.
#[derive(Default)]
pub(super) struct Drawn {
    pub(super) hits: Vec<Hit>,
    /// The groups whose kept places each fills.
    pub(super) held: Vec<(NodeId, Groups)>,
    nodes: FxHashSet<u32>,
}

impl Draw {
    /// The sampled reserves that places are kept for.
    pub(super) fn all(pools: &Pools<'_, '_, '_>) -> Vec<Self> {
        let draw = |(reserve, of): (usize, &Reserve)| {
            let sample = of.sample.filter(|_| of.at_least > 0)?;
            let (at_least, hits) = (of.at_least, Vec::new());
            Some(Self { reserve, at_least, sample, count: 0, hits, is_complete: false })
        };
        pools.rules.reserves.iter().enumerate().filter_map(draw).collect()
    }

    /// Takes the hits of one page: not those that were chosen `before`, nor those that score too little or have no room.
    fn take(
        &mut self,
        pools: &mut Pools<'_, '_, '_>,
        before: &FxHashSet<u32>,
        quota: &Quota,
        room: &mut Room,
        drawn: &mut Drawn,
    ) {
        let mut left = self.at_least;
        let mut considered = FxHashSet::default();
        loop {
            let rules = pools.rules;
            drawn.take(&self.hits, self.reserve, &mut left, |hit, is_drawn| {
                !before.contains(&hit.node.0)
                    && !quota.is_below(hit)
                    && considered.insert(hit.node.0)
                    && (is_drawn || room.take(rules, hit.node).is_ok())
            });
            if left == 0 || self.is_complete || pools.interrupt.has_stopped() {
                return;
            }
            let first = self.at_least + before.len();
            self.count = (GROWTH * self.count).max(first);
            (self.hits, self.is_complete) = pools.drawn(self.reserve, self.sample, self.count);
        }
    }
}

impl Drawn {
    /// Draws the hits of one page.
    pub(super) fn of(
        draws: &mut [Draw],
        pools: &mut Pools<'_, '_, '_>,
        before: &FxHashSet<u32>,
        quota: &Quota,
        room: &mut Room,
    ) -> Self {
        let mut drawn = Self::default();
        for draw in draws {
            draw.take(pools, before, quota, room, &mut drawn);
        }
        drawn
    }

    /// Takes hits for a reserve, in the order in which they are drawn, until `left` is 0. `accept`: whether a hit may be taken, which is
    /// told whether it was drawn for another reserve.
    pub(super) fn take(
        &mut self,
        hits: &[Hit],
        reserve: usize,
        left: &mut usize,
        mut accept: impl FnMut(&Hit, bool) -> bool,
    ) {
        for hit in hits {
            if *left == 0 {
                return;
            }
            let is_drawn = self.nodes.contains(&hit.node.0);
            if !accept(hit, is_drawn) {
                continue;
            }
            if !is_drawn {
                self.nodes.insert(hit.node.0);
                self.hits.push(*hit);
            }
            self.held.push((hit.node, 1 << reserve));
            *left -= 1;
        }
    }

    /// Whether a hit was drawn.
    pub(super) fn contains(&self, hit: &Hit) -> bool {
        !self.nodes.is_empty() && self.nodes.contains(&hit.node.0)
    }

    /// The places that are left on the page. The hits that were drawn fill places of other groups, too.
    pub(super) fn rest(&mut self, quota: &Quota, keys: &impl HitKeys) -> Quota {
        let mut rest = Quota { size: quota.size - self.hits.len(), ..quota.clone() };
        for hit in &self.hits {
            let filled = rest.groups(hit, rest.open(), keys);
            positions(filled).for_each(|group| rest.kept[group] -= 1);
            if filled > 0 {
                self.held.push((hit.node, filled));
            }
        }
        rest
    }
}

impl Pools<'_, '_, '_> {
    /// The first `count` hits that are drawn from a reserve, in this order, and whether these are all that pass the rules.
    fn drawn(&mut self, reserve: usize, sample: Sample, count: usize) -> (Vec<Hit>, bool) {
        let pool = self.pool(Source::Drawn(reserve), count, false);
        let keyed = |hit: Hit| {
            let video = self.rules.video_id(hit.node);
            (sample.key(hit.score, video), video, hit)
        };
        let mut keyed: Vec<(f64, VideoId, Hit)> = pool.hits.into_iter().map(keyed).collect();
        keyed.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        let mut hits: Vec<Hit> = keyed.into_iter().map(|(_, _, hit)| hit).collect();
        if !pool.is_complete {
            hits.truncate(count);
        }
        (hits, pool.is_complete)
    }
}
