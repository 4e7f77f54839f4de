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

mod attributes;
mod error;
mod files;
mod model;
mod params;
mod requests;
mod words;

pub use error::SynthError;
pub use files::{SynthFiles, synth};
pub use params::SynthParams;
