//! Handles large messages without blocking other calls.
//!
//! Decoding, converting and encoding a message block the thread for a time in proportion to its size. What flows in: one
//! poll of a call, and whether it handles a large message. What flows out: its result. Before a poll that handles a large
//! message, the other calls of the thread move to another thread.

use std::future::{Future, poll_fn};
use std::pin::pin;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::memory::CallMemory;

/// Messages up to this size block the thread: moving the other calls would take longer.
pub(super) const SMALL_BYTES: usize = 64 << 10;

/// Runs `future`, which handles the messages of `call`, without blocking other calls.
pub(crate) async fn without_blocking_others<T>(
    call: Option<&CallMemory>,
    future: impl Future<Output = T>,
) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        let is_large = call.is_some_and(CallMemory::has_large_message);
        poll_once(is_large, || future.as_mut().poll(context))
    })
    .await
}

/// Runs one poll of a call.
pub(super) fn poll_once<T>(is_large: bool, poll: impl FnOnce() -> T) -> T {
    // A runtime of one thread has no other thread.
    let has_threads =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_large && has_threads() { tokio::task::block_in_place(poll) } else { poll() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn other_calls_of_the_same_thread_run_during_a_large_poll() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let call = runtime.spawn(async {
            let (sender, receiver) = mpsc::channel();
            tokio::spawn(async move { sender.send(()) });
            poll_once(true, || receiver.recv_timeout(Duration::from_secs(60)))
        });
        runtime.block_on(call).unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_runs_large_polls_as_well() {
        assert_eq!(poll_once(true, || 1), 1);
    }
}
