//! A catalog as a two-tower recommender would have it, made up from a seed.
//!
//! What flows in: sizes and a seed. What flows out: embedding, id and attribute files, users that are *not*
//! distributed like videos, and requests with rules to measure. The same seed gives the same bytes on any number of
//! threads.
//!
//! The model: topics lie in a space whose directions matter unequally; creators scatter around topics,
//! videos around creators; how many videos a creator has, and how many creators a topic, is skewed. The
//! norm of a video varies and grows with how popular its creator is, as in a trained item tower. A user
//! is a mixture of one to four interests, seen through another tower: a fixed linear distortion, an
//! offset and noise. The attribute `experiment` is uniform in [0, 1) whatever else a video is, like the hash
//! that assigns it to an A/B test: a range of it is a random sample.
//!
//! | file | duty |
//! |---|---|
//! | `model.rs` | topics, creators, videos, users |
//! | `words.rs` | names and titles |
//! | `requests.rs` | what is asked of the catalog, with filters of known shares |
//! | `files.rs` | what is written where |

mod files;
mod model;
mod requests;
mod words;

pub use files::{SynthError, SynthFiles, synth};

/// How much to make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthParams {
    /// Videos in the catalog.
    pub videos: usize,
    /// Components per embedding.
    pub dim: usize,
    /// Users in all; one in five of them, and no more than 10,000, are held out.
    pub users: usize,
    /// What everything is drawn from.
    pub seed: u64,
}

impl SynthParams {
    /// Users unless told otherwise.
    pub const DEFAULT_USERS: usize = 10_000;
    /// The seed unless told otherwise.
    pub const DEFAULT_SEED: u64 = 42;

    /// Users that a build must not learn from.
    pub fn held_out_users(&self) -> usize {
        (self.users / 5).clamp(1, 10_000)
    }

    /// Videos that are not in the catalog, to be used as queries.
    pub fn held_out_videos(&self) -> usize {
        (self.videos / 10).clamp(1, 5_000)
    }
}
