//! The result of a build, before it is written.

use crate::graph::{Graph, LandmarkTable};
use crate::index::CodeCheck;
use crate::index::RepairReport;
use crate::index::TrainingReport;
use crate::quantize::BlockSummary;
use crate::quantize::Quantizer;

/// A finished graph, its rows and codes, and reports on how it was built.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltGraph<T> {
    /// The graph.
    pub graph: Graph,
    /// Node to row of the input, `[n]`: near rows have near node ids.
    pub rows: Vec<u32>,
    /// `[n × dim]`, by node.
    pub vectors: Vec<T>,
    /// The number of nodes with the embedding of another node.
    pub copies: u32,
    /// The most copies that one node has.
    pub most_copies: u32,
    /// The nodes with the most copies, if they have many.
    pub most_copied: Vec<u32>,
    /// The repairs that made every node reachable.
    pub repair: RepairReport,
    /// What training queries added, and recall on held-out queries; `None` without training queries.
    pub training: Option<TrainingReport>,
    /// Training queries that were held out to measure recall, `[count × dim]`.
    pub held_out_queries: Vec<f32>,
    /// A sample of the training queries that taught the graph, `[count × dim]`.
    pub training_queries: Vec<f32>,
    /// The codes that searches traverse it with; `None` if the parameters ask for none, or if they would lose too much.
    pub codes: Option<NodeCodes>,
    /// Where traversals start; `None` in a small index.
    pub landmarks: Option<LandmarkTable>,
    /// Recall of the codes against full precision; `None` if they were not compared with full precision.
    pub code_check: Option<CodeCheck>,
    /// Whether the graph of an older index was renewed.
    pub is_renewed: bool,
}

/// The codes of all nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeCodes {
    /// The quantizer that encoded them.
    pub quantizer: Quantizer,
    /// `[n × stride]`.
    pub codes: Vec<u8>,
    /// The fine codes, `[n × stride]`, that results are scored with; empty if that is done with the embeddings.
    pub fine: Vec<u8>,
    /// `[n]` under L2; empty under other metrics.
    pub half_norms: Vec<f32>,
    /// The number of nodes that their codes represent: all but the last ones.
    pub represented: usize,
    /// The summary of blocks; `None` for a small index without a graph.
    pub blocks: Option<BlockSummary>,
}
