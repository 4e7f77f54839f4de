//! Which of many ranked hits are returned: caps, kept places, threshold.
//!
//! From the best hit down, a hit is taken if it has room and enough places stay free for the hits that they
//! are kept for. If kept places cannot be filled, or one hit fills two of them, the free places go to the best of the hits
//! that were passed over.
//!
//! Choosing knows hits only by what [`HitKeys`] says of them, and no index: merged answers of several servers can be
//! chosen from in the same way.

use super::hit::Hit;
use super::quota::{Groups, HitKeys, Quota, positions};
use super::ranked::Ranked;
use super::room::Room;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;

/// The chosen hits, and what kept others out.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    /// In the order of the ranked hits.
    pub(super) taken: Vec<Hit>,
    /// The groups whose kept places a hit fills, for those that fill any.
    pub(super) held: Vec<(NodeId, Groups)>,
    /// `[groups]`: the score of the hit that filled the last place kept for each: infinite if none is kept, negative infinite
    /// if one stayed free.
    pub(super) filled: Vec<f32>,
    /// The lowest score of a hit that was taken in its turn and filled no kept place; infinite if no hit was.
    pub(super) lowest_plain: f32,
    /// Whether a cap had no room for a hit.
    pub(super) is_capped: bool,
    /// Whether a hit was too similar to one that was taken.
    pub(super) is_similar: bool,
    /// Whether a hit scores below the threshold.
    pub(super) is_below: bool,
}

/// Hits that are considered between two checks of the interrupt.
const CONSIDERED_AT_ONCE: usize = 1024;

/// Chooses the best of `ranked`, best first, for a request without caps and kept places.
pub(super) fn choose_best<'h>(ranked: impl Iterator<Item = &'h Hit>, quota: &Quota) -> Choice {
    let mut is_below = false;
    let best = ranked.take(quota.size).take_while(|hit| {
        is_below = quota.is_below(hit);
        !is_below
    });
    let taken: Vec<Hit> = best.copied().collect();
    let lowest_plain = taken.last().map_or(f32::INFINITY, |last| last.score);
    let filled = vec![f32::INFINITY; quota.kept.len()];
    let (held, is_capped, is_similar) = (Vec::new(), false, false);
    Choice { taken, held, filled, lowest_plain, is_capped, is_similar, is_below }
}

/// Chooses one page from the hits that are left in `ranked`, which are places of `hits`, where there is `room`. Removes
/// the hits that it takes. An interrupt ends it early, with fewer hits.
pub(super) fn choose(
    hits: &[Hit],
    ranked: &mut Ranked,
    quota: &Quota,
    keys: &impl HitKeys,
    room: &mut Room,
    interrupt: &mut Interrupt<'_>,
) -> Choice {
    let k = quota.size;
    let (mut unmet, mut open) = (quota.kept.clone(), quota.open());
    let mut kept: usize = unmet.iter().sum();
    let at_first = |unmet: &usize| if *unmet > 0 { f32::NEG_INFINITY } else { f32::INFINITY };
    let mut filled: Vec<f32> = unmet.iter().map(at_first).collect();
    let (mut held, mut lowest_plain) = (Vec::new(), f32::INFINITY);
    let mut taken: Vec<u32> = Vec::with_capacity(k.min(hits.len()));
    let (mut from, mut ahead, mut considered) = (0, Vec::new(), 0usize);
    let is_full = |taken: &Vec<u32>| taken.len() == k;
    while !is_full(&taken) {
        considered += 1;
        if considered.is_multiple_of(CONSIDERED_AT_ONCE) && interrupt.should_stop() {
            break;
        }
        // A hit is passed over if the places that are left are kept for others.
        let left = k - taken.len() - 1;
        let fills = |groups: Groups| (groups & open).count_ones() as usize;
        let next = ranked.next(from, &mut ahead, |groups| left + fills(groups) >= kept);
        let Some(next) = next else {
            from = ranked.end;
            break;
        };
        from = next.place + 1;
        ranked.remove(next);
        let hit = hits[next.place as usize];
        room.read_ahead(keys, &hits[next.place as usize + 1..]);
        if let Err(full) = room.take(keys, hit.node) {
            ranked.refused(full);
            continue;
        }
        taken.push(next.place);
        let filling = ranked.groups(next) & open;
        match filling {
            0 => lowest_plain = hit.score,
            _ => held.push((hit.node, filling)),
        }
        for group in positions(filling) {
            (kept, unmet[group]) = (kept - 1, unmet[group] - 1);
            if unmet[group] == 0 {
                open &= !(1 << group);
                filled[group] = hit.score;
            }
        }
        while k - taken.len() > kept && fill_up(hits, ranked, from, keys, room, &mut taken) {}
    }
    let is_below = ranked.is_cut && from == ranked.end && !is_full(&taken);
    while !is_full(&taken) && fill_up(hits, ranked, from, keys, room, &mut taken) {}
    taken.sort_unstable();
    let taken = taken.into_iter().map(|place| hits[place as usize]).collect();
    let Ranked { is_capped, is_similar, .. } = *ranked;
    Choice { taken, held, filled, lowest_plain, is_capped, is_similar, is_below }
}

/// Takes the best hit before place `until` that was passed over, if a cap has room. Returns false if there is none.
fn fill_up(
    hits: &[Hit],
    ranked: &mut Ranked,
    until: u32,
    keys: &impl HitKeys,
    room: &mut Room,
    taken: &mut Vec<u32>,
) -> bool {
    let Some(first) = ranked.first_before(until) else { return false };
    ranked.remove(first);
    match room.take(keys, hits[first.place as usize].node) {
        Ok(()) => taken.push(first.place),
        Err(full) => ranked.refused(full),
    }
    true
}

#[cfg(test)]
mod tests;
