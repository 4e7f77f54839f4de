//! A graph under construction: neighbor lists that grow.

use super::copies::FAN_OUT;
use crate::base::id::NodeId;
use crate::graph::{Graph, PackedLists, UpperLayer};
use crate::index::MAX_DEGREE;

/// The result of a builder, to be taught and repaired.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Draft {
    /// Slots per node in the upper layers.
    pub(super) m: usize,
    /// The neighbors of each node on layer 0, distinct, without the node itself.
    pub(super) layer0: Vec<Vec<u32>>,
    /// Maximum number of neighbors on layer 0.
    pub(super) max_degree: usize,
    /// Layer 1 first.
    pub(super) upper: Vec<UpperLayer>,
    pub(super) entry_point: NodeId,
}

impl Draft {
    /// Lists may grow to 8m, for hubs that many training queries need, limited so that copies can be attached, and the number
    /// of all edges fits into 32 bits.
    pub(super) fn new(m: usize, layer0: Vec<Vec<u32>>, upper: Vec<UpperLayer>, entry_point: NodeId) -> Self {
        let max_degree =
            (8 * m).min(MAX_DEGREE as usize - FAN_OUT).min(u32::MAX as usize / layer0.len().max(1));
        Self { m, layer0, max_degree, upper, entry_point }
    }

    /// Adds an edge if there is a free slot. Returns whether there was one.
    pub(super) fn link(&mut self, from: u32, to: u32) -> bool {
        let list = &mut self.layer0[from as usize];
        let has_room = list.len() < self.max_degree;
        if has_room {
            list.push(to);
        }
        has_room
    }

    /// Returns the finished graph.
    pub(super) fn pack(&self) -> Graph {
        let Self { m, layer0, upper, entry_point, .. } = self;
        Graph { m: *m, layer0: PackedLists::of(layer0), upper: upper.clone(), entry_point: *entry_point }
    }
}
