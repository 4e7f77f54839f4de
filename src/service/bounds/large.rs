//! Which messages are large, and how the calls that have them are run.
//!
//! Decoding, converting and encoding a message block the thread for a time in proportion to its size. So a large message
//! waits for its turn in a [`lane`](super::lane).

use std::future::{Future, poll_fn};
use std::pin::pin;

use super::memory::CallMemory;

/// Messages up to this size block the thread: moving the other calls would take longer.
pub(crate) const SMALL_BYTES: usize = 64 << 10;
/// The same for the memory of decoded messages.
pub(crate) const SMALL_DECODED_BYTES: usize = 256 << 10;

/// Runs `future`, which handles the messages of `call`, without blocking other calls.
pub(crate) async fn without_blocking_others<T>(
    call: Option<&CallMemory>,
    future: impl Future<Output = T>,
) -> T {
    let Some(call) = call else { return future.await };
    let mut future = pin!(future);
    let mut polls = call.polls();
    poll_fn(|context| polls.run(call.has_large_message(), context, |context| future.as_mut().poll(context)))
        .await
}
