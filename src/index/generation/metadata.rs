//! The facts of a generation, stored as JSON in the first section.
//!
//! No fact depends on when or where a build ran, so the same input and seed produce the same bytes. The time and the
//! duration of a build are in the manifest.

use serde::{Deserialize, Serialize};

use crate::base::element::Dtype;
use crate::base::metric::Metric;
use crate::quantize::Codes;

/// Sizes, types and origin of an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Number of videos.
    pub rows: u32,
    /// Components per embedding.
    pub dim: u32,
    /// Type of the stored components.
    pub dtype: Dtype,
    /// How embeddings are scored.
    pub metric: Metric,
    /// The codes that a traversal scores.
    #[serde(default)]
    pub codes: Codes,
    /// Number of nodes, the last ones, that codes do not represent. A search scores them in full precision.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unrepresented: u32,
    /// The number of nodes with the embedding of another node, to which they are attached. 0 in files older than
    /// version 10.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copies: u32,
    /// The most copies that one node has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub most_copies: u32,
    /// The nodes with the most copies, if they have many: every traversal starts from them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub most_copied: Vec<u32>,
    /// Recall of the codes against full precision; `None` if they were not compared with full precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_check: Option<CodeCheck>,
    /// Edge slots per node in the upper layers.
    pub m: u32,
    /// The most edges per node in layer 0.
    pub m0: u32,
    /// The node that a search starts at.
    pub entry_point: u32,
    /// Nodes per upper layer, layer 1 first.
    pub upper_layers: Vec<u32>,
    /// The attribute columns, in the order of their ordinals.
    pub attributes: Vec<AttributeSchema>,
    /// The model that computed the embeddings, if it was specified for the build.
    pub embedding_model: Option<String>,
    /// How the graph was built.
    pub build: BuildFacts,
    /// The result of the reachability check after the build.
    pub repair: RepairReport,
    /// The effect of the training queries; `None` if the build had none.
    pub training: Option<TrainingReport>,
    /// Number of users in [`SectionKind::HeldOutQueries`](super::SectionKind::HeldOutQueries).
    #[serde(default)]
    pub held_out_queries: u32,
    /// Number of users in [`SectionKind::TrainingQueries`](super::SectionKind::TrainingQueries).
    #[serde(default)]
    pub training_queries: u32,
    /// Number of landmarks. 0 in files older than version 11.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub landmarks: u32,
    /// The last write of the mutation log that the input contains; 0 if none.
    #[serde(default)]
    pub log_sequence: u64,
    /// Parked upserts, which did not fit the schema of this generation, are not in it if their sequence is above this
    /// one, even if it is at most `log_sequence`. Absent if it equals `log_sequence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_after: Option<u64>,
    /// Whether the graph is a renewed graph of an older generation, instead of one built from nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renewed: bool,
}

/// Copies matter if they are at least one node in this many,
const COMMON_COPIES: u32 = 16;
/// or if some node has this many: they would take as many places among the candidates of a traversal.
const MANY_COPIES: u32 = 16;

impl Metadata {
    /// Whether a traversal has to keep copies from taking the places of other candidates.
    pub fn has_crowds(&self) -> bool {
        self.copies >= self.rows / COMMON_COPIES && self.copies > 0 || self.most_copies >= MANY_COPIES
    }

    /// The log sequence after which upserts that do not fit this generation are still parked.
    pub fn held_after(&self) -> u64 {
        self.held_after.unwrap_or(self.log_sequence)
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How well a search by codes finds what a search in full precision finds, measured by a build on a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeCheck {
    /// The codes that were compared. The index has none if their recall was too low.
    pub codes: Codes,
    /// The number of queries.
    pub queries: u32,
    /// Found share of the exact 10 or 100 best of the sample, whichever is lower, 0 to 1.
    pub recall: f64,
}

/// What results are scored with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rescoring {
    /// Codes and fine codes from 32 MiB of embeddings on, otherwise the embeddings.
    #[default]
    Auto,
    /// Codes and [fine codes](super::SectionKind::FineCodes), 16 bits per component: searches do not read the embeddings. Under
    /// L2, and in an index without codes, as [`Self::Embeddings`].
    Codes,
    /// The embeddings.
    Embeddings,
}

impl Rescoring {
    /// Every choice, the default first.
    pub const ALL: [Rescoring; 3] = [Rescoring::Auto, Rescoring::Codes, Rescoring::Embeddings];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Rescoring::Auto => "auto",
            Rescoring::Codes => "codes",
            Rescoring::Embeddings => "embeddings",
        }
    }

    fn is_auto(&self) -> bool {
        *self == Rescoring::Auto
    }
}

impl std::str::FromStr for Rescoring {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Rescoring::ALL.into_iter().find(|rescoring| rescoring.name() == word);
        found.ok_or_else(|| format!("unknown rescoring {word:?}: expected auto, codes or embeddings"))
    }
}

/// How the graph was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildFacts {
    /// `native` or `hnsw-rs`; [`Self::NO_BUILDER`] for a small segment without a graph.
    pub builder: String,
    /// Size of the candidate list during insertion.
    pub ef_construction: u32,
    /// Seed of the random layers.
    pub seed: u64,
    /// What the build was asked to score results with.
    #[serde(default, skip_serializing_if = "Rescoring::is_auto")]
    pub rescoring: Rescoring,
}

impl BuildFacts {
    /// The builder name of an index without a graph.
    pub const NO_BUILDER: &str = "none";
}

/// The result of the reachability check of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairReport {
    /// Nodes that were not reachable from the entry point over layer 0.
    pub unreachable: u32,
    /// Edges added in free slots to reach them.
    pub edges_added: u32,
    /// Edges replaced by one that reaches them.
    pub edges_replaced: u32,
}

/// The effect of the training queries, and the recall of the held-out users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingReport {
    /// Users of the sample that taught the graph.
    pub users: u32,
    /// Additional users, generated from those because the catalog needs more, that taught the graph.
    #[serde(default)]
    pub multiplied: u32,
    /// Edges added for all of them.
    pub edges_added: u64,
    /// Users of the same sample that were held out to measure recall.
    pub held_out: u32,
    /// Recall of the finished index on the held-out users.
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
    /// Found share of the exact k nearest, 0 to 1.
    pub recall: f64,
}

/// The name and type of one attribute column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeSchema {
    /// The name, as in the Parquet file.
    pub name: String,
    /// The type of the values.
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
    /// Whether a column of this type has levels: numbers and times.
    pub fn has_levels(self) -> bool {
        match self {
            Self::Int64 | Self::Uint64 | Self::Double | Self::Timestamp => true,
            Self::Bool | Self::Keyword | Self::KeywordList => false,
        }
    }

    /// Every kind.
    pub const ALL: [AttributeKind; 7] = [
        AttributeKind::Keyword,
        AttributeKind::KeywordList,
        AttributeKind::Int64,
        AttributeKind::Uint64,
        AttributeKind::Double,
        AttributeKind::Bool,
        AttributeKind::Timestamp,
    ];

    /// The name in errors and in files.
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
