//! The durable log of mutations.
//!
//! | file | duty |
//! |---|---|
//! | `mutation.rs`     | the changes of one video |
//! | `record.rs`       | a mutation as the bytes of the log |
//! | `mutation_log.rs` | the contract of a log |
//! | `redb_log.rs`     | a log in a file of this machine |
//! | `tables.rs`       | its tables |
//! | `salvage.rs`      | the intact records of a damaged log |
//! | `copy.rs`         | a copy of a log in another file |
//! | `takedowns.rs`    | the table of takedowns, with its checksums |
//! | `snapshot.rs`     | the bytes of a log, copied while another process writes to it |
//! | `database.rs`     | a database whose panics are errors |
//! | `examine.rs`      | compares every checksum of a file before it is used |
//! | `disk.rs`         | the bytes of its file |
//! | `group.rs`        | group commit: many callers, one append |
//! | `shared_log.rs`   | the contract of a log that other processes write to, too |
//! | `followed_log.rs` | the log of another process, to be read |
//! | `received.rs`     | a local log as the file for what was received of a shared one |
//! | `jetstream/`      | a log in a stream of NATS |
//! | `tail.rs`         | applies what a shared log receives |
//! | `error.rs`        | errors of a log |
//! | `memory_log.rs`   | a log in memory, for tests |

mod copy;
mod database;
mod disk;
pub(crate) mod error;
mod examine;
pub(crate) mod followed_log;
pub(crate) mod group;
#[cfg(feature = "cluster")]
pub(crate) mod jetstream;
#[cfg(test)]
pub(crate) mod memory_log;
pub(crate) mod mutation;
pub(crate) mod mutation_log;
#[cfg(feature = "cluster")]
mod received;
pub(crate) mod record;
pub(crate) mod redb_log;
pub(crate) mod salvage;
pub(crate) mod shared_log;
mod snapshot;
mod tables;
pub(crate) mod tail;
mod takedowns;
