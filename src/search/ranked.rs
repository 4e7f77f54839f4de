//! Ranked hits that one page after another is chosen from.
//!
//! Hits are grouped in lanes: the hits of one lane may fill the same kept places. So the next hit that may be taken is the
//! first of some lane, and a page costs as many steps as it takes hits, however many hits it passes over.

use rustc_hash::FxHashMap;

use super::hit::Hit;
use super::quota::{Groups, HitKeys, Quota};
use super::room::Full;

/// The hits that are left, by lane. Knows their places in the order of all hits, and not the hits themselves.
pub(super) struct Ranked {
    lanes: Vec<Lane>,
    /// One more than the place of the last hit that may be taken.
    pub(super) end: u32,
    /// Whether the hit at `end` scores below the threshold.
    pub(super) is_cut: bool,
    /// Whether a hit was removed because a cap had no room for it.
    pub(super) is_capped: bool,
    /// Whether a hit was removed because it was too similar to one that was taken.
    pub(super) is_similar: bool,
}

/// Hits that may fill the same kept places.
struct Lane {
    /// The groups whose places they may fill.
    groups: Groups,
    /// The places of its hits, ascending.
    places: Vec<u32>,
    /// `[places + 1]`: from each hit, towards the first one that is left.
    next: Vec<u32>,
}

/// A hit that is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) place: u32,
    lane: usize,
    at: u32,
}

impl Ranked {
    /// Ranks `hits`, best first, without those for which `is_left` is false.
    pub(super) fn of(
        hits: &[Hit],
        is_left: impl Fn(&Hit) -> bool,
        quota: &Quota,
        keys: &impl HitKeys,
    ) -> Self {
        let open = quota.open();
        let mut lanes: Vec<Lane> = Vec::new();
        let mut of_groups: FxHashMap<Groups, usize> = FxHashMap::default();
        let (mut end, mut is_cut) = (hits.len() as u32, false);
        for (place, hit) in hits.iter().enumerate() {
            if !is_left(hit) {
                continue;
            }
            if quota.is_below(hit) {
                (end, is_cut) = (place as u32, true);
                break;
            }
            let groups = quota.groups(hit, open, keys);
            let lane = *of_groups.entry(groups).or_insert_with(|| {
                lanes.push(Lane { groups, places: Vec::new(), next: Vec::new() });
                lanes.len() - 1
            });
            lanes[lane].places.push(place as u32);
        }
        lanes.iter_mut().for_each(|lane| lane.next = (0..=lane.places.len() as u32).collect());
        Self { lanes, end, is_cut, is_capped: false, is_similar: false }
    }

    /// The first hit left from place `from` on. `is_wanted`: whether the hits of a lane with these groups may be taken. `ahead`, `[lanes]`:
    /// how far earlier calls got, whose `from` was not larger; empty at first.
    pub(super) fn next(
        &mut self,
        from: u32,
        ahead: &mut Vec<u32>,
        is_wanted: impl Fn(Groups) -> bool,
    ) -> Option<Left> {
        ahead.resize(self.lanes.len(), 0);
        let mut best: Option<Left> = None;
        for (number, (lane, ahead)) in self.lanes.iter_mut().zip(ahead).enumerate() {
            if !is_wanted(lane.groups) {
                continue;
            }
            if lane.places.get(*ahead as usize).is_some_and(|place| *place < from) {
                *ahead += lane.places[*ahead as usize..].partition_point(|place| *place < from) as u32;
            }
            *ahead = lane.first_left(*ahead);
            if let Some(place) = lane.places.get(*ahead as usize).copied()
                && best.is_none_or(|best| place < best.place)
            {
                best = Some(Left { place, lane: number, at: *ahead });
            }
        }
        best
    }

    /// The first hit left, if its place is before `until`.
    pub(super) fn first_before(&mut self, until: u32) -> Option<Left> {
        let mut best: Option<Left> = None;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let at = lane.first_left(0);
            let most = best.map_or(until, |best| best.place);
            if let Some(place) = lane.places.get(at as usize).copied().filter(|place| *place < most) {
                best = Some(Left { place, lane: number, at });
            }
        }
        best
    }

    /// The groups whose places a hit may fill.
    pub(super) fn groups(&self, left: Left) -> Groups {
        self.lanes[left.lane].groups
    }

    /// Remembers why a hit that was removed has no room.
    pub(super) fn refused(&mut self, full: Full) {
        match full {
            Full::Cap => self.is_capped = true,
            Full::Similar => self.is_similar = true,
        }
    }

    /// Removes a hit: it was taken, or has no room, and never has any again.
    pub(super) fn remove(&mut self, left: Left) {
        self.lanes[left.lane].next[left.at as usize] = left.at + 1;
    }
}

impl Lane {
    /// The first hit from `at` on that is left; the number of hits if none is.
    fn first_left(&mut self, at: u32) -> u32 {
        let next = &mut self.next;
        let mut at = at as usize;
        while next[at] as usize != at {
            // Halves the path, so that long runs of removed hits are skipped in few steps.
            next[at] = next[next[at] as usize];
            at = next[at] as usize;
        }
        at as u32
    }
}
