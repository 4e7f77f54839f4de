//! The visited set: one bit per node. Clearing it resets only the bits that were set.

use crate::kernel::{Kernels, WORD_BITS};
use crate::node_set::NodeSet;

/// The nodes that a search has scored, in the order in which they were visited.
#[derive(Debug, Default)]
pub struct VisitedSet {
    nodes: u32,
    words: Vec<u32>,
    /// The first `len` are the nodes in the set. The rest is spare memory.
    visited: Vec<u32>,
    len: usize,
    /// Whether the bits of refused nodes are set although they are not in the set.
    is_restricted: bool,
}

impl VisitedSet {
    /// Empties the set and makes it accept the nodes `0..nodes`.
    pub fn reset(&mut self, nodes: usize) {
        if self.is_restricted {
            self.words.fill(0);
            self.is_restricted = false;
        } else {
            for node in &self.visited[..self.len] {
                self.words[*node as usize / WORD_BITS] = 0;
            }
        }
        self.len = 0;
        self.words.resize(nodes.div_ceil(WORD_BITS), 0);
        self.nodes = nodes as u32;
    }

    /// Empties the set and makes it accept only nodes of `allowed`. Others are ignored.
    pub fn restrict_to(&mut self, allowed: &NodeSet) {
        self.restrict(allowed, |word| !word);
    }

    /// Empties the set and makes it ignore the nodes of `refused`.
    pub fn restrict_to_others(&mut self, refused: &NodeSet) {
        self.restrict(refused, |word| word);
    }

    /// The bit of a refused node is set as if the node had been visited, so that refusing it costs nothing.
    fn restrict(&mut self, set: &NodeSet, refused: impl Fn(u32) -> u32) {
        self.words.clear();
        self.words.extend(set.words().iter().map(|word| refused(*word)));
        self.len = 0;
        self.nodes = set.nodes() as u32;
        self.is_restricted = true;
    }

    /// Removes the nodes that were added after the first `first`.
    pub fn forget_since(&mut self, first: usize) {
        for node in &self.visited[first..self.len] {
            self.words[*node as usize / WORD_BITS] &= !(1 << (*node as usize % WORD_BITS));
        }
        self.len = first;
    }

    /// The number of nodes in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The nodes that were added after the first `first`, in order.
    #[inline]
    pub fn since(&self, first: usize) -> &[u32] {
        &self.visited[first..self.len]
    }

    /// Whether `node` is in the set. Takes time in proportion to the size of the set.
    pub fn contains(&self, node: u32) -> bool {
        self.visited[..self.len].contains(&node)
    }

    /// Adds `node`, unless it is refused or in the set already.
    #[inline]
    pub fn insert(&mut self, node: u32) {
        if node < self.nodes {
            self.make_room(1);
            self.add(node);
        }
    }

    /// Adds the `nodes` that are neither refused nor in the set already.
    ///
    /// Most neighbors were visited before: a SIMD kernel skips these, and only the others are added one by one, since a
    /// list may contain a node twice.
    #[inline]
    pub fn insert_all(&mut self, nodes: &[u32]) {
        self.make_room(nodes.len());
        let first = self.len;
        let absent = Kernels::get().absent(&self.words, self.nodes, nodes, &mut self.visited[first..]);
        for at in first..first + absent {
            self.add(self.visited[at]);
        }
    }

    #[inline]
    fn make_room(&mut self, nodes: usize) {
        if self.visited.len() < self.len + nodes {
            self.visited.resize((2 * self.len).max(self.len + nodes).max(256), 0);
        }
    }

    /// Branch-free: always store `node`; advance `len` only if it is new (the branch would be unpredictable).
    #[inline]
    fn add(&mut self, node: u32) {
        let word = &mut self.words[node as usize / WORD_BITS];
        let is_new = !*word >> (node as usize % WORD_BITS) & 1;
        *word |= 1 << (node as usize % WORD_BITS);
        self.visited[self.len] = node;
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
                prop_assert_eq!(set.since(0), &expected[..]);
                prop_assert_eq!(set.len(), expected.len());
            }
        }
    }
}
