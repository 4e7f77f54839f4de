//! Writes to one index: its log, and the delta that searches see.
//!
//! What flows in: mutations. What flows out: their sequence numbers, and snapshots that contain them. Nothing here
//! knows when a generation is replaced.
//!
//! | file | duty |
//! |---|---|
//! | `shared.rs`   | the current snapshot and its delta, shared by searches and writes |
//! | `position.rs` | whether the log continues where a generation ends |
//! | `log.rs`      | the log of one index, created by the first write |
//! | `reserve.rs`  | room on the disk that is kept for takedowns |
//! | `catalog.rs`  | checks and writes batches; looks up single videos |
//! | `interleavings.rs` | tests of the threads that write and swap |

pub(crate) mod catalog;
#[cfg(all(test, shuttle))]
mod interleavings;
pub(crate) mod log;
pub(crate) mod position;
mod reserve;
pub(crate) mod shared;
