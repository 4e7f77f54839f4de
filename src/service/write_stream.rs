//! `Catalog.StreamUpsert`: many batches of one caller on their way to the disk together.
//!
//! What flows in: requests as they come. What flows out: one answer for each, in their order. Batches are written
//! side by side, so that one wait for the disk is enough for many of them, but for those that have a video in common:
//! the later one begins when the earlier one is done.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

use super::catalog::{PendingWrite, WriteCall};
use super::deadline::{Begun, Deadline};
use super::incoming::Incoming;
use super::proto::{StreamUpsertRequest, StreamUpsertResponse, WriteResponse, stream_upsert_response};
use super::{Shared, status};

/// The answers to a stream.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<StreamUpsertResponse, Status>> + Send>>;

/// Writes what comes until the stream ends, the deadline passes or the server drains. What has begun is answered
/// before the end.
pub(super) fn answers(
    shared: Arc<Shared>,
    requests: Streaming<StreamUpsertRequest>,
    deadline: Deadline,
) -> Answers {
    let (started, answers) = mpsc::unbounded_channel();
    tokio::spawn(read(shared, requests, deadline, started));
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

/// A request of a stream, on its way.
struct Started {
    answered: oneshot::Receiver<Result<WriteResponse, Status>>,
    /// Its place in the window of the stream, until it is answered.
    slot: OwnedSemaphorePermit,
}

/// Starts the requests of a stream as they come, a bounded number at a time.
async fn read(
    shared: Arc<Shared>,
    requests: Streaming<StreamUpsertRequest>,
    deadline: Deadline,
    started: mpsc::UnboundedSender<Result<Started, Status>>,
) {
    let call = WriteCall { shared: &shared, method: "StreamUpsert", deadline, begun: Begun::default() };
    let mut incoming = Incoming::of(&shared, call.method, requests, deadline);
    let mut on_their_way = OnTheirWay::default();
    while let Some(next) = incoming.next(started.closed()).await {
        let item = match next {
            Ok((slot, request)) => {
                let upsert = request.upsert.unwrap_or_default();
                let done = on_their_way.enter(upsert.videos.iter().map(|video| video.video_id)).await;
                let answered = answer_when_written(call.start_upsert(upsert, "upsert."), done);
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

/// Waits for a write whether or not the client takes the answers, since others may wait for it.
fn answer_when_written(
    pending: PendingWrite,
    done: oneshot::Sender<()>,
) -> oneshot::Receiver<Result<WriteResponse, Status>> {
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        let result = pending.answer().await;
        drop(done);
        // Nobody waits for the answer if the caller is gone.
        let _ = answer.send(result);
    });
    answered
}

/// The videos of batches that are not written yet.
#[derive(Default)]
struct OnTheirWay {
    /// With each, what ends when the batch is written.
    batches: Vec<(HashSet<u64>, oneshot::Receiver<()>)>,
}

impl OnTheirWay {
    /// Waits until no batch on its way has one of `videos`, then adds a batch of them, which is on its way until
    /// what this gives is dropped.
    async fn enter(&mut self, videos: impl Iterator<Item = u64>) -> oneshot::Sender<()> {
        let videos: HashSet<u64> = videos.collect();
        self.batches
            .retain_mut(|(_, done)| matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        for (others, done) in &mut self.batches {
            if !others.is_disjoint(&videos) {
                let _ = done.await;
                others.clear();
            }
        }
        // Those waited for are done, and are not asked again.
        self.batches.retain(|(others, _)| !others.is_empty());
        let (done, is_done) = oneshot::channel();
        self.batches.push((videos, is_done));
        done
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What a future gives without waiting.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_batch_waits_only_for_those_it_shares_a_video_with() {
        let mut on_their_way = OnTheirWay::default();
        let first = now(on_their_way.enter([1, 2].into_iter())).unwrap();
        let second = now(on_their_way.enter([3].into_iter())).unwrap();
        let empty = now(on_their_way.enter([].into_iter())).unwrap();
        assert!(now(on_their_way.enter([4, 2].into_iter())).is_none());
        assert!(now(on_their_way.enter([3].into_iter())).is_none());
        drop(first);
        let third = now(on_their_way.enter([2, 1, 4].into_iter())).unwrap();
        assert!(now(on_their_way.enter([4].into_iter())).is_none());
        drop((second, third, empty));
        assert!(now(on_their_way.enter([1, 2, 3, 4].into_iter())).is_some());
        assert_eq!(on_their_way.batches.len(), 1);
    }
}
