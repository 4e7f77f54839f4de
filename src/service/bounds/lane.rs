//! Runs the handling of large messages in turn, and without blocking other calls.
//!
//! What flows in: one poll of a call, and whether it handles a large message. What flows out: its result. Before a poll
//! that handles a large message, the other calls of the thread move to another thread. Large messages take at most half of
//! the processors, and those of one connection at most one processor. Does not know what a message is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Where large messages wait for their turn.
#[derive(Clone, Debug)]
pub(super) struct Lane(Arc<Semaphore>);

impl Lane {
    /// Room for as many as half of the processors.
    pub(super) fn of_server() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }

    /// Room for one.
    pub(super) fn of_connection() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Waits for room. It is taken until the permit is dropped.
    async fn enter(self) -> Option<OwnedSemaphorePermit> {
        // No lane is ever closed.
        self.0.acquire_owned().await.ok()
    }
}

/// A turn of one poll: room in the lane of the connection and in that of the server.
type Turn = Pin<Box<dyn Future<Output = [Option<OwnedSemaphorePermit>; 2]> + Send>>;

/// The polls of one call.
pub(super) struct Polls {
    connection: Lane,
    server: Lane,
    /// The turn that the next poll waits for.
    turn: Option<Turn>,
}

impl Polls {
    pub(super) fn new(connection: Lane, server: Lane) -> Self {
        Self { connection, server, turn: None }
    }

    /// Runs one poll: in its turn, if it handles a large message.
    pub(super) fn run<T>(
        &mut self,
        is_large: bool,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // A runtime of one thread has no other thread.
        if !is_large || !has_threads() {
            self.turn = None;
            return poll(context);
        }
        let turn = self.turn.get_or_insert_with(|| {
            let (connection, server) = (self.connection.clone(), self.server.clone());
            Box::pin(async { [connection.enter().await, server.enter().await] })
        });
        let _room = ready!(turn.as_mut().poll(context));
        self.turn = None;
        tokio::task::block_in_place(|| poll(context))
    }
}

fn has_threads() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn polls(server: &Lane) -> Polls {
        Polls::new(Lane::of_connection(), server.clone())
    }

    fn lane(room: usize) -> Lane {
        Lane(Arc::new(Semaphore::new(room)))
    }

    #[test]
    fn other_calls_of_the_same_thread_run_during_a_large_poll() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let call = runtime.spawn(poll_fn(|context| {
            polls(&lane(1)).run(true, context, |_| {
                let (sender, receiver) = mpsc::channel();
                tokio::spawn(async move { sender.send(()) });
                Poll::Ready(receiver.recv_timeout(Duration::from_secs(60)))
            })
        }));
        runtime.block_on(call).unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_runs_large_polls_as_well() {
        let mut polls = polls(&lane(0));
        assert_eq!(poll_fn(|context| polls.run(true, context, |_| Poll::Ready(1))).await, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn large_polls_wait_for_room_and_small_ones_do_not() {
        let server = lane(1);
        let room = server.clone().enter().await;
        let mut small = polls(&server);
        assert_eq!(poll_fn(|context| small.run(false, context, |_| Poll::Ready(1))).await, 1);
        let mut first = polls(&server);
        let mut run = |is_large| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            first.run(is_large, &mut context, |_| Poll::Ready(1))
        };
        assert_eq!(run(true), Poll::Pending);
        // A poll that waits no more leaves the queue.
        assert_eq!(run(false), Poll::Ready(1));
        assert_eq!(run(true), Poll::Pending);
        drop(room);
        assert_eq!(run(true), Poll::Ready(1));
        assert_eq!(server.0.available_permits(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_calls_of_one_connection_wait_in_its_own_lane() {
        let (server, connection) = (lane(1), Lane::of_connection());
        let room = server.clone().enter().await;
        let mut waiting: Vec<_> = (0..3).map(|_| Polls::new(connection.clone(), server.clone())).collect();
        let mut context = Context::from_waker(std::task::Waker::noop());
        for polls in &mut waiting {
            assert_eq!(polls.run(true, &mut context, |_| Poll::Ready(1)), Poll::Pending);
        }
        let mut other = polls(&server);
        assert_eq!(other.run(true, &mut context, |_| Poll::Ready(2)), Poll::Pending);
        drop(room);
        // One call of the first connection was ahead of the other connection, and not all three.
        assert_eq!(waiting[0].run(true, &mut context, |_| Poll::Ready(1)), Poll::Ready(1));
        assert_eq!(waiting[1].run(true, &mut context, |_| Poll::Ready(1)), Poll::Pending);
        assert_eq!(other.run(true, &mut context, |_| Poll::Ready(2)), Poll::Ready(2));
        assert_eq!(waiting[1].run(true, &mut context, |_| Poll::Ready(1)), Poll::Ready(1));
    }
}
