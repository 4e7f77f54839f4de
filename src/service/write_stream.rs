//! `Catalog.StreamUpsert`: several batches of one caller in flight to the disk.
//!
//! What flows in: requests as they arrive. What flows out: one answer per request, in the order of the requests.
//! Batches are written concurrently, so several of them share one disk sync. Of two batches that have a video in common,
//! the later one begins when the earlier one is written.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::bounds::{Charge, without_blocking_others};
use super::caller::Caller;
use super::deadline::{Begun, Deadline};
use super::incoming::{Incoming, Slot};
use super::proto::{StreamUpsertRequest, StreamUpsertResponse, WriteResponse, stream_upsert_response};
use super::shared::Shared;
use super::status;
use super::traces::Trace;
use super::write::{PendingWrite, WriteCall};

/// The answers to the requests of a stream.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<StreamUpsertResponse, Status>> + Send>>;

/// Writes the batches of a stream until it ends, the deadline passes or the server drains. Batches that have begun are
/// answered before the answers end.
pub(super) fn answers(
    shared: Arc<Shared>,
    requests: Incoming<StreamUpsertRequest>,
    deadline: Deadline,
    caller: Caller,
    trace: Option<Trace>,
) -> Answers {
    let (started, answers) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let memory = requests.memory();
        let read = read(shared, requests, deadline, caller, trace, started);
        without_blocking_others(memory.as_deref(), read).await;
    });
    Box::pin(UnboundedReceiverStream::new(answers).then(|started| async move {
        let Started { answered, slot } = started?;
        let answer = answered.await.unwrap_or_else(|_| Err(status::internal()));
        drop(slot);
        let item = match answer {
            Ok(response) => stream_upsert_response::Item::Response(response),
            Err(status) => stream_upsert_response::Item::Error(status::to_item(&status)),
        };
        Ok(StreamUpsertResponse { item: Some(item) })
    }))
}

/// A request of a stream in flight.
struct Started {
    answered: oneshot::Receiver<Result<WriteResponse, Status>>,
    /// Its slot in the window of the stream, held until it is answered.
    slot: Slot,
}

/// Starts the requests of a stream as they arrive, a bounded number at a time.
async fn read(
    shared: Arc<Shared>,
    mut incoming: Incoming<StreamUpsertRequest>,
    deadline: Deadline,
    caller: Caller,
    trace: Option<Trace>,
    started: mpsc::UnboundedSender<Result<Started, Status>>,
) {
    let call = WriteCall {
        shared: &shared,
        method: "StreamUpsert",
        deadline,
        begun: Begun::default(),
        caller,
        memory: None,
        room: incoming.memory(),
        trace,
    };
    let mut in_flight = InFlight::default();
    while let Some(next) = incoming.next(started.closed()).await {
        let item = match next {
            Ok((slot, request)) => {
                let upsert = request.upsert.unwrap_or_default();
                let done = in_flight.enter(upsert.videos.iter().map(|video| video.video_id)).await;
                let answered = answer_when_written(call.start_upsert(upsert, "upsert."), done, slot.charge());
                Ok(Started { answered, slot })
            }
            Err(status) => Err(status),
        };
        let is_last = item.is_err();
        if started.send(item).is_err() || is_last {
            return;
        }
    }
}

/// Waits for a write even if the client no longer takes the answers, because later batches may wait for it.
fn answer_when_written(
    pending: PendingWrite,
    done: oneshot::Sender<()>,
    charge: Option<Arc<Charge>>,
) -> oneshot::Receiver<Result<WriteResponse, Status>> {
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        let result = pending.answer().await;
        drop((done, charge));
        // Fails if the caller is gone.
        let _ = answer.send(result);
    });
    answered
}

/// The batches of a stream that are not written yet.
#[derive(Default)]
struct InFlight {
    batches: Vec<BatchInFlight>,
}

struct BatchInFlight {
    videos: HashSet<u64>,
    /// Resolves when the batch is written.
    written: oneshot::Receiver<()>,
}

impl InFlight {
    /// Waits until no batch in flight has one of `videos`, then adds a batch of them. The batch is in flight until the
    /// returned sender is dropped.
    async fn enter(&mut self, videos: impl Iterator<Item = u64>) -> oneshot::Sender<()> {
        let videos: HashSet<u64> = videos.collect();
        self.batches
            .retain_mut(|batch| matches!(batch.written.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        for batch in &mut self.batches {
            if !batch.videos.is_disjoint(&videos) {
                let _ = (&mut batch.written).await;
                batch.videos.clear();
            }
        }
        // A cleared batch is written. Its receiver must not be polled again.
        self.batches.retain(|batch| !batch.videos.is_empty());
        let (done, written) = oneshot::channel();
        self.batches.push(BatchInFlight { videos, written });
        done
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Returns the output of a future that is ready without waiting, else `None`.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_batch_waits_only_for_those_it_shares_a_video_with() {
        let mut in_flight = InFlight::default();
        let first = now(in_flight.enter([1, 2].into_iter())).unwrap();
        let second = now(in_flight.enter([3].into_iter())).unwrap();
        let empty = now(in_flight.enter([].into_iter())).unwrap();
        assert!(now(in_flight.enter([4, 2].into_iter())).is_none());
        assert!(now(in_flight.enter([3].into_iter())).is_none());
        drop(first);
        let third = now(in_flight.enter([2, 1, 4].into_iter())).unwrap();
        assert!(now(in_flight.enter([4].into_iter())).is_none());
        drop((second, third, empty));
        assert!(now(in_flight.enter([1, 2, 3, 4].into_iter())).is_some());
        assert_eq!(in_flight.batches.len(), 1);
    }
}
