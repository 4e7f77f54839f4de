//! Why a generation is not served.

use serde::{Deserialize, Serialize};

/// A problem that keeps a generation from being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of problem it is.
    pub reason: RefusalReason,
    /// The problem, with expected and found.
    pub problem: String,
}

/// Why a generation is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// It has another dimension than the generation that is served.
    Dimension,
    /// It has another metric.
    Metric,
    /// It lacks the embedding model, or has another one than requests name.
    EmbeddingModel,
    /// It lacks attributes, or they have another type.
    Attributes,
    /// It lacks a calibration.
    Calibration,
    /// It has far fewer videos.
    Videos,
    /// Nodes cannot be reached.
    Reachability,
    /// Its recall is too low.
    Recall,
    /// Its answers share too little with those of the generation that is served.
    Overlap,
    /// Its searches are too slow.
    Latency,
    /// It could not be measured.
    Measurement,
    /// It does not continue where the log is.
    Writes,
    /// It cannot be read or is damaged, or the reason was not written down.
    Other,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Dimension,
        Self::Metric,
        Self::EmbeddingModel,
        Self::Attributes,
        Self::Calibration,
        Self::Videos,
        Self::Reachability,
        Self::Recall,
        Self::Overlap,
        Self::Latency,
        Self::Measurement,
        Self::Writes,
        Self::Other,
    ];

    /// Returns whether the problem may end without a change of the generation: a calibration is added, or the cause of a
    /// failed measurement is fixed.
    pub fn may_end(self) -> bool {
        matches!(self, Self::Calibration | Self::Measurement)
    }

    /// The name in reports and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dimension => "dimension",
            Self::Metric => "metric",
            Self::EmbeddingModel => "embedding_model",
            Self::Attributes => "attributes",
            Self::Calibration => "calibration",
            Self::Videos => "videos",
            Self::Reachability => "reachability",
            Self::Recall => "recall",
            Self::Overlap => "overlap",
            Self::Latency => "latency",
            Self::Measurement => "measurement",
            Self::Writes => "writes",
            Self::Other => "other",
        }
    }
}
