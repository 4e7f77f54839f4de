//! What few rows get in the place of a graph: nothing but codes, for they are scanned.

use super::{BuiltGraph, NodeCodes};
use crate::base::element::Element;
use crate::base::id::NodeId;
use crate::build::params::BuildParams;
use crate::graph::{Graph, PackedLists};
use crate::index::RepairReport;

/// Fewer rows than these are built without a graph in memory: scanning the codes of as many takes as long as a
/// traversal that finds 0.96 of the best 10 (7 us at 128 dimensions), and finds all of them.
pub const GRAPH_FROM: usize = 4096;

/// Every row of `vectors`, `[n × dim]`, a node without neighbors, in the order of the input.
pub(super) fn without_graph<T: Element>(vectors: Vec<T>, dim: usize, params: &BuildParams) -> BuiltGraph<T> {
    let nodes = vectors.len() / dim;
    let quantizer = params.codes.train(&vectors, dim);
    let codes = quantizer.map(|quantizer| NodeCodes {
        codes: quantizer.encode_all(&vectors),
        quantizer,
        blocks: None,
    });
    let layer0 = PackedLists { starts: vec![0; nodes + 1], edges: Vec::new() };
    BuiltGraph {
        graph: Graph { m: params.m, layer0, upper: Vec::new(), entry_point: NodeId(0) },
        rows: (0..nodes as u32).collect(),
        vectors,
        repair: RepairReport::default(),
        training: None,
        held_out_queries: Vec::new(),
        training_queries: Vec::new(),
        codes,
        is_renewed: false,
    }
}
