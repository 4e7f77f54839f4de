//! A log in a stream of NATS JetStream, which any number of processes write to and receive.
//!
//! A message is one mutation, and its number in the stream is its sequence number. A batch of mutations is one atomic batch
//! of messages: all of them or none are in the stream. What this process received is kept in a file next to its generations,
//! so that a start goes on from there.
//!
//! ```text
//! append ─► publisher ─► stream, on most servers ─► receiver ─► file ─► delta
//!                              ▲        └─► takedowns: also an object in the bucket
//!                        other processes
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `options.rs`    | where the stream is, and what it is called |
//! | `connection.rs` | the connection to the servers, and the state of the stream |
//! | `publisher.rs`  | messages into the stream, each once |
//! | `receiver.rs`   | messages from the stream, in order and without a gap |
//! | `digest.rs`     | a running hash of what was received |
//! | `second_place.rs` | takedowns in the bucket that the log lacks |
//! | `opener.rs`     | opens the log of an index, from what was received before or from a generation |
//! | `stream_log.rs` | the log |

mod connection;
mod digest;
mod opener;
mod options;
mod publisher;
mod receiver;
mod second_place;
mod stream_log;

pub use opener::StreamOpener;
pub use options::{StreamOptions, TakedownRecords};
pub use stream_log::StreamLog;
