//! Builds the next generation while the current one answers.
//!
//! What flows in: a snapshot, its delta, and a sample of user queries. What flows out: a staged generation and its
//! calibration. Nothing here knows what a request looks like on the wire.
//!
//! | file | duty |
//! |---|---|
//! | `rebuilds.rs` | one rebuild at a time: when, its thread, its progress |
//! | `sampled.rs`  | a sample of user queries, and the recall of their answers |

pub(crate) mod rebuilds;
pub(crate) mod sampled;
