//! The score of a video for a query. A larger score is better everywhere outside the builders.

use serde::{Deserialize, Serialize};

/// The function that scores a video `x` for a query `q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// `q · x`: the score of a two-tower recommender. Norms of videos differ and count.
    #[serde(rename = "ip")]
    InnerProduct,
    /// `q · x / (‖q‖ ‖x‖)`: rows are normalized when the index is built, queries when they arrive.
    Cosine,
    /// `−‖q − x‖²`: the negated squared Euclidean distance.
    L2,
}

impl Metric {
    /// Every metric, in the order of the command-line help.
    pub const ALL: [Metric; 3] = [Metric::InnerProduct, Metric::Cosine, Metric::L2];

    /// The name of this metric on the command line, in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Metric::InnerProduct => "ip",
            Metric::Cosine => "cosine",
            Metric::L2 => "l2",
        }
    }

    /// Whether a query of zeros ranks videos. It is a point like any other under L2; under the other metrics, it gives
    /// every video the same score.
    pub fn ranks_by_zeros(self) -> bool {
        self == Metric::L2
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Metric {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Metric::ALL
            .into_iter()
            .find(|metric| metric.name() == word)
            .ok_or_else(|| format!("unknown metric {word:?}: expected ip, cosine or l2"))
    }
}
