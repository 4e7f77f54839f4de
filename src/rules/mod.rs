//! What a request asks of its candidates besides the best scores, in domain words.
//!
//! What flows in: rules by the names of attributes and ids of videos, from any request. What flows out: the same
//! in terms of one generation: sets of nodes, and what a candidate is looked up in. Nothing here knows of graphs,
//! scores or gRPC.
//!
//! | file | duty |
//! |---|---|
//! | `filter.rs`      | the tree of conditions |
//! | `expression/`    | the same as text, both ways |
//! | `matching.rs`    | the nodes that a filter lets through |
//! | `resolve.rs`     | a filter bound to the columns of an index |
//! | `number.rs`      | numbers of different types compared |
//! | `match_error.rs` | what can be wrong with a filter |
//! | `exclusion.rs`   | the videos that may not be candidates, decoded |
//! | `lone_ids.rs`    | ids that candidates are looked up in where they lie |
//! | `id_set.rs`      | the same, written down |
//! | `bloom.rs`       | the Bloom filter of the proto |

#[cfg(test)]
pub(crate) mod arbitrary;
mod bloom;
mod exclusion;
mod expression;
mod failing;
mod filter;
mod id_set;
mod lone_ids;
mod match_error;
mod matching;
mod number;
mod resolve;

pub use exclusion::{Exclusion, ExclusionError};
pub use expression::ExpressionError;
#[cfg(feature = "cli")]
pub(crate) use expression::duration;
pub use failing::failing_part;
pub use filter::{Condition, Filter, Number, Time};
pub use match_error::{FilterProblem, MatchError};
pub use matching::matching;

use jiff::SignedDuration;

use crate::base::id::VideoId;

/// Everything that a request asks of its candidates besides the best scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Which videos may be candidates; all of them where there is none.
    pub filter: Option<Filter>,
    /// Which videos may not.
    pub exclude: Exclude,
    /// How many candidates may have the same value.
    pub caps: Vec<Cap>,
    /// Places that are kept for fresh videos.
    pub fresh: Option<Fresh>,
    /// Candidates score this much or more.
    pub score_threshold: Option<f32>,
}

/// Videos that may not be candidates, as a request has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclude {
    /// As they are.
    pub video_ids: Vec<VideoId>,
    /// As a serialized 64-bit Roaring bitmap, unchecked; empty for none.
    pub roaring: Vec<u8>,
    /// As a Bloom filter, unchecked.
    pub bloom: Option<Bloom>,
}

impl Exclude {
    /// Whether a request gives no videos to exclude.
    pub fn is_empty(&self) -> bool {
        self.video_ids.is_empty() && self.roaring.is_empty() && self.bloom.is_none()
    }
}

/// A Bloom filter over video ids, as a request has it. The proto defines its hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bloom {
    /// Bit j is bit j mod 8 of byte j div 8.
    pub bits: Vec<u8>,
    /// Bits per id.
    pub hashes: u32,
    /// Seeds the hashes.
    pub seed: u64,
}

/// How many candidates may have the same value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The attribute by name.
    pub attribute: String,
    /// At least 1.
    pub max_per_value: usize,
}

/// Places that are kept for videos that were published lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// A timestamp, by name.
    pub attribute: String,
    /// How long ago at most.
    pub within: SignedDuration,
    /// How many of the k at least, where there are so many.
    pub at_least: usize,
}
