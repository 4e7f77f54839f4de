//! What share of the true neighbors an index finds.
//!
//! What flows in: an index or embeddings, and queries. What flows out: exact neighbors of many queries at once, and
//! curves of recall against effort. Nothing here knows of requests or servers.
//!
//! | file | duty |
//! |---|---|
//! | `ground_truth.rs` | exact neighbors of many queries |
//! | `calibrate.rs`    | recall against effort, for whoever asks for a recall |
//! | `publish.rs`      | a finished build is calibrated before it is published |

mod calibrate;
mod ground_truth;
mod publish;

pub use calibrate::{CalibrateError, DEFAULT_K, calibrate};
pub use ground_truth::{ground_truth, ground_truth_of};
pub use publish::calibrate_staged;
