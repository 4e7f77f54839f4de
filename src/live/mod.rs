//! What changes between builds: mutations of single videos, durable before they are acknowledged.
//!
//! What flows in: mutations that were checked against the index. What flows out: their sequence numbers, the
//! entries of the log again after a start, and the catalogs of what is built of them. Nothing here knows how a graph
//! is built or searched.
//!
//! ```text
//! callers ─► GroupCommit ─► MutationLog::append (one fsync for all) ─► apply ─► each caller's sequence
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `mutation.rs` | what can happen to a video |
//! | `rows.rs`     | videos, upserted or of older parts, become the catalog of a part |
//! | `record.rs`   | a mutation as the bytes of the log |
//! | `log.rs`      | what a log promises |
//! | `redb_log.rs` | the log in a file of this machine |
//! | `group.rs`    | many callers, one append |
//! | `error.rs`    | what can be wrong with a log |

mod error;
mod group;
mod log;
mod mutation;
mod record;
mod redb_log;
mod rows;

pub use error::LogError;
pub use group::GroupCommit;
pub use log::MutationLog;
pub use mutation::{Entry, Mutation, Upsert};
pub use redb_log::RedbLog;
pub use rows::{RowsError, UpsertError, check_attributes, check_embedding, dataset_of, gather};
