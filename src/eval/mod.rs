//! Measuring: ground truth, recall, effort sweeps.
//!
//! What flows in: an index or embeddings, queries, exact neighbours. What flows out: figures. Nothing
//! here knows of gRPC.
//!
//! | file | duty |
//! |---|---|
//! | `ground_truth.rs` | exact neighbours of many queries |
//! | `sweep.rs`        | recall against latency, per k and effort |
//! | `calibrate.rs`    | recall against effort, for whoever asks for a recall |

mod calibrate;
mod ground_truth;
mod sweep;

pub use calibrate::{CalibrateError, DEFAULT_K, calibrate};
pub use ground_truth::ground_truth;
pub use sweep::{Report, Sweep, SweepError, SweepRow, sweep};
