//! Builds the next generation of an index while the current one answers.
//!
//! What flows in: the segments of an index without their tombstones, and a sample of user queries. What flows out: a
//! staged generation with its calibration. Nothing here knows how a generation is published.
//!
//! | file | duty |
//! |---|---|
//! | `error.rs`     | why a rebuild failed |
//! | `sampled.rs`   | a sample of user queries, and the recall of their answers |
//! | `sampled_users.rs` | the users of the sample, divided between callers |
//! | `rebuilder.rs` | at most one rebuild at a time: when it is due, its thread, its progress |
//! | `reshard.rs`   | a generation of one shard from those of shards of another size |
//! | `build.rs`     | builds the next generation from the segments of the current one |

pub(crate) mod build;
pub(crate) mod error;
pub(crate) mod rebuilder;
#[cfg(feature = "cluster")]
pub(crate) mod reshard;
pub(crate) mod sampled;
mod sampled_users;
