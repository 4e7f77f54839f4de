//! Handles large messages without holding up the other calls of the thread.
//!
//! Decoding a message, converting it and encoding an answer take time in proportion to their size, at once: no other call
//! of the thread moves on meanwhile. What flows in: a step of a call, and whether it handles a large message. What flows
//! out: its result. A step with a large message first hands the other calls to another thread.

use std::future::{Future, poll_fn};
use std::pin::pin;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::memory::CallMemory;

/// Messages up to this size are handled where they are read: handing the other calls over takes longer.
pub(super) const SMALL_BYTES: usize = 64 << 10;

/// Runs `future`, which handles the messages of `call`.
pub(crate) async fn run<T>(call: Option<&CallMemory>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        let is_large = call.is_some_and(CallMemory::has_large_message);
        step(is_large, || future.as_mut().poll(context))
    })
    .await
}

/// Runs one step of a call.
pub(super) fn step<T>(is_large: bool, step: impl FnOnce() -> T) -> T {
    // A runtime of one thread has no other thread for the other calls.
    let has_threads =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_large && has_threads() { tokio::task::block_in_place(step) } else { step() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn other_calls_of_the_same_thread_move_on_during_a_large_step() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let call = runtime.spawn(async {
            let (sender, receiver) = mpsc::channel();
            tokio::spawn(async move { sender.send(()) });
            step(true, || receiver.recv_timeout(Duration::from_secs(60)))
        });
        runtime.block_on(call).unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_runs_large_steps_as_well() {
        assert_eq!(step(true, || 1), 1);
    }
}
