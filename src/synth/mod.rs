//! Generates a sample catalog from a seed, similar to that of a two-tower recommender.
//!
//! What flows in: sizes and a seed. What flows out: embedding, id and attribute files, users that are *not*
//! distributed like videos, and requests with rules to benchmark. The same seed gives the same bytes on any number of
//! threads.
//!
//! The model: topics are points in a space whose directions have unequal variance. Creators scatter around topics,
//! and videos around creators. The number of videos per creator and the number of creators per topic are skewed.
//! The norm of a video varies, and grows with the popularity of its creator, as in a trained item tower. A user is
//! a mixture of one to four interests, transformed by another tower: a fixed linear distortion, an offset and
//! noise. The attribute `experiment` is uniform in [0, 1) and independent of everything else, like the hash that
//! assigns a video to an A/B test: a range of it is a random sample.
//!
//! | file | duty |
//! |---|---|
//! | `model.rs` | topics, creators, videos, users |
//! | `words.rs` | names and titles |
//! | `requests.rs` | benchmark requests, with filters that match known shares |
//! | `attributes.rs` | the attributes of every video, as Parquet |
//! | `files.rs` | the files, and how they are written |

mod attributes;
mod error;
mod files;
mod model;
mod params;
mod requests;
mod words;

pub use error::SynthError;
pub use files::{SynthFiles, synth, synth_until};
pub use params::SynthParams;
