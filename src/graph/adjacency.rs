//! The layout of an HNSW graph: layer 0 by node, the few nodes of the upper layers by slot.
//!
//! ```text
//! layer 0   starts: [0 3 4 …]    edges: [a b c · d · …]      n + 1 starts, all edges
//! layer 1   slot 0: [x y ·]      slot 1: [z · ·]      …      count × m u32: slots of layer 1
//!           nodes:  [17, 203, …]                             slot → node, ascending
//! ```
//!
//! Lists of layer 0 have variable lengths: most nodes have few neighbors, and the hubs that many searches pass have
//! many. Edges of an upper layer are slots, not nodes, so that following them needs no lookup by node.

use super::candidates::ExpectedCopies;
use super::landmarks::{LandmarkTable, Landmarks};
use super::visited::VisitedSet;
use crate::base::id::NodeId;

/// Marks an unused edge slot; the rest of that list is unused as well.
pub const NONE: u32 = u32::MAX;

/// Neighbor lists as the hot loop reads them.
pub trait Adjacency {
    /// Calls `each` with every neighbor of `node`, and perhaps with [`NONE`]. A node that does not exist has no neighbors.
    fn for_each_neighbor(&self, node: u32, each: impl FnMut(u32));
    /// Adds the neighbors of `node` to the visited set.
    fn visit(&self, node: u32, visited: &mut VisitedSet) {
        self.for_each_neighbor(node, |neighbor| visited.insert(neighbor));
    }
    /// Prefetches the neighbor list of `node`.
    fn prefetch(&self, node: u32);
}

/// Neighbor lists of variable length, one after another.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    /// `[n + 1]`: where the list of each node starts, then where the last one ends.
    starts: &'a [u32],
    edges: &'a [u32],
}

impl<'a> Lists<'a> {
    /// `starts`: `[n + 1]`, positions in `edges`. A list with invalid positions is empty.
    pub fn new(starts: &'a [u32], edges: &'a [u32]) -> Self {
        Self { starts, edges }
    }

    /// The number of lists.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there is no list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every slot of the list of `node`, [`NONE`] included. Empty if there is no such node.
    #[inline]
    pub fn slots(&self, node: u32) -> &'a [u32] {
        let node = node as usize;
        let Some([start, end]) = self.starts.get(node..).and_then(|starts| starts.first_chunk()) else {
            return &[];
        };
        self.edges.get(*start as usize..*end as usize).unwrap_or_default()
    }

    /// The list of `node`. Empty if there is no such node.
    pub fn of(&self, node: u32) -> &'a [u32] {
        used(self.slots(node))
    }
}

impl Adjacency for Lists<'_> {
    #[inline]
    fn for_each_neighbor(&self, node: u32, each: impl FnMut(u32)) {
        self.slots(node).iter().copied().for_each(each);
    }

    #[inline]
    fn visit(&self, node: u32, visited: &mut VisitedSet) {
        visited.insert_all(self.slots(node));
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        crate::kernel::prefetch(self.slots(node));
    }
}

/// Neighbor lists of layer 0, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedLists {
    /// `[n + 1]`.
    pub starts: Vec<u32>,
    /// Nodes.
    pub edges: Vec<u32>,
}

impl PackedLists {
    /// Concatenates `lists`.
    ///
    /// # Panics
    /// If there are more than 2³² − 1 edges in total.
    pub fn of(lists: &[Vec<u32>]) -> Self {
        let mut starts = Vec::with_capacity(lists.len() + 1);
        let mut edges = Vec::with_capacity(lists.iter().map(Vec::len).sum());
        starts.push(0);
        for list in lists {
            edges.extend_from_slice(list);
            starts.push(u32::try_from(edges.len()).expect("expected at most 2³² − 1 edges"));
        }
        Self { starts, edges }
    }

    /// The length of the longest list.
    pub fn max_degree(&self) -> usize {
        self.starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max().unwrap_or_default()
    }

    /// The lists, borrowed.
    pub fn view(&self) -> Lists<'_> {
        Lists::new(&self.starts, &self.edges)
    }
}

/// Lists with the same number of slots, `[nodes × degree]`. Each ends at its first [`NONE`].
#[derive(Clone, Copy, Debug)]
pub struct FixedLists<'a> {
    edges: &'a [u32],
    degree: usize,
}

impl<'a> FixedLists<'a> {
    #[inline]
    fn slots(&self, node: u32) -> &'a [u32] {
        let start = node as usize * self.degree;
        self.edges.get(start..start + self.degree).unwrap_or_default()
    }
}

impl Adjacency for FixedLists<'_> {
    #[inline]
    fn for_each_neighbor(&self, node: u32, each: impl FnMut(u32)) {
        used(self.slots(node)).iter().copied().for_each(each);
    }

    fn prefetch(&self, node: u32) {
        crate::kernel::prefetch(self.slots(node));
    }
}

/// A list up to its first unused slot.
#[inline]
pub fn used(slots: &[u32]) -> &[u32] {
    let used = slots.iter().position(|edge| *edge == NONE).unwrap_or(slots.len());
    &slots[..used]
}

/// One upper layer, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpperLayer {
    /// Slot to node, ascending.
    pub nodes: Vec<u32>,
    /// `[nodes × m]` slots of this layer, [`NONE`] where unused.
    pub edges: Vec<u32>,
}

/// A whole graph, owned. The build creates it and the index writer freezes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Slots per node in the upper layers.
    pub m: usize,
    /// By node.
    pub layer0: PackedLists,
    /// Layer 1 first.
    pub upper: Vec<UpperLayer>,
    /// Where a search starts: a node of the topmost layer.
    pub entry_point: NodeId,
}

impl Graph {
    /// The graph, borrowed.
    pub fn view(&self) -> GraphView<'_> {
        GraphView {
            layer0: self.layer0.view(),
            upper: self
                .upper
                .iter()
                .map(|layer| UpperLayerView { m: self.m, nodes: &layer.nodes, edges: &layer.edges })
                .collect(),
            entry_point: self.entry_point,
            has_copies: false,
            most_copied: &[],
            landmarks: None,
        }
    }

    /// The graph with `landmarks`, borrowed.
    pub fn view_with<'a>(&'a self, landmarks: Option<&'a LandmarkTable>) -> GraphView<'a> {
        GraphView { landmarks: landmarks.map(LandmarkTable::view), ..self.view() }
    }
}

/// One upper layer, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct UpperLayerView<'a> {
    /// Slots per node.
    pub m: usize,
    /// Slot to node, ascending.
    pub nodes: &'a [u32],
    /// `[nodes × m]` slots of this layer.
    pub edges: &'a [u32],
}

impl<'a> UpperLayerView<'a> {
    /// The slot of `node`, if it is on this layer.
    pub fn slot_of(&self, node: u32) -> Option<u32> {
        self.nodes.binary_search(&node).ok().map(|slot| slot as u32)
    }

    /// The neighbor lists of this layer, by slot.
    pub fn lists(&self) -> FixedLists<'a> {
        FixedLists { edges: self.edges, degree: self.m }
    }
}

/// A whole graph, borrowed from a builder or from a mapped index.
#[derive(Clone, Debug)]
pub struct GraphView<'a> {
    /// By node.
    pub layer0: Lists<'a>,
    /// Layer 1 first.
    pub upper: Vec<UpperLayerView<'a>>,
    /// Where a search starts.
    pub entry_point: NodeId,
    /// Whether many nodes are copies of others, with numbers next to theirs: enough to crowd out candidates.
    pub has_copies: bool,
    /// The nodes with the most copies, if they have many: a search that misses one misses all of its copies.
    pub most_copied: &'a [u32],
    /// Where a search starts if there are any; otherwise it descends from the entry point.
    pub landmarks: Option<Landmarks<'a>>,
}

impl GraphView<'_> {
    /// The copies that a traversal meets, of all nodes or only those that match a filter.
    pub(super) fn expected_copies(&self, is_filtered: bool) -> ExpectedCopies {
        match (self.has_copies, is_filtered) {
            (false, _) => ExpectedCopies::None,
            (true, false) => ExpectedCopies::Near,
            (true, true) => ExpectedCopies::Anywhere,
        }
    }

    /// `[n]`: whether each node can be reached from the entry point over layer 0. Ignores edges to nodes that do not exist.
    pub fn reachable(&self) -> Vec<bool> {
        let mut reached = vec![false; self.layer0.len()];
        let mut stack = Vec::new();
        if let Some(start) = reached.get_mut(self.entry_point.index()) {
            *start = true;
            stack.push(self.entry_point.0);
        }
        while let Some(node) = stack.pop() {
            for neighbor in self.layer0.of(node) {
                if let Some(seen) = reached.get_mut(*neighbor as usize)
                    && !std::mem::replace(seen, true)
                {
                    stack.push(*neighbor);
                }
            }
        }
        reached
    }
}
