//! Hits that are not too similar to each other.
//!
//! What flows in: hits, one after another. What flows out: whether one is too similar to a hit before it. Rows of norm 1 have a
//! cosine above `max_similarity` if their squared distance is below `2 - 2 × max_similarity`. Distances are summed for many rows at a
//! time, and given up where the first components are too far apart already, as they nearly always are. So the components in which the
//! first hits differ most come first.

use super::quota::HitKeys;
use super::unit::read_unit;
use crate::base::id::NodeId;
use crate::kernel::{Kernels, TILE_ROWS};

/// Components are ordered by the spread of this many hits.
const ORDERED_AFTER: usize = 16;

/// The hits that were taken.
#[derive(Debug)]
pub(super) struct Distinct {
    /// The squared distance below which two hits are too similar.
    bound: f32,
    /// `[tiles × dim × TILE_ROWS]`: their rows, of norm 1.
    tiles: Vec<f32>,
    /// `[rows]`: the hit of each.
    nodes: Vec<NodeId>,
    /// `[dim]`: the order of the components in tiles; empty for that of embeddings.
    order: Vec<usize>,
    /// The hit that `unit` is of.
    read: Option<NodeId>,
    raw: Vec<f32>,
    natural: Vec<f32>,
    /// `[dim]`, in the order of tiles.
    unit: Vec<f32>,
}

impl Distinct {
    /// Nothing was taken yet.
    pub(super) fn new(max_similarity: f32) -> Self {
        let bound = 2.0 - 2.0 * max_similarity;
        Self {
            bound,
            tiles: Vec::new(),
            nodes: Vec::new(),
            order: Vec::new(),
            read: None,
            raw: Vec::new(),
            natural: Vec::new(),
            unit: Vec::new(),
        }
    }

    /// Whether a hit is similar enough to one that was taken to be left out.
    pub(super) fn is_similar(&mut self, keys: &impl HitKeys, node: NodeId) -> bool {
        self.read(keys, node);
        let (kernels, dim) = (Kernels::get(), self.unit.len());
        !self.is_zero()
            && self.tiles.chunks(dim * TILE_ROWS).any(|tile| kernels.is_near(&self.unit, tile, self.bound))
    }

    /// Takes a hit.
    pub(super) fn push(&mut self, keys: &impl HitKeys, node: NodeId) {
        self.read(keys, node);
        // Zeros are similar to nothing.
        if self.is_zero() {
            return;
        }
        let dim = self.unit.len();
        let row = self.nodes.len();
        if row.is_multiple_of(TILE_ROWS) {
            self.tiles.resize(self.tiles.len() + dim * TILE_ROWS, f32::INFINITY);
        }
        self.nodes.push(node);
        for (component, value) in self.unit.iter().enumerate() {
            self.tiles[place(row, component, dim)] = *value;
        }
        if self.nodes.len() == ORDERED_AFTER && self.order.is_empty() {
            self.set_order();
        }
    }

    /// Puts the components first in which the first rows differ most.
    fn set_order(&mut self) {
        let (columns, _) = self.tiles.as_chunks::<TILE_ROWS>();
        let spread = |column: &[f32; TILE_ROWS]| {
            let column = &column[..ORDERED_AFTER];
            let mean = column.iter().sum::<f32>() / ORDERED_AFTER as f32;
            column.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>()
        };
        let spreads: Vec<f32> = columns.iter().map(spread).collect();
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by(|one, other| spreads[*other].total_cmp(&spreads[*one]));
        self.tiles = order.iter().flat_map(|component| columns[*component]).collect();
        (self.order, self.read) = (order, None);
    }

    /// Gives back a hit that was taken.
    pub(super) fn remove(&mut self, node: NodeId) {
        let Some(row) = self.nodes.iter().position(|other| *other == node) else { return };
        let last = self.nodes.len() - 1;
        let dim = self.tiles.len() / (self.nodes.len().div_ceil(TILE_ROWS) * TILE_ROWS);
        for component in 0..dim {
            let from = place(last, component, dim);
            self.tiles[place(row, component, dim)] = self.tiles[from];
            self.tiles[from] = f32::INFINITY;
        }
        self.nodes.swap_remove(row);
        self.tiles.truncate(self.nodes.len().div_ceil(TILE_ROWS) * TILE_ROWS * dim);
    }

    fn read(&mut self, keys: &impl HitKeys, node: NodeId) {
        if self.read == Some(node) {
            return;
        }
        self.read = Some(node);
        if self.order.is_empty() {
            return read_unit(keys, node, &mut self.raw, &mut self.unit);
        }
        read_unit(keys, node, &mut self.raw, &mut self.natural);
        self.unit.clear();
        self.unit.extend(self.order.iter().map(|component| self.natural[*component]));
    }

    fn is_zero(&self) -> bool {
        self.unit.iter().all(|value| *value == 0.0)
    }
}

/// Where a component of a row is.
fn place(row: usize, component: usize, dim: usize) -> usize {
    (row / TILE_ROWS * dim + component) * TILE_ROWS + row % TILE_ROWS
}
