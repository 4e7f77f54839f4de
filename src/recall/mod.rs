//! What share of the true neighbours an index finds.
//!
//! What flows in: an index or embeddings, and queries. What flows out: exact neighbours of many queries at once, and
//! curves of recall against effort. Nothing here knows of requests, servers or files.
//!
//! | file | duty |
//! |---|---|
//! | `ground_truth.rs` | exact neighbours of many queries |
//! | `calibrate.rs`    | recall against effort, for whoever asks for a recall |

mod calibrate;
mod ground_truth;

pub use calibrate::{CalibrateError, DEFAULT_K, calibrate};
pub use ground_truth::ground_truth;
