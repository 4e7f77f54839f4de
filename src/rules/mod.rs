//! The rules of a request in domain terms: which videos may be candidates, and how many of a kind.
//!
//! What flows in: rules by attribute name and video id, from any request. What flows out: the same bound to one
//! generation: the set of nodes that match a filter, and a lookup of excluded ids. Nothing here knows graphs, scores
//! or gRPC.
//!
//! | folder | duty |
//! |---|---|
//! | `filter/`  | the filter: its tree, its text form, and the nodes that match it |
//! | `exclude/` | the excluded videos, ready for lookups |
//! | `score/`   | what is added to scores for attributes |
//! | `diversity.rs` | how candidates must differ from each other |
//! | `reserve.rs` | places kept for videos that match a filter, and how these are drawn |

mod diversity;
mod exclude;
mod filter;
mod reserve;
mod score;

use std::time::Duration;

use jiff::SignedDuration;

pub use diversity::Diversity;
pub use exclude::{Bloom, Exclude, ExcludeField, Exclusion, ExclusionError};
#[cfg(all(test, feature = "server"))]
pub(crate) use filter::arbitrary;
pub(crate) use filter::duration;
pub use filter::{
    Condition, ExpressionError, Filter, FilterProblem, FilterWork, MatchError, Number, Time, failing_clause,
    matching,
};

pub use reserve::{Places, Reserve, Sample};
pub(crate) use reserve::{decimal, share_of};
pub use score::{BindError, BoundTerms, ScoreTerm, TermError, TermField, TermForm, TermProblem};

/// All rules of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Candidates match this; `None` matches every video.
    pub filter: Option<Filter>,
    /// Candidates are not among these.
    pub exclude: Exclude,
    /// Limits on the number of candidates with the same attribute value.
    pub caps: Vec<Cap>,
    /// Places kept for fresh videos.
    pub fresh: Option<Fresh>,
    /// Places kept for videos that match filters; at most [`Reserve::MAX_RESERVES`].
    pub reserves: Vec<Reserve>,
    /// How candidates must differ from each other.
    pub diversity: Option<Diversity>,
    /// The lowest score of a candidate.
    pub score_threshold: Option<f32>,
    /// What is added to the scores of candidates; at most [`ScoreTerm::MAX_TERMS`].
    pub score_terms: Vec<ScoreTerm>,
}

impl Rules {
    /// The positions of some of the reserves, given one bit each, after that of the fresh videos if there is one.
    pub(crate) fn reserved(&self, bits: u32) -> Vec<usize> {
        let bits = bits >> u32::from(self.fresh.is_some());
        (0..self.reserves.len()).filter(|at| bits >> at & 1 != 0).collect()
    }
}

/// A limit on the number of candidates with the same value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Name of the attribute.
    pub attribute: String,
    /// Candidates per value, at least 1.
    pub max_per_value: usize,
}

/// Places kept for recently published videos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Name of a timestamp attribute.
    pub attribute: String,
    /// Maximum age of a fresh video.
    pub within: SignedDuration,
    /// Minimum number of fresh candidates among the k, as far as enough videos qualify.
    pub at_least: usize,
}

impl Fresh {
    /// Keeps `at_least` places for videos whose timestamp `attribute` is at most `within` ago.
    pub fn new(attribute: impl Into<String>, within: Duration, at_least: usize) -> Self {
        let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
        Self { attribute: attribute.into(), within, at_least }
    }
}
