//! Shortlist finds the few hundred of millions of short videos that are worth ranking for a user.
//!
//! It builds an HNSW graph over video embeddings, keeps graph, codes and attributes in one memory-mapped file, and answers
//! top-k queries by inner product, cosine or squared L2, under filters, exclusions, caps and kept places. This crate is the
//! engine, embedded in your process; the `shortlist` command serves the same engine over gRPC.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use shortlist::{AttributeColumn, ColumnValues, Dataset, Index, Metric, SearchRequest};
//!
//! // Embeddings `[n × dim]`, row-major, and one attribute. Row numbers are the ids unless `with_ids` sets others.
//! let region = [Some("US"), Some("IN"), Some("US"), None].into_iter().collect();
//! let dataset = Dataset::from_rows(2, vec![1.0, 0.1, 0.9, 0.3, 0.2, 0.8, 0.5, 0.5])?
//!     .with_attribute(AttributeColumn { name: "region".to_owned(), values: ColumnValues::Keyword(region) })?;
//!
//! // In memory; `publish(&dataset, dir)` writes a generation that `Index::open(dir)` and the server map.
//! let index = Index::builder(Metric::InnerProduct).build(&dataset)?;
//!
//! let request = SearchRequest::vector([1.0, 0.0]).k(2).filter_text(r#"region = "US""#)?;
//! let answer = index.search(&request)?;
//! let ids: Vec<u64> = answer.candidates.iter().map(|candidate| candidate.video_id.0).collect();
//! assert_eq!(ids, [0, 2]);
//! # Ok(())
//! # }
//! ```
//!
//! | to | use |
//! |---|---|
//! | build and search in memory, or open a folder read-only | [`Index`], [`IndexBuilder`] |
//! | describe a search | [`SearchRequest`], [`Filter`], [`Rules`] |
//! | read embeddings, ids and attributes from files or memory | [`Dataset`], [`DatasetFiles`], [`Embeddings`] |
//! | write, delete and take down videos; swap generations; rebuild | [`Engine`], [`Mutation`] |
//!
//! It is not a ranking model, nor a store of anything but embeddings, ids and filterable attributes. One process answers from one
//! folder. Past one machine, `shortlist route` merges the answers of several.
//!
//! The folder `examples/` has a program for each line of the table.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `server`   | the gRPC service |
//! | `cli`      | the `shortlist` command; implies `server` and `parquet` |
//! | `cluster`  | shards and replicas: generations in buckets, logs in JetStream, the router; implies `server` |
//! | `parquet`  | Parquet files as input |
//! | `hnsw-rs`  | the crate hnsw_rs as a second graph builder |
//!
//! All are on by default. Without any, the crate is the engine alone.
//!
//! # Modules
//!
//! The modules are not part of the API and may change at any time. Imports point one way, from the top of this list to its
//! end; a test enforces it.
//!
//! | module | duty |
//! |---|---|
//! | `fuzzing`    | the bodies of the fuzz targets, for `fuzz/` and the tests |
//! | `cli`        | one thin file per subcommand |
//! | `config`     | file, environment and flags into the options of the server |
//! | `router`     | one index over shards and replicas |
//! | `service`    | gRPC to domain and back; access, admission, health, metrics |
//! | `eval`       | sweeps, reports, comparisons |
//! | `embedded`   | the engine without a server: build or open an index and search it |
//! | `engine`     | named indexes, each an atomically swapped snapshot |
//! | `bucket`     | generations, takedowns and backups in object storage |
//! | `live`       | mutations of single videos: the durable log |
//! | `recall`     | exact neighbors of many queries, recall against effort |
//! | `search`     | one query against one index |
//! | `build`  | graph construction, repair, freezing |
//! | `rules`      | what a request demands of its candidates in addition to high scores |
//! | `attributes` | typed columns next to the embeddings |
//! | `index`      | the frozen format: writer, view, verification, generations and their calibrations |
//! | `graph`      | adjacency, candidate list, visited set, the hot loop |
//! | `synth`      | a catalog made up from a seed: its files, users and requests |
//! | `quantize`   | 8-bit codes to traverse with; summaries of blocks, and codes of residuals along axes that second moments give |
//! | `dataset`    | embedding files become one row-major view |
//! | `node_set`   | which nodes a rule lets through or an index still has: one bit each |
//! | `kernel`     | SIMD: slices in, `f32` out |
//! | `nats`       | a connection to the servers of NATS |
//! | `serialized_bitmap` | a Roaring bitmap that is read where it lies |
//! | `base`       | what every module shares: ids, metric, element types, mapped and staged files, text |
//!
//! `search` and `build` do not import each other; they meet in `index` and use `graph`.
//!
//! An error message is complete, as a status or a log line shows it. Therefore an error that includes its cause in the
//! message has no `source()`, which a printer of error chains would repeat: the field is named `r#source` and is not
//! reported as a source.

#![deny(unsafe_code)]
// They panic if nobody reads the output: `say!` and `note!` do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[doc(hidden)]
pub mod attributes;
#[doc(hidden)]
pub mod base;
#[doc(hidden)]
pub mod bucket;
#[doc(hidden)]
pub mod build;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod dataset;
#[doc(hidden)]
pub mod embedded;
#[doc(hidden)]
pub mod engine;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod eval;
#[cfg(all(any(test, fuzzing), feature = "hdf5", feature = "parquet", feature = "server"))]
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod index;
#[doc(hidden)]
pub mod kernel;
#[doc(hidden)]
pub mod live;
#[cfg(feature = "cluster")]
#[doc(hidden)]
pub mod nats;
#[doc(hidden)]
pub mod node_set;
#[doc(hidden)]
pub mod quantize;
#[doc(hidden)]
pub mod recall;
#[cfg(feature = "cluster")]
#[doc(hidden)]
pub mod router;
#[doc(hidden)]
pub mod rules;
#[doc(hidden)]
pub mod search;
#[doc(hidden)]
pub mod serialized_bitmap;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod service;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod synth;

pub use attributes::Value;
pub use base::available_memory::AvailableMemory;
pub use base::element::Dtype;
pub use base::id::VideoId;
pub use base::instant::Instant;
pub use base::metric::Metric;
pub use build::{BuildError, Progress};
pub use dataset::{
    AttributeColumn, ColumnValues, Components, Dataset, DatasetError, DatasetFiles, Embeddings, KeywordLists,
    Keywords, Numbers, Validity,
};
pub use embedded::{Index, IndexBuilder};
pub use engine::{
    Append, Budget, Candidate, Completeness, Effort, Engine, EngineError, EngineOptions, Explanation, Field,
    GateOptions, IndexStatus, Interest, Limits, LiveRecall, LiveStatus, Lookup, Loss, MemoryGauge,
    MemoryPolicy, Plan, Query, Readiness, RebuildOptions, RebuildState, RebuildStatus, Refresh, Removal,
    ReturnAttributes, Rule, SampleOptions, SearchRequest, SearchResponse, SearchStages, SearchStats, Seed,
    Shortage, Shortfall, Stage, StoredVideo, WriteMode, Written,
};
pub use index::{
    AttributeKind, AttributeSchema, MemoryMode, QuerySource, RecallCurve, RecallCurves, RecallPoint,
    StoreError,
};
pub use live::{Mutation, Upsert};
pub use rules::{
    Bloom, Cap, Condition, Diversity, Exclude, ExcludeField, ExpressionError, Filter, Fresh, Number, Places,
    Reserve, Rules, Sample, ScoreTerm, TermForm, Time,
};
