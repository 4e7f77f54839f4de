//! Types and utilities that every other module shares. They import nothing from the rest of the crate.
//!
//! | file | duty |
//! |---|---|
//! | `id.rs`          | [`VideoId`](id::VideoId), which callers use, and [`NodeId`](id::NodeId), which an index uses |
//! | `metric.rs`      | the score of a video for a query |
//! | `element.rs`     | the types that an embedding component is stored in |
//! | `mapped_file.rs` | read-only memory maps, and memory on huge pages |
//! | `available_memory.rs` | how much memory this process may still take |
//! | `map_guard.rs`   | lost pages of a mapped file: a mark instead of the end of the process |
//! | `staged_file.rs` | files that are written under a temporary name, then renamed |
//! | `partition.rs`   | which shard of an index a video belongs to |
//! | `instant.rs`     | points in time of the years -9999 to 9999 |
//! | `duration.rs`    | durations as text |
//! | `whole.rs`       | whole numbers, where fractions are errors |
//! | `regular_file.rs` | opens regular files only, without waiting |
//! | `clock.rs`       | the time of day, without steps forward |
//! | `output.rs`      | a file, device or stream that a user named for output |
//! | `local_path.rs`  | paths that are not addresses |
//! | `file_identity.rs` | whether a path still leads to the file that was opened |
//! | `panics.rs`      | panics as values |
//! | `interrupt.rs`   | whether long-running work should stop early |
//! | `parallel.rs`    | loops on the current rayon pool |
//! | `mix.rs`        | the hash of a number |
//! | `priority.rs`   | the priority and the processor time of threads in the background |
//! | `program.rs`     | the commit that the program was built from |
//! | `hits.rs`        | recall by score: how many items of an answer are as good as the exact ones |
//! | `sync.rs`        | locks, threads and published values, which tests can interleave |
//! | `text.rs`        | untrusted text: length limit, control characters |

pub mod available_memory;
pub mod clock;
#[cfg(feature = "server")]
pub(crate) mod duration;
pub mod element;
pub mod file_identity;
pub mod hits;
pub mod id;
pub mod instant;
pub mod interrupt;
pub mod local_path;
mod map_guard;
pub mod mapped_file;
pub mod metric;
pub(crate) mod mix;
pub mod output;
pub mod panics;
pub mod parallel;
pub mod partition;
pub(crate) mod priority;
#[cfg(feature = "server")]
pub(crate) mod program;
pub mod regular_file;
pub mod staged_file;
pub mod sync;
pub mod text;
#[cfg(feature = "server")]
pub(crate) mod whole;
