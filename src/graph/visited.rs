//! The visited set: one bit per node, cleared by replaying what was set.

/// Which nodes a search has scored.
#[derive(Debug, Default)]
pub struct VisitedSet {
    nodes: u32,
    words: Vec<u64>,
    /// Indices of the words that are not zero.
    touched: Vec<u32>,
}

impl VisitedSet {
    /// Empties the set and makes it hold nodes `0..nodes`.
    pub fn reset(&mut self, nodes: usize) {
        for word in self.touched.drain(..) {
            self.words[word as usize] = 0;
        }
        self.words.resize(nodes.div_ceil(64), 0);
        self.nodes = nodes as u32;
    }

    /// Adds `node`; false if it was there already or lies outside the set.
    #[inline]
    pub fn insert(&mut self, node: u32) -> bool {
        if node >= self.nodes {
            return false;
        }
        let index = node / 64;
        let word = &mut self.words[index as usize];
        let bit = 1u64 << (node % 64);
        if *word & bit != 0 {
            return false;
        }
        if *word == 0 {
            self.touched.push(index);
        }
        *word |= bit;
        true
    }
}
