//! Recall: the share of the exact nearest neighbors that an index finds.
//!
//! What flows in: an index or embeddings, and queries. What flows out: the exact neighbors of many queries at once, and
//! curves of recall against effort. This module does not know requests or servers.
//!
//! | file | duty |
//! |---|---|
//! | `ground_truth.rs` | exact neighbors of many queries (brute force) |
//! | `hits.rs`         | hits of a search against the exact neighbors |
//! | `calibrate.rs`    | recall against effort, from which a search picks the effort for a target recall |
//! | `guess.rs`        | queries in place of users that nobody knows |
//! | `publish.rs`      | calibration of a finished build before it is published |

mod calibrate;
mod ground_truth;
mod guess;
mod hits;
mod publish;

pub use calibrate::{CalibrateError, DEFAULT_EFFORT_K, DEFAULT_K, calibrate};
pub use ground_truth::{exact_rows_of, ground_truth, ground_truth_of};
pub use hits::{hits_of, hits_within};
pub use publish::{calibrate_built, calibrate_staged};
