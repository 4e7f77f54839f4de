//! How many places of each cap are taken.

use rustc_hash::FxHashMap;

use super::quota::HitKeys;
use crate::base::id::NodeId;

/// How many places of each cap are taken.
#[derive(Debug, Default)]
pub(super) struct CapCounters {
    /// By cap and key.
    taken: FxHashMap<(u32, u64), usize>,
    keys: Vec<u64>,
}

impl CapCounters {
    /// The first cap that has no room for a hit.
    pub(super) fn full_cap(&mut self, of: &impl HitKeys, node: NodeId) -> Option<usize> {
        for (cap, max) in of.max_per_key().enumerate() {
            self.look_up(of, cap, node);
            let is_full = |key: &u64| self.taken.get(&(cap as u32, *key)).is_some_and(|taken| *taken >= max);
            if self.keys.iter().any(is_full) {
                return Some(cap);
            }
        }
        None
    }

    /// Takes a place under every cap and returns true; or false, and no place, if a cap has no room.
    pub(super) fn take(&mut self, of: &impl HitKeys, node: NodeId) -> bool {
        if self.full_cap(of, node).is_some() {
            return false;
        }
        for cap in 0..of.max_per_key().len() {
            self.look_up(of, cap, node);
            for key in &self.keys {
                *self.taken.entry((cap as u32, *key)).or_default() += 1;
            }
        }
        true
    }

    /// Gives back the places of a hit that took them.
    pub(super) fn release(&mut self, of: &impl HitKeys, node: NodeId) {
        for cap in 0..of.max_per_key().len() {
            self.look_up(of, cap, node);
            for key in &self.keys {
                self.taken.entry((cap as u32, *key)).and_modify(|taken| *taken -= 1);
            }
        }
    }

    /// The caps and keys that have no room.
    #[cfg(feature = "cluster")]
    pub(super) fn full(&self, of: &impl HitKeys) -> Vec<(usize, u64)> {
        let most: Vec<usize> = of.max_per_key().collect();
        let is_full = |(cap, taken): (u32, usize)| most.get(cap as usize).is_some_and(|most| taken >= *most);
        let full = self.taken.iter().filter(|((cap, _), taken)| is_full((*cap, **taken)));
        let mut full: Vec<(usize, u64)> = full.map(|((cap, key), _)| (*cap as usize, *key)).collect();
        full.sort_unstable();
        full
    }

    fn look_up(&mut self, of: &impl HitKeys, cap: usize, node: NodeId) {
        self.keys.clear();
        of.append_keys(cap, node, &mut self.keys);
    }
}
