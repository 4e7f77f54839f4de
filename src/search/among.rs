//! The hits that a page by maximal marginal relevance is chosen among.
//!
//! A page is chosen among the best 3 × k hits that are left, and the best 3 × n of each group that n places are kept for. If these leave
//! places free, since caps or similar hits keep them out, the rest of the page is chosen among the next ones. Thus the
//! number of embeddings that are compared at a time has a limit, however many hits have no room.

use super::hit::Hit;
use super::quota::{Groups, HitKeys, Quota};
use super::room::Room;
use crate::rules::Diversity;

/// The hits that a page, or the rest of it, is chosen among.
pub(super) struct Among {
    /// Best first.
    pub(super) hits: Vec<Hit>,
    /// Down to which score all hits must be known; negative infinite if all must be.
    pub(super) lowest: f32,
    /// `[groups]`: the same for the hits of each group; infinite if no places are kept for it.
    pub(super) lowest_of: Vec<f32>,
    /// Whether these are all hits that are left.
    pub(super) is_all: bool,
    /// `[groups]`: whether all hits of a group are among them.
    pub(super) has_all_of: Vec<bool>,
}

impl Among {
    /// The best of those that are `left`, best first, for the places of `quota`.
    pub(super) fn of(left: &[Hit], quota: &Quota, keys: &impl HitKeys) -> Self {
        let open = quota.open();
        let groups: Vec<Groups> = match open {
            0 => Vec::new(),
            _ => left.iter().map(|hit| quota.groups(hit, open, keys)).collect(),
        };
        let of_group = |group: usize| {
            groups.iter().enumerate().filter(move |(_, of)| **of >> group & 1 != 0).map(|(at, _)| at)
        };
        let mut is_among = vec![false; left.len()];
        let mut add = |all: &mut dyn Iterator<Item = usize>, places: usize| {
            let wanted = Diversity::CHOSEN_AMONG.saturating_mul(places);
            let (mut count, mut lowest) = (0, f32::INFINITY);
            for at in all.take(wanted) {
                is_among[at] = true;
                (count, lowest) = (count + 1, left[at].score);
            }
            if count < wanted { f32::NEG_INFINITY } else { lowest }
        };
        let lowest = add(&mut (0..left.len()), quota.size);
        let kept = quota.kept.iter().enumerate();
        let lowest_of = kept.map(|(group, places)| add(&mut of_group(group), *places)).collect();
        let has_all = |group: usize| of_group(group).all(|at| is_among[at]);
        Self {
            has_all_of: (0..quota.kept.len()).map(has_all).collect(),
            is_all: is_among.iter().all(|is_among| *is_among),
            hits: left
                .iter()
                .zip(&is_among)
                .filter(|(_, is_among)| **is_among)
                .map(|(hit, _)| *hit)
                .collect(),
            lowest,
            lowest_of,
        }
    }

    /// Those that have no room now. Hits that were taken have none, either, if hits must differ.
    pub(super) fn refused<'a>(
        &'a self,
        keys: &'a impl HitKeys,
        room: &'a mut Room,
    ) -> impl Iterator<Item = u32> + 'a {
        self.hits.iter().filter(|hit| !room.fits(keys, hit.node)).map(|hit| hit.node.0)
    }
}
