//! A set of nodes: one bit each.

use std::cell::RefCell;

use crate::kernel::{Kernels, WORD_BITS};

/// Buffers of dropped sets that each thread keeps for its next sets: memory that the system allocates anew for every
/// request costs more than the work on it.
const SPARE_SETS: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

/// A set of the nodes `0..nodes`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NodeSet {
    nodes: usize,
    /// `[nodes / 32, rounded up]`, the least significant bit first; bits beyond the nodes are 0.
    words: Vec<u32>,
}

/// A set of nodes with its size. `S`: a [`NodeSet`] or a reference to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedSet<S = NodeSet> {
    /// The nodes.
    pub nodes: S,
    /// How many there are.
    pub count: usize,
}

impl CountedSet {
    /// Counts the nodes of a set.
    pub fn new(nodes: NodeSet) -> Self {
        let count = nodes.count();
        Self { nodes, count }
    }

    /// The set, borrowed.
    pub fn as_ref(&self) -> CountedSet<&NodeSet> {
        CountedSet { nodes: &self.nodes, count: self.count }
    }
}

impl NodeSet {
    /// No nodes of `0..nodes`.
    pub fn none(nodes: usize) -> Self {
        Self::filled(nodes, 0)
    }

    /// A set over `0..nodes` with arbitrary content, for callers that overwrite every word: it is not cleared.
    pub fn any(nodes: usize) -> Self {
        let mut words = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        words.resize(nodes.div_ceil(WORD_BITS), 0);
        let mut set = Self { nodes, words };
        set.trim();
        set
    }

    fn filled(nodes: usize, word: u32) -> Self {
        let mut set = Self::any(nodes);
        set.words.fill(word);
        set
    }

    /// All nodes of `0..nodes`.
    pub fn all(nodes: usize) -> Self {
        let mut set = Self::filled(nodes, u32::MAX);
        set.trim();
        set
    }

    /// The size of the universe: the nodes are `0..nodes`.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The number of nodes in the set. Counts them.
    pub fn count(&self) -> usize {
        Kernels::get().count_ones(&self.words)
    }

    /// Whether no node is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether `node` is in the set.
    #[inline]
    pub fn contains(&self, node: u32) -> bool {
        self.words
            .get(node as usize / WORD_BITS)
            .is_some_and(|word| word >> (node as usize % WORD_BITS) & 1 != 0)
    }

    /// Adds `node`.
    ///
    /// # Panics
    /// If there is no such node.
    #[inline]
    pub fn insert(&mut self, node: u32) {
        self.words[node as usize / WORD_BITS] |= 1 << (node as usize % WORD_BITS);
    }

    /// Removes `node`.
    ///
    /// # Panics
    /// If there is no such node.
    #[inline]
    pub fn remove(&mut self, node: u32) {
        self.words[node as usize / WORD_BITS] &= !(1 << (node as usize % WORD_BITS));
    }

    /// Removes the nodes that are not in `other`.
    ///
    /// # Panics
    /// If the sets have different universes.
    pub fn intersect(&mut self, other: &NodeSet) {
        assert_eq!(self.nodes, other.nodes, "the sets differ in the number of nodes");
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    /// Adds the nodes of `other`.
    ///
    /// # Panics
    /// If the sets have different universes.
    pub fn unite(&mut self, other: &NodeSet) {
        assert_eq!(self.nodes, other.nodes, "the sets differ in the number of nodes");
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Removes the nodes of `other`.
    ///
    /// # Panics
    /// If the sets have different universes.
    pub fn subtract(&mut self, other: &NodeSet) {
        assert_eq!(self.nodes, other.nodes, "the sets differ in the number of nodes");
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    /// Replaces the set by its complement.
    pub fn invert(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.trim();
    }

    /// The smallest node of the set that is at least `node`.
    pub fn first_from(&self, node: u32) -> Option<u32> {
        let at = node as usize / WORD_BITS;
        let (first, rest) = self.words.get(at..)?.split_first()?;
        let first = first & (!0 << (node as usize % WORD_BITS));
        let mut words = (at..).zip(std::iter::once(&first).chain(rest));
        let (at, word) = words.find(|(_, word)| **word != 0)?;
        Some(at as u32 * WORD_BITS as u32 + word.trailing_zeros())
    }

    /// The nodes, ascending.
    pub fn iter(&self) -> Nodes<'_> {
        Nodes { words: &self.words, at: 0, rest: 0 }
    }

    /// One bit per node, the least significant first; bits beyond the nodes are 0.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The same words, mutable. Bits beyond the nodes must stay 0.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// Clears the bits beyond the nodes, after the words were overwritten as a whole.
    pub fn trim(&mut self) {
        let used = self.nodes % WORD_BITS;
        if let (Some(last), true) = (self.words.last_mut(), used > 0) {
            *last &= (1 << used) - 1;
        }
    }
}

impl Clone for NodeSet {
    fn clone(&self) -> Self {
        let mut copy = Self::none(0);
        copy.nodes = self.nodes;
        copy.words.extend_from_slice(&self.words);
        copy
    }
}

impl Drop for NodeSet {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        // Fails while the thread ends: then the memory is freed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_SETS && words.capacity() > 0 {
                spare.push(words);
            }
        });
    }
}

/// The nodes of a set, ascending.
#[derive(Clone, Debug)]
pub struct Nodes<'a> {
    words: &'a [u32],
    /// The position of the next word.
    at: usize,
    /// The bits of the current word that are not returned yet.
    rest: u32,
}

/// Empty words that are skipped together.
const EMPTY_WORDS: usize = 16;

impl Iterator for Nodes<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.rest == 0 {
            while let Some(words) = self.words[self.at..].first_chunk::<EMPTY_WORDS>()
                && words.iter().fold(0, |any, word| any | word) == 0
            {
                self.at += EMPTY_WORDS;
            }
            self.rest = *self.words.get(self.at)?;
            self.at += 1;
        }
        let node = (self.at - 1) * WORD_BITS + self.rest.trailing_zeros() as usize;
        self.rest &= self.rest - 1;
        Some(node as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set_of(nodes: usize, members: &BTreeSet<u32>) -> NodeSet {
        let mut set = NodeSet::none(nodes);
        members.iter().for_each(|node| set.insert(*node));
        set
    }

    proptest! {
        #[test]
        fn does_what_a_set_does(
            nodes in 1usize..200,
            one in prop::collection::btree_set(0u32..200, 0..100),
            other in prop::collection::btree_set(0u32..200, 0..100),
        ) {
            let inside = |members: BTreeSet<u32>| -> BTreeSet<u32> {
                members.into_iter().filter(|node| (*node as usize) < nodes).collect()
            };
            let (one, other) = (inside(one), inside(other));
            let (first, second) = (set_of(nodes, &one), set_of(nodes, &other));
            prop_assert_eq!(first.count(), one.len());
            prop_assert!((0..250).all(|node| first.contains(node) == one.contains(&node)));
            for node in 0..250 {
                prop_assert_eq!(first.first_from(node), one.range(node..).next().copied());
            }
            let changed = |change: fn(&mut NodeSet, &NodeSet)| {
                let mut set = first.clone();
                change(&mut set, &second);
                set.iter().collect::<BTreeSet<u32>>()
            };
            prop_assert_eq!(changed(NodeSet::intersect), &one & &other);
            prop_assert_eq!(changed(NodeSet::unite), &one | &other);
            prop_assert_eq!(changed(NodeSet::subtract), &one - &other);
            let mut inverted = first.clone();
            inverted.invert();
            let mut everything = first.clone();
            everything.unite(&inverted);
            prop_assert_eq!(everything, NodeSet::all(nodes));
            prop_assert_eq!(inverted.count(), nodes - one.len());
        }
    }
}
