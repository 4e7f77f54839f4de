//! Writes to one index: its log, and the delta that searches see.
//!
//! What flows in: mutations. What flows out: their sequence numbers, and snapshots that contain them. Nothing here
//! knows when a generation is replaced.
//!
//! | file | duty |
//! |---|---|
//! | `shared.rs`   | the current snapshot and its delta, shared by searches and writes |
//! | `position.rs` | whether the log continues where a generation ends |
//! | `found_log.rs` | the log of an index as a start finds it |
//! | `log.rs`      | the log of one index, created by the first write |
//! | `problem.rs`  | why a log has to be opened again |
//! | `tailed.rs`   | a log that other processes write to, too |
//! | `reserve.rs`  | room on the disk that is kept for takedowns |
//! | `catalog.rs`  | checks and writes batches; looks up single videos |
//! | `interleavings.rs` | tests of the threads that write and swap |

pub(crate) mod catalog;
pub(crate) mod found_log;
#[cfg(all(test, shuttle))]
mod interleavings;
pub(crate) mod log;
pub(crate) mod position;
pub(crate) mod problem;
mod reserve;
pub(crate) mod shared;
pub(crate) mod tailed;
