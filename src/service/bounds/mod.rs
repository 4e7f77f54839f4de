//! Bounds: the memory of every call is counted and limited, from the first byte of a request to the last of its answer.
//!
//! What flows in: calls of a connection, as bytes. What flows out: the same calls, whose bodies are counted and limited;
//! or a refusal. A client that does not take its answers loses its connection. Does not know what a call asks for.
//!
//! | file | duty |
//! |---|---|
//! | `memory.rs`       | the memory of requests and answers in flight |
//! | `enforce.rs`      | counts and limits the memory of every call |
//! | `request_body.rs` | the body of a call, one whole message at a time |
//! | `wire_size/`      | how much memory a message takes once it is decoded |
//! | `answer_body.rs`  | the body of an answer, in small chunks |
//! | `large.rs`        | which messages are large |
//! | `lane.rs`         | handles them in turn, without blocking other calls |
//! | `progress.rs`     | whether a client takes the answers |

mod answer_body;
mod enforce;
mod lane;
mod large;
mod memory;
mod progress;
mod request_body;
mod wire_size;

pub(crate) use self::enforce::enforce;
pub(crate) use self::large::{SMALL_BYTES, SMALL_DECODED_BYTES, without_blocking_others};
pub(crate) use self::memory::{AnswerCharge, CallMemory, Charge, ConnectionMemory, ServerMemory, refusal};
pub(crate) use self::progress::{Stall, Watched};
pub(crate) use self::request_body::MAX_EXPANSION;
