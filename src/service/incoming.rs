//! The requests of a stream as they arrive, a bounded number at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Status, Streaming};

use super::access::Standing;
use super::bounds::{CallMemory, Charge};
use super::deadline::{self, Deadline};
use super::metrics::Observation;
use super::shell::Shell;
use super::{status, undecodable};

/// A stream of requests.
pub(crate) struct Incoming<T> {
    shell: Arc<Shell>,
    method: &'static str,
    requests: Streaming<T>,
    window: Arc<Semaphore>,
    draining: watch::Receiver<bool>,
    deadline: Deadline,
    memory: Option<Arc<CallMemory>>,
    standing: Standing,
}

/// The place of a request in the window of its stream, and its memory, held until it is answered.
pub(crate) struct Slot {
    _place: OwnedSemaphorePermit,
    charge: Option<Arc<Charge>>,
}

impl Slot {
    /// Returns the memory of the request, for work that goes on without the client.
    pub(crate) fn charge(&self) -> Option<Arc<Charge>> {
        self.charge.clone()
    }
}

impl<T> Incoming<T> {
    pub(crate) fn of(
        shell: &Arc<Shell>,
        method: &'static str,
        requests: Streaming<T>,
        deadline: Deadline,
        memory: Option<Arc<CallMemory>>,
        standing: Standing,
    ) -> Self {
        let window = Arc::new(Semaphore::new(shell.limits.max_stream_window));
        let (shell, draining) = (Arc::clone(shell), shell.draining.clone());
        Self { shell, method, requests, window, draining, deadline, memory, standing }
    }

    /// Returns the memory of the call.
    pub(crate) fn memory(&self) -> Option<Arc<CallMemory>> {
        self.memory.clone()
    }

    /// Returns the next request with its slot in the window, to be held until the request is answered. Returns `None`
    /// once the stream has ended, or when `gone` completes.
    ///
    /// # Errors
    /// Why there are no further requests: the deadline passed, the server drains, the stream broke, the credential is no
    /// longer valid, or a request cannot be decoded, after which the decoder does not continue.
    pub(crate) async fn next(&mut self, gone: impl Future<Output = ()>) -> Option<Result<(Slot, T), Status>> {
        let Self { shell, method, requests, window, draining, deadline, memory, standing } = self;
        let drain = async { _ = draining.wait_for(|draining| *draining).await };
        let next = async {
            let place = Arc::clone(window).acquire_owned().await.map_err(|_| status::internal())?;
            let request = requests.message().await;
            let request =
                request.map_err(|status| undecodable::refusal_in_stream(shell, method, *deadline, status))?;
            if request.is_some() {
                standing.check(method).inspect_err(|status| {
                    Observation::begin(&shell.metrics.requests, method, "", *deadline).finish(status.code());
                })?;
            }
            let charge = memory.as_ref().and_then(|memory| memory.take()).map(Arc::new);
            Ok(request.map(|request| (Slot { _place: place, charge }, request)))
        };
        let next: Result<_, Status> = tokio::select! {
            biased;
            () = gone => return None,
            () = deadline.passed() => Err(deadline::exceeded()),
            () = drain => Err(status::draining()),
            next = next => next,
        };
        next.transpose()
    }
}
