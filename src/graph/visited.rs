//! The visited set: one bit per node, cleared by replaying what was set.

use crate::kernel::{Kernels, WORD_BITS};
use crate::node_set::NodeSet;

/// Which nodes a search has scored, in the order in which it met them.
#[derive(Debug, Default)]
pub struct VisitedSet {
    nodes: u32,
    words: Vec<u32>,
    /// The first `len` are the nodes in the set; what follows is room.
    met: Vec<u32>,
    len: usize,
    /// Whether bits are set of nodes that are not in the set, because it does not take them.
    is_restricted: bool,
}

impl VisitedSet {
    /// Empties the set and makes it hold nodes `0..nodes`.
    pub fn reset(&mut self, nodes: usize) {
        if self.is_restricted {
            self.words.fill(0);
            self.is_restricted = false;
        } else {
            for node in &self.met[..self.len] {
                self.words[*node as usize / WORD_BITS] = 0;
            }
        }
        self.len = 0;
        self.words.resize(nodes.div_ceil(WORD_BITS), 0);
        self.nodes = nodes as u32;
    }

    /// Empties the set and makes it take only nodes of `allowed`, and pass the others over.
    pub fn restrict_to(&mut self, allowed: &NodeSet) {
        self.restrict(allowed, |word| !word);
    }

    /// Empties the set and makes it pass over the nodes of `refused`.
    pub fn restrict_to_others(&mut self, refused: &NodeSet) {
        self.restrict(refused, |word| word);
    }

    /// A node that is not taken has its bit set, as if it had been met: so it costs nothing to pass it over.
    fn restrict(&mut self, set: &NodeSet, refused: impl Fn(u32) -> u32) {
        self.words.clear();
        self.words.extend(set.words().iter().map(|word| refused(*word)));
        self.len = 0;
        self.nodes = set.nodes() as u32;
        self.is_restricted = true;
    }

    /// Takes out the nodes that were added after there were `first`.
    pub fn forget_since(&mut self, first: usize) {
        for node in &self.met[first..self.len] {
            self.words[*node as usize / WORD_BITS] &= !(1 << (*node as usize % WORD_BITS));
        }
        self.len = first;
    }

    /// How many nodes are in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no node is in the set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The nodes that were added after there were `first`, in order.
    #[inline]
    pub fn met_since(&self, first: usize) -> &[u32] {
        &self.met[first..self.len]
    }

    /// Whether `node` is in the set. Looks at all that are.
    pub fn contains(&self, node: u32) -> bool {
        self.met[..self.len].contains(&node)
    }

    /// Adds `node` unless it is there already or lies outside the set.
    #[inline]
    pub fn insert(&mut self, node: u32) {
        if node < self.nodes {
            self.make_room(1);
            self.add(node);
        }
    }

    /// Adds those of `nodes` that are not there already and do not lie outside the set.
    ///
    /// Most neighbors were met before: the kernel passes them over many at a time, and only the others are
    /// looked at one by one, since a list may name a node twice.
    #[inline]
    pub fn insert_all(&mut self, nodes: &[u32]) {
        self.make_room(nodes.len());
        let first = self.len;
        let absent = Kernels::get().absent(&self.words, self.nodes, nodes, &mut self.met[first..]);
        for at in first..first + absent {
            self.add(self.met[at]);
        }
    }

    #[inline]
    fn make_room(&mut self, nodes: usize) {
        if self.met.len() < self.len + nodes {
            self.met.resize((2 * self.len).max(self.len + nodes).max(256), 0);
        }
    }

    /// Written down either way, and counted only if it is new: no branch predictor knows.
    #[inline]
    fn add(&mut self, node: u32) {
        let word = &mut self.words[node as usize / WORD_BITS];
        let is_new = !*word >> (node as usize % WORD_BITS) & 1;
        *word |= 1 << (node as usize % WORD_BITS);
        self.met[self.len] = node;
        self.len += is_new as usize;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_each_node_once_in_order_of_arrival(
            rounds in prop::collection::vec((1usize..300, prop::collection::vec(0u32..400, 0..600)), 1..5),
            step in 1usize..70,
        ) {
            let mut set = VisitedSet::default();
            for (nodes, arrivals) in rounds {
                set.reset(nodes);
                let mut seen = HashSet::new();
                let expected: Vec<u32> =
                    arrivals.iter().copied().filter(|node| (*node as usize) < nodes && seen.insert(*node)).collect();
                for nodes in arrivals.chunks(step) {
                    match nodes {
                        [node] => set.insert(*node),
                        nodes => set.insert_all(nodes),
                    }
                }
                prop_assert_eq!(set.met_since(0), &expected[..]);
                prop_assert_eq!(set.len(), expected.len());
            }
        }
    }
}
