//! The layout of an HNSW graph: layer 0 by node, the few nodes of the upper layers by slot.
//!
//! ```text
//! layer 0   node 0: [a b c · ·]  node 1: [d · · · ·]  …      n × m0 u32, unused slots at the end
//! layer 1   slot 0: [x y ·]      slot 1: [z · ·]      …      count × m u32: slots of layer 1
//!           nodes:  [17, 203, …]                             slot → node, ascending
//! ```
//!
//! Edges of an upper layer name slots, not nodes, so that walking it needs no lookup by node.

use crate::id::NodeId;

/// Marks an unused edge slot; the rest of that list is unused as well.
pub const NONE: u32 = u32::MAX;

/// Where the hot loop gets neighbours from.
pub trait Adjacency {
    /// Calls `each` with every neighbour of `node`. A node that does not exist has none.
    fn for_each_neighbor(&self, node: u32, each: impl FnMut(u32));
    /// Asks the memory system for the neighbours of `node`, which will be wanted soon.
    fn prefetch(&self, node: u32);
}

/// Fixed-degree lists, `[nodes × degree]`, each ending at its first [`NONE`].
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    edges: &'a [u32],
    degree: usize,
}

impl<'a> Lists<'a> {
    /// The used part of the list of `node`; empty where there is no such node.
    #[inline]
    pub fn of(&self, node: u32) -> &'a [u32] {
        let start = node as usize * self.degree;
        let list = self.edges.get(start..start + self.degree).unwrap_or_default();
        let used = list.iter().position(|edge| *edge == NONE).unwrap_or(list.len());
        &list[..used]
    }
}

impl Adjacency for Lists<'_> {
    #[inline]
    fn for_each_neighbor(&self, node: u32, mut each: impl FnMut(u32)) {
        let start = node as usize * self.degree;
        for edge in self.edges.get(start..start + self.degree).unwrap_or_default() {
            if *edge == NONE {
                break;
            }
            each(*edge);
        }
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        let start = node as usize * self.degree;
        crate::kernel::prefetch(self.edges.get(start..start + self.degree).unwrap_or_default());
    }
}

/// One upper layer, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpperLayer {
    /// Slot to node, ascending.
    pub nodes: Vec<u32>,
    /// `[nodes × m]` slots of this layer, [`NONE`] where unused.
    pub edges: Vec<u32>,
}

/// A whole graph, owned: what a builder makes and the index writer freezes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Slots per node in the upper layers.
    pub m: usize,
    /// Slots per node in layer 0.
    pub m0: usize,
    /// `[n × m0]` nodes, [`NONE`] where unused.
    pub layer0: Vec<u32>,
    /// Layer 1 first.
    pub upper: Vec<UpperLayer>,
    /// Where a search starts: a node of the topmost layer.
    pub entry_point: NodeId,
}

impl Graph {
    /// The same graph with room for `m0` neighbours per node on layer 0.
    ///
    /// # Panics
    /// If that is less than there is.
    pub fn with_layer0_slots(self, m0: usize) -> Self {
        assert!(m0 >= self.m0, "edges would be lost");
        let mut layer0 = vec![NONE; self.layer0.len() / self.m0 * m0];
        for (wide, list) in layer0.chunks_mut(m0).zip(self.layer0.chunks(self.m0)) {
            wide[..self.m0].copy_from_slice(list);
        }
        Self { m0, layer0, ..self }
    }

    /// The graph as a search sees it.
    pub fn view(&self) -> GraphView<'_> {
        GraphView {
            m0: self.m0,
            layer0: &self.layer0,
            upper: self
                .upper
                .iter()
                .map(|layer| UpperLayerView { m: self.m, nodes: &layer.nodes, edges: &layer.edges })
                .collect(),
            entry_point: self.entry_point,
        }
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
    /// The slot of `node`, if it lives on this layer.
    pub fn slot_of(&self, node: u32) -> Option<u32> {
        self.nodes.binary_search(&node).ok().map(|slot| slot as u32)
    }

    /// The adjacency of this layer, by slot.
    pub fn lists(&self) -> Lists<'a> {
        Lists { edges: self.edges, degree: self.m }
    }
}

/// A whole graph, borrowed from a builder or from a mapped index.
#[derive(Clone, Debug)]
pub struct GraphView<'a> {
    /// Slots per node in layer 0.
    pub m0: usize,
    /// `[n × m0]` nodes.
    pub layer0: &'a [u32],
    /// Layer 1 first.
    pub upper: Vec<UpperLayerView<'a>>,
    /// Where a search starts.
    pub entry_point: NodeId,
}

impl<'a> GraphView<'a> {
    /// The adjacency of layer 0, by node.
    pub fn lists(&self) -> Lists<'a> {
        Lists { edges: self.layer0, degree: self.m0 }
    }

    /// Which nodes can be reached from the entry point over layer 0. Edges that lead nowhere are passed over.
    pub fn reachable(&self) -> Vec<bool> {
        let lists = self.lists();
        let mut reached = vec![false; self.layer0.len() / self.m0];
        let mut stack = Vec::new();
        if let Some(start) = reached.get_mut(self.entry_point.index()) {
            *start = true;
            stack.push(self.entry_point.0);
        }
        while let Some(node) = stack.pop() {
            for neighbor in lists.of(node) {
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
