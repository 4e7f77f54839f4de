//! The proximity graph in memory and the one loop that traverses it.
//!
//! What flows in: adjacency lists, rows of components and a query. What flows out: the best nodes found, with their
//! scores. Nothing here knows of files, requests or how edges are chosen; the builder and the searcher both stand on it.
//!
//! | file | duty |
//! |---|---|
//! | `adjacency.rs`  | the layout of the layers, owned and borrowed |
//! | `scorer.rs`     | a query bound to rows under a metric, or to their codes |
//! | `fine_scorer.rs` | a query bound to rows and both levels of their codes |
//! | `candidates.rs` | the candidate list |
//! | `selection.rs`  | the best of many scores |
//! | `visited.rs`    | the visited set |
//! | `cost.rs`       | what a search cost |
//! | `scratch.rs`    | the memory of a search, and its result |
//! | `beam.rs`       | the hot loop |
//! | `landmarks.rs`  | where a traversal starts |
//! | `traverse.rs`   | a whole search: descent and beam; the scan of all rows |
//! | `matching.rs`   | searches that score only the nodes of a set |
//! | `blocks/`       | a scan of a set that reads only the blocks where good nodes are likely |

mod adjacency;
mod beam;
mod blocks;
mod candidates;
mod cost;
mod fine_scorer;
mod landmarks;
mod matching;
mod scorer;
mod scratch;
mod selection;
mod traverse;
mod visited;

pub use adjacency::{
    Adjacency, Graph, GraphView, Lists, NONE, PackedLists, UpperLayer, UpperLayerView, used,
};
pub use beam::{beam_search, greedy_search};
pub use blocks::{BlockQuery, BlockScan, BlockScorers, BlockScratch, Blocks, scan_blocks};
pub use candidates::{Candidate, CandidateList, keep_best};
pub use cost::Cost;
pub use fine_scorer::FineScorer;
pub use landmarks::{LandmarkTable, Landmarks, NODES_PER_LANDMARK};
pub use matching::{expand_found, scan_matching, traverse_matching};
pub use scorer::{BestOf, CodeScorer, Corrections, Scan, Score, Scorer, Weighted};
pub use scratch::{Scratch, Stage};
pub use selection::Selection;
pub use traverse::{Width, descend, rescored, scan_codes, traverse, traverse_from, traverse_further};
pub use visited::VisitedSet;
