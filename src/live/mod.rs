//! Changes between builds: mutations of single videos, durable before they are acknowledged, and the delta that they
//! add to a generation.
//!
//! What flows in: mutations that were checked against the index. What flows out: their sequence numbers, the log
//! entries again after a start, and delta segments with tombstones. Nothing here knows how a request is answered.
//!
//! ```text
//! callers ─► GroupCommit ─► MutationLog::append (one fsync for all) ─► delta ─► each caller's sequence
//! ```
//!
//! | folder | duty |
//! |---|---|
//! | `log/`   | mutations, their encoding, the durable log, group commit |
//! | `delta/` | delta segments, tombstones, compaction |
//! | `log_compactor.rs` | removes superseded entries of the log in the background |

pub(crate) mod delta;
pub(crate) mod log;
mod log_compactor;

/// The file name of the log in the folder of an index.
pub const LOG_FILE: &str = "mutations.redb";

pub use delta::rows::{RowsError, UpsertError, check_attributes, check_embedding, dataset_of, gather};
pub use log::error::LogError;
pub use log::followed_log::FollowedLog;
pub use log::group::{Append, Appended, GroupCommit};
#[cfg(feature = "cluster")]
pub use log::jetstream::{Digest, StreamLog, StreamOpener, StreamOptions, TakedownRecords};
pub use log::mutation::{Entry, Mutation, Upsert};
pub use log::mutation_log::{LogSize, MutationLog};
pub use log::redb_log::RedbLog;
pub use log::salvage::Salvaged;
pub use log::shared_log::{OpenSharedLog, Received, SharedLog};
pub use log::tail::{Tail, TailState};
pub use log_compactor::LogCompactor;
