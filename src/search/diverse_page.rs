//! Pages by maximal marginal relevance, from pools.

use rustc_hash::FxHashSet;

use super::among::Among;
use super::choose::Choice;
use super::diverse::Page;
use super::draw::Drawn;
use super::hit::Hit;
use super::pages::{Depth, Depths, Pages};
use super::pool::{Pool, Source};
use super::quota::Quota;
use super::room::Room;
use super::stages::add_run;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;

impl Pages<'_, '_, '_> {
    /// The hits of one page that are neither drawn nor on the pages before, by maximal marginal relevance.
    pub(super) fn choose_diverse(
        &mut self,
        lambda: f32,
        pool: &mut Pool,
        depths: &mut Depths,
        quota: &Quota,
        drawn: &Drawn,
        room: &mut Room,
    ) -> Choice {
        let rules = self.pools.rules;
        let mut page = Page::new(quota);
        // Hits that were taken, or have no room on the page.
        let mut gone: FxHashSet<u32> = FxHashSet::default();
        loop {
            let is_left = |hit: &&Hit| {
                !depths.before.contains(&hit.node.0) && !drawn.contains(hit) && !gone.contains(&hit.node.0)
            };
            let mut left: Vec<Hit> = pool.hits.iter().filter(is_left).copied().collect();
            let above = left.partition_point(|hit| !quota.is_below(hit));
            let is_below = above < left.len();
            left.truncate(above);
            let count = left.len();
            left.retain(|hit| room.fits_caps(rules, hit.node));
            page.choice.is_capped |= left.len() < count;
            let among = Among::of(&left, &page.rest, rules);
            let is_late = self.pools.interrupt.has_stopped();
            if !is_late && self.explores(&among, is_below, pool, depths) {
                continue;
            }
            let began = self.pools.params.clock();
            let mut never = Interrupt::never();
            // What is late is chosen by scores, which takes next to no time.
            let (lambda, interrupt) =
                if is_late { (1.0, &mut never) } else { (lambda, &mut *self.pools.interrupt) };
            let before = depths.before.iter().map(|node| NodeId(*node));
            let before = before.chain(drawn.hits.iter().map(|hit| hit.node));
            page.choose(&among, before, lambda, rules, room, interrupt);
            add_run(&mut self.pools.stages.choosing, began);
            if page.rest.size == 0 || among.is_all || is_late {
                page.choice.is_below = is_below;
                return page.choice;
            }
            gone.extend(among.refused(rules, room));
            gone.extend(page.choice.taken.iter().map(|hit| hit.node.0));
        }
    }

    /// Adds hits to the pool if some may be missing that the page must be chosen among. Returns whether there were any to look for.
    fn explores(&mut self, among: &Among, is_below: bool, pool: &mut Pool, depths: &mut Depths) -> bool {
        if pool.is_complete {
            return false;
        }
        let threshold = self.pools.rules.score_threshold.filter(|_| is_below);
        // If the hits down to the threshold are known, there are no more.
        let lowest = |lowest: f32| match threshold {
            Some(threshold) if lowest == f32::NEG_INFINITY => threshold,
            _ => lowest,
        };
        let Depths { main, kept, .. } = depths;
        if !main.covers(lowest(among.lowest)) {
            let deeper = self.deeper(main);
            (pool.is_complete, pool.is_scanned) = (deeper.is_complete, deeper.is_scanned);
            pool.reached = main.reached;
            self.merge(pool, deeper);
            return true;
        }
        if among.lowest == f32::NEG_INFINITY && !pool.is_scanned {
            // A longer traversal would not find better hits, but there may be some that it does not reach.
            let scanned = self.pools.pool(Source::All, main.count, true);
            (pool.is_complete, pool.is_scanned) = (scanned.is_complete, true);
            self.merge(pool, scanned);
            return true;
        }
        let is_unknown =
            |(depth, of): &(&mut Depth, &f32)| !main.covers(lowest(**of)) && !depth.covers(lowest(**of));
        let mut groups = kept.iter_mut().zip(&among.lowest_of);
        let Some((depth, _)) = groups.find(is_unknown) else { return false };
        let deeper = self.deeper(depth);
        self.merge(pool, deeper);
        true
    }
}
