//! Rows with the same embedding: one of them is built into the graph, the others are attached to it.
//!
//! Rows of equal score never prune each other, so a group of copies larger than a neighbor list would link only to itself
//! and take the edges of every row near it. The graph is therefore built from distinct rows. A row and its copies form a
//! tree: each links to the next few, and every copy links back to the row that it is a copy of.

use rayon::prelude::*;
use rustc_hash::FxHasher;
use std::hash::Hasher;

use crate::base::element::Element;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::graph::{Graph, PackedLists};
use crate::index::MAX_MOST_COPIED;

/// Copies that each row of a tree links to.
pub(super) const FAN_OUT: usize = 8;
/// A row is among the most copied ones if its copies are at least one row in this many.
const MANY: usize = 1024;

/// Which rows are copies of others.
pub(super) struct Copies {
    /// The rows without an earlier copy, ascending.
    pub(super) distinct: Vec<u32>,
    /// `[distinct + 1]`: where the copies of each start in `rows`.
    starts: Vec<u32>,
    /// The later copies, ascending for each distinct row.
    rows: Vec<u32>,
}

/// Where rows are after copies were put behind the row that they are copies of.
pub(super) struct Expansion {
    /// New node to distinct node: itself, or the one that it is a copy of.
    pub(super) of: Vec<u32>,
    /// New node to row of the input.
    pub(super) rows: Vec<u32>,
    /// `[distinct + 1]`: distinct node to new node.
    starts: Vec<u32>,
}

impl Copies {
    /// Finds the rows of `vectors`, `[n × dim]`, that equal an earlier row bit by bit; `None` if there are none.
    pub(super) fn find<T: Element>(vectors: &[T], dim: usize) -> Option<Self> {
        let bytes = |row: u32| -> &[u8] {
            bytemuck::cast_slice(&vectors[row as usize * dim..(row as usize + 1) * dim])
        };
        let mut hashes: Vec<(u64, u32)> = parallel::map(vectors.len() / dim, ROWS_PER_TASK, |row| {
            let mut hasher = FxHasher::default();
            hasher.write(bytes(row as u32));
            (hasher.finish(), row as u32)
        });
        hashes.par_sort_unstable();
        // (row, the first row that it equals)
        let mut copies: Vec<(u32, u32)> = Vec::new();
        for same_hash in hashes.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            let mut firsts: Vec<u32> = Vec::new();
            for (_, row) in same_hash {
                match firsts.iter().find(|first| bytes(**first) == bytes(*row)) {
                    Some(first) => copies.push((*first, *row)),
                    None => firsts.push(*row),
                }
            }
        }
        if copies.is_empty() {
            return None;
        }
        copies.par_sort_unstable();
        let mut is_copy = vec![false; vectors.len() / dim];
        copies.iter().for_each(|(_, row)| is_copy[*row as usize] = true);
        let distinct: Vec<u32> = (0..is_copy.len() as u32).filter(|row| !is_copy[*row as usize]).collect();
        let mut starts = Vec::with_capacity(distinct.len() + 1);
        let mut next = 0;
        for row in &distinct {
            starts.push(next as u32);
            next += copies[next..].iter().take_while(|(first, _)| first == row).count();
        }
        starts.push(next as u32);
        let rows = copies.into_iter().map(|(_, row)| row).collect();
        Some(Self { distinct, starts, rows })
    }

    /// Returns the nodes of all rows, given the distinct row of each node of a graph of distinct rows.
    pub(super) fn expand(&self, rows: &[u32]) -> Expansion {
        let count = self.distinct.len() + self.rows.len();
        let (mut of, mut all) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut starts = Vec::with_capacity(rows.len() + 1);
        for (node, row) in (0..).zip(rows) {
            let row = *row as usize;
            let copies = &self.rows[self.starts[row] as usize..self.starts[row + 1] as usize];
            starts.push(of.len() as u32);
            of.extend(std::iter::repeat_n(node, 1 + copies.len()));
            all.push(self.distinct[row]);
            all.extend_from_slice(copies);
        }
        starts.push(of.len() as u32);
        Expansion { of, rows: all, starts }
    }
}

impl Expansion {
    /// Returns the first new node of a distinct node; for the number of distinct nodes, the number of all nodes.
    pub(super) fn first(&self, distinct: u32) -> u32 {
        self.starts[distinct as usize]
    }

    /// Returns the most copies that a row has.
    pub(super) fn most_copies(&self) -> u32 {
        self.starts.windows(2).map(|ends| ends[1] - ends[0] - 1).max().unwrap_or_default()
    }

    /// Returns the new nodes of the rows with the most copies, ascending; empty if none has many.
    pub(super) fn most_copied(&self) -> Vec<u32> {
        let least = self.of.len().div_ceil(MANY);
        let rows = self.starts.windows(2).map(|ends| (ends[1] - ends[0] - 1, ends[0]));
        let mut most: Vec<(u32, u32)> = rows.filter(|(copies, _)| *copies as usize >= least.max(1)).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        let mut nodes: Vec<u32> = most.into_iter().take(MAX_MOST_COPIED).map(|(_, node)| node).collect();
        nodes.sort_unstable();
        nodes
    }

    /// Returns the values, `[distinct × width]`, by new node. Works in place: a node never moves to a lower number, so from the
    /// last to the first no value is overwritten that is still needed.
    pub(super) fn repeated<V: Copy>(&self, mut values: Vec<V>, width: usize) -> Vec<V> {
        if let Some(first) = values.first().copied() {
            values.resize(self.of.len() * width, first);
            for (node, distinct) in self.of.iter().enumerate().rev() {
                let start = *distinct as usize * width;
                values.copy_within(start..start + width, node * width);
            }
        }
        values
    }

    /// Returns the graph with the copies attached.
    pub(super) fn graph(&self, graph: Graph) -> Graph {
        let Graph { m, layer0, mut upper, entry_point } = graph;
        let lists = layer0.view();
        let list = |node: usize| {
            let distinct = self.of[node];
            let (first, end) = (self.first(distinct) as usize, self.first(distinct + 1) as usize);
            let place = node - first;
            let children = first + FAN_OUT * place + 1..end.min(first + FAN_OUT * (place + 1) + 1);
            let children = children.map(|child| child as u32);
            match place {
                0 => lists.of(distinct).iter().map(|to| self.first(*to)).chain(children).collect(),
                _ => std::iter::once(first as u32).chain(children).collect::<Vec<u32>>(),
            }
        };
        let layer0 = PackedLists::of(&parallel::map(self.of.len(), ROWS_PER_TASK, list));
        for node in upper.iter_mut().flat_map(|layer| &mut layer.nodes) {
            *node = self.first(*node);
        }
        Graph { m, layer0, upper, entry_point: crate::base::id::NodeId(self.first(entry_point.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_and_put_behind_the_row_that_they_equal() {
        let rows: Vec<f32> =
            [3, 1, 3, 2, 1, 3, 4].into_iter().flat_map(|value| [value as f32, 0.5]).collect();
        let copies = Copies::find(&rows, 2).unwrap();
        assert_eq!(copies.distinct, [0, 1, 3, 6]);
        let expansion = copies.expand(&[2, 0, 3, 1]);
        assert_eq!(expansion.rows, [3, 0, 2, 5, 6, 1, 4]);
        assert_eq!(expansion.of, [0, 1, 1, 1, 2, 3, 3]);
        assert_eq!(expansion.repeated(vec![10, 20, 30, 40], 1), [10, 20, 20, 20, 30, 40, 40]);
        assert!(Copies::find(&rows[..4], 2).is_none());
    }

    #[test]
    fn the_rows_with_the_most_copies_are_known() {
        // Row r has r % 100 copies.
        let rows: Vec<f32> = (0..500).flat_map(|row| vec![row as f32; 1 + row % 100]).collect();
        let copies = Copies::find(&rows, 1).unwrap();
        let expansion = copies.expand(&(0..500).collect::<Vec<u32>>());
        assert_eq!(expansion.most_copies(), 99);
        let most = expansion.most_copied();
        assert_eq!(most.len(), MAX_MOST_COPIED);
        for node in most {
            let row = expansion.of[node as usize];
            assert!(row % 100 >= 87 && expansion.first(row) == node, "{row}");
        }
        let few = Copies::find(&(0..3000).map(|row| (row / 2) as f32).collect::<Vec<f32>>(), 1).unwrap();
        assert!(few.expand(&(0..1500).collect::<Vec<u32>>()).most_copied().is_empty());
    }

    #[test]
    fn every_copy_is_reachable_from_the_row_that_it_equals() {
        for count in [1, 2, 9, 10, 100, 5000] {
            let copies = Copies::find(&vec![1.0f32; count + 1], 1).unwrap();
            let graph = Graph { m: 2, layer0: PackedLists::of(&[Vec::new()]), ..Graph::default() };
            let graph = copies.expand(&[0]).graph(graph);
            assert!(graph.view().reachable().into_iter().all(|reached| reached), "{count}");
            assert!(graph.layer0.max_degree() <= FAN_OUT + 1);
        }
    }
}
