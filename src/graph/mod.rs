//! The proximity graph in memory and the one loop that walks it.
//!
//! What flows in: adjacency lists, rows of components and a query. What flows out: the best nodes
//! found, with their scores. Nothing here knows of files, requests or how edges are chosen; the
//! builder and the searcher both stand on it.
//!
//! | file | duty |
//! |---|---|
//! | `adjacency.rs` | the layout of the layers, owned and borrowed |
//! | `scorer.rs`    | a query bound to rows under a metric, or to their codes |
//! | `candidates.rs`| the candidate list |
//! | `selection.rs` | the best of many scores |
//! | `visited.rs`   | the visited set |
//! | `node_set.rs`  | a set of nodes that a search may find |
//! | `beam.rs`      | the hot loop |
//! | `traverse.rs`  | a whole search: descent and beam |

mod adjacency;
mod beam;
mod candidates;
mod node_set;
mod scorer;
mod selection;
mod traverse;
mod visited;

pub use adjacency::{
    Adjacency, Graph, GraphView, Lists, NONE, PackedLists, UpperLayer, UpperLayerView, used,
};
pub use beam::{BeamStats, Scratch, beam_search, greedy_search};
pub use candidates::{Candidate, CandidateList};
pub use node_set::NodeSet;
pub use scorer::{CodeScorer, Score, Scorer};
pub use selection::Selection;
pub use traverse::{rescored, scan_codes, traverse};
pub use visited::VisitedSet;
