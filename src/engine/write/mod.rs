//! Writes to one index: its log, and the delta that searches see.
//!
//! What flows in: mutations. What flows out: their sequence numbers, and snapshots that contain them. Nothing here
//! knows when a generation is replaced.
//!
//! | file | duty |
//! |---|---|
//! | `shared.rs`  | the current snapshot and its delta, shared by searches and writes |
//! | `log.rs`     | the log of one index, created by the first write |
//! | `catalog.rs` | checks and writes batches; looks single videos up |

pub(crate) mod catalog;
pub(crate) mod log;
pub(crate) mod shared;
