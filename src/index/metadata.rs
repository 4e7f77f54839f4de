//! The small facts of a generation, kept as JSON in a section of their own.
//!
//! Nothing here depends on when or where a build ran, so that the same input and seed give the same
//! bytes; the time and duration of a build are in the manifest.

use serde::{Deserialize, Serialize};

use crate::base::element::Dtype;
use crate::base::metric::Metric;
use crate::quantize::Codes;

/// What an index is: sizes, types, and how it was built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Number of videos.
    pub rows: u32,
    /// Components per embedding.
    pub dim: u32,
    /// Stored component type.
    pub dtype: Dtype,
    /// How embeddings are compared.
    pub metric: Metric,
    /// The codes that the graph is traversed with.
    #[serde(default)]
    pub codes: Codes,
    /// Edge slots per node in the upper layers.
    pub m: u32,
    /// Edges per node in layer 0, at most.
    pub m0: u32,
    /// Where a search starts.
    pub entry_point: u32,
    /// Nodes per upper layer, layer 1 first.
    pub upper_layers: Vec<u32>,
    /// The attribute columns, in the order of their ordinals.
    pub attributes: Vec<AttributeSchema>,
    /// The model that made the embeddings, if the build was told.
    pub embedding_model: Option<String>,
    /// How the graph was built.
    pub build: BuildFacts,
    /// What had to be mended after the build.
    pub repair: RepairReport,
    /// What users taught the graph, if any did.
    pub training: Option<TrainingReport>,
    /// Users that the index keeps to measure with.
    #[serde(default)]
    pub held_out_queries: u32,
    /// Users that the index keeps to teach the next build.
    #[serde(default)]
    pub training_queries: u32,
    /// The last write of the mutation log that the input knew of; 0 if of none.
    #[serde(default)]
    pub log_sequence: u64,
    /// Upserts that do not fit it are not in it if they are after this write, even if they are no later than
    /// `log_sequence`; that itself where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_after: Option<u64>,
    /// Whether the graph is that of an older generation, renewed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renewed: bool,
}

impl Metadata {
    /// Upserts that do not fit it wait, if they are after this write.
    pub fn held_after(&self) -> u64 {
        self.held_after.unwrap_or(self.log_sequence)
    }
}

/// How the graph was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildFacts {
    /// `native` or `hnsw-rs`; [`Self::NO_BUILDER`] for a small part.
    pub builder: String,
    /// Candidates kept while inserting.
    pub ef_construction: u32,
    /// What the layers were drawn from.
    pub seed: u64,
}

impl BuildFacts {
    /// The builder of what has no graph.
    pub const NO_BUILDER: &str = "none";
}

/// What the reachability check of a build found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairReport {
    /// Nodes that could not be reached from the entry point over layer 0.
    pub unreachable: u32,
    /// Edges added into free slots to reach them.
    pub edges_added: u32,
    /// Edges that gave way to one that reaches them.
    pub edges_replaced: u32,
}

/// What training users changed, and how well users that taught nothing are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingReport {
    /// Users of the sample that edges were added for.
    pub users: u32,
    /// Users made from those, because the catalog needs more, that edges were added for.
    #[serde(default)]
    pub multiplied: u32,
    /// Edges that they asked for and got.
    pub edges_added: u64,
    /// Users of the same sample that were kept apart to measure with.
    pub held_out: u32,
    /// Recall of the finished index on those.
    pub recall: Vec<HeldOutRecall>,
}

/// Recall on held-out users at one effort.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutRecall {
    /// Hits per query.
    pub k: u32,
    /// Candidate list size.
    pub ef_search: u32,
    /// Share of the exact k nearest that were found.
    pub recall: f64,
}

/// The name and type of one attribute column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeSchema {
    /// As in the Parquet file.
    pub name: String,
    /// How the values are stored.
    pub kind: AttributeKind,
}

/// The type of an attribute column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeKind {
    /// A word: dictionary-encoded UTF-8.
    Keyword,
    /// A list of words.
    KeywordList,
    /// Signed 64-bit.
    Int64,
    /// Unsigned 64-bit.
    Uint64,
    /// Double precision.
    Double,
    /// True or false.
    Bool,
    /// Microseconds since 1970-01-01 00:00 UTC.
    Timestamp,
}

impl AttributeKind {
    /// The word for it in errors and in files.
    pub fn name(self) -> &'static str {
        match self {
            AttributeKind::Keyword => "keyword",
            AttributeKind::KeywordList => "keyword_list",
            AttributeKind::Int64 => "int64",
            AttributeKind::Uint64 => "uint64",
            AttributeKind::Double => "double",
            AttributeKind::Bool => "bool",
            AttributeKind::Timestamp => "timestamp",
        }
    }
}
