//! Whether a client takes the answers that it asked for.
//!
//! What flows in: a task that serves one call of HTTP/2, or one connection of HTTP/1. What flows out: the end of the task
//! if a part of an answer waits for the client for too long.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, Sleep};

tokio::task_local! {
    static CURRENT: Arc<Progress>;
}

/// The progress of the answers that one task sends.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Number of chunks that were handed over, and of those that were taken.
    handed: AtomicU64,
    taken: AtomicU64,
}

impl Progress {
    /// Returns the progress of the current task.
    pub(super) fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_default()
    }

    /// Notes that a chunk waits for the client.
    pub(super) fn handed(&self) {
        self.handed.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that no chunk waits.
    pub(super) fn taken(&self) {
        self.taken.store(self.handed.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The number of the chunk that waits, if one does.
    fn waiting(&self) -> Option<u64> {
        let handed = self.handed.load(Ordering::Relaxed);
        (handed != self.taken.load(Ordering::Relaxed)).then_some(handed)
    }
}

/// The limit on the time that a chunk waits.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    pub(crate) timeout: Duration,
    /// Counts the tasks that ended by it.
    pub(crate) count: Counter,
}

pin_project! {
    /// A task that ends when it makes no progress.
    pub(crate) struct Watched<F> {
        #[pin]
        task: F,
        progress: Arc<Progress>,
        stall: Stall,
        // The chunk that waits, and when it has waited for too long.
        waiting: Option<(u64, Pin<Box<Sleep>>)>,
    }
}

impl<F> Watched<F> {
    pub(crate) fn new(task: F, stall: Stall) -> Self {
        Self { task, progress: Arc::default(), stall, waiting: None }
    }

    /// Returns the task.
    pub(crate) fn task(self: Pin<&mut Self>) -> Pin<&mut F> {
        self.project().task
    }
}

impl<F: Future> Future for Watched<F> {
    /// `None` if the task made no progress.
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let task = this.task;
        if let Poll::Ready(output) = CURRENT.sync_scope(Arc::clone(this.progress), || task.poll(context)) {
            return Poll::Ready(Some(output));
        }
        let Some(chunk) = this.progress.waiting() else {
            *this.waiting = None;
            return Poll::Pending;
        };
        if this.waiting.as_ref().is_none_or(|(waiting, _)| *waiting != chunk) {
            let late = Instant::now() + this.stall.timeout;
            *this.waiting = Some((chunk, Box::pin(tokio::time::sleep_until(late))));
        }
        let late = this.waiting.as_mut().map(|(_, late)| late.as_mut().poll(context));
        if late.is_none_or(|late| late.is_pending()) {
            return Poll::Pending;
        }
        this.stall.count.inc();
        Poll::Ready(None)
    }
}
