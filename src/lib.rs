//! Shortlist: the retrieval engine of a short-video recommender.
//!
//! ```text
//! embeddings file ─► dataset ─► build ─► index (one generation, immutable, mapped)
//!                                              │
//! user embedding ─► service ─► engine ─► search ┘ ─► top-k candidates
//! ```
//!
//! Imports point one way, from the top of this list to its end:
//!
//! | module | duty |
//! |---|---|
//! | [`cli`]        | one thin file per subcommand |
//! | [`config`]     | file, environment and flags into the options of the server |
//! | [`service`]    | gRPC to domain and back; admission, health, metrics |
//! | [`eval`]       | sweeps, reports, comparisons |
//! | [`engine`]     | named indexes, each an atomically swapped snapshot |
//! | [`live`]       | mutations of single videos: the durable log |
//! | [`recall`]     | exact neighbors of many queries, recall against effort |
//! | [`search`]     | one query against one index |
//! | [`mod@build`]  | graph construction, repair, freezing |
//! | [`rules`]      | what a request asks of its candidates besides the best scores |
//! | [`attributes`] | typed columns beside the embeddings |
//! | [`index`]      | the frozen format: writer, view, verification, generations and their calibrations |
//! | [`graph`]      | adjacency, candidate list, visited set, the hot loop |
//! | [`synth`]      | a catalog made up from a seed: its files, users and requests |
//! | [`quantize`]   | 8-bit codes to traverse with; summaries of blocks, and codes of residuals along axes that second moments give |
//! | [`dataset`]    | embedding files become one row-major view |
//! | [`node_set`]   | which nodes a rule lets through or an index still has: one bit each |
//! | [`kernel`]     | SIMD: slices in, `f32` out |
//! | [`serialized_bitmap`] | a Roaring bitmap that is read where it lies |
//! | [`base`]       | what every module shares: ids, metric, element types, mapped and staged files, text |
//!
//! Feature `server` has `service`; feature `cli` has `cli`, `config`, `eval` and `synth`, and implies `server` and `parquet`. Without
//! both, the crate is the engine alone.
//!
//! `search` and `build` do not import each other; they meet in `index` and stand on `graph`.
//!
//! The message of an error is whole, as a status or a line of a log shows it. So an error that says what caused it has
//! no `source()`, which whoever prints the chain would say again: the field is named `r#source`, and is no source.

#![deny(unsafe_code)]

pub mod attributes;
pub mod base;
pub mod build;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod config;
pub mod dataset;
pub mod engine;
#[cfg(feature = "cli")]
pub mod eval;
pub mod graph;
pub mod index;
pub mod kernel;
pub mod live;
pub mod node_set;
pub mod quantize;
pub mod recall;
pub mod rules;
pub mod search;
pub mod serialized_bitmap;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "cli")]
pub mod synth;
