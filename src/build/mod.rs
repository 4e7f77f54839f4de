//! From a dataset to a published generation.
//!
//! In: embeddings, ids, attributes and parameters. Out: an index, staged in its folder or in memory. Nothing here knows of
//! search requests.
//!
//! ```text
//! Dataset ─► normalize ─► groups ─► order ─► encode ─► builder ─► draft ─► teach ─► repair ─► landmarks ─► freeze
//!            under cosine  k-means   nodes    8 bits    insertion            ▲
//!                             │                         layer 0 from groups  │
//!                             │                         renewal              │
//!                             │                         hnsw_rs              │
//! training queries ───────────┴─► their answers, from the groups ─► edges ───┘
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `staging.rs`  | from a dataset to a staged generation, or to an index in memory |
//! | `pipeline.rs` | the steps of a build, in order |
//! | `params.rs`   | the parameters of a build |
//! | `coded.rs`    | rows in codes; scores of many rows for many queries at once |
//! | `clusters.rs` | k-means; the centroids nearest to each of many vectors |
//! | `scan.rs`     | the best of many rows for many queries, one part of the rows after another |
//! | `groups.rs`   | overlapping groups of near rows |
//! | `order.rs`    | the order in which rows become nodes; blocks and regions |
//! | `insertion.rs`| builder: our own HNSW, inserted in parallel |
//! | `layer0.rs`   | builder: layer 0 from groups, many times faster, for builds with training queries |
//! | `renew.rs`    | builder: layer 0 from that of an index with most of the same rows |
//! | `hnsw_rs.rs`  | builder: the hnsw_rs crate (feature `hnsw-rs`) |
//! | `select.rs`   | which neighbors a node keeps |
//! | `draft.rs`    | a graph under construction |
//! | `answers.rs`  | nearly exact answers of many queries, from the groups |
//! | `multiply.rs` | augmentation of a small sample of training queries |
//! | `teach.rs`    | edges for training queries; recall on held-out queries |
//! | `repair.rs`   | makes every node reachable |
//! | `landmarks.rs`| where traversals start |
//! | `small.rs`    | indexes too small for a graph |
//! | `built.rs`    | the result of a build, before it is written |
//! | `freeze.rs`   | the sections of the index |
//! | `progress.rs` | progress reports and cancellation |
//! | `phases.rs`   | the duration of each phase |
//! | `error.rs`    | why a build fails |

mod answers;
mod built;
mod clusters;
mod coded;
mod codes;
mod copies;
mod draft;
mod error;
mod freeze;
mod groups;
#[cfg(feature = "hnsw-rs")]
mod hnsw_rs;
mod insertion;
mod landmarks;
mod layer0;
mod multiply;
mod order;
mod params;
mod phases;
mod pipeline;
mod progress;
mod renew;
mod repair;
mod scan;
mod select;
mod small;
mod staging;
mod teach;

pub use built::{BuiltGraph, NodeCodes};
pub use error::BuildError;
pub use params::{BuildParams, Builder, ParamsError};
pub use pipeline::build_graph;
pub use progress::{Progress, Silent};
pub use renew::Ancestor;
pub use small::GRAPH_FROM;
pub use staging::{build, build_in_memory, build_taught_in_memory, stage};
