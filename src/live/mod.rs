//! What changes between builds: mutations of single videos, durable before they are acknowledged.
//!
//! What flows in: mutations that were checked against the index. What flows out: their sequence numbers, and the
//! entries of the log again after a start. Nothing here knows how a graph is built or searched.
//!
//! | file | duty |
//! |---|---|
//! | `mutation.rs` | what can happen to a video |

mod mutation;

pub use mutation::{Entry, Mutation, Upsert};
