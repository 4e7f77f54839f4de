//! The body of an answer, in small chunks.
//!
//! What flows in: encoded messages. What flows out: the same bytes, handed to the transport as it takes them, and whether
//! it does. A message is charged until the transport has dropped its last chunk: it was written, or its call has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::lane::Polls;
use super::memory::{AnswerCharge, CallMemory, Charge};
use super::progress::Progress;

/// Bytes that are handed over at a time. Most answers are smaller.
const CHUNK_BYTES: usize = 64 << 10;

/// Answers that take more memory than this are encoded without blocking other calls.
const LARGE_BYTES: usize = 512 << 10;

/// The body of the answer to one call.
pub(super) struct AnswerBody {
    inner: Body,
    /// The charge of the messages that are not encoded yet.
    plain: AnswerCharge,
    /// What is encoded and not handed over.
    rest: Bytes,
    /// The charge for all that was encoded at once, which `rest` is the end of.
    charge: Arc<Charge>,
    progress: Arc<Progress>,
    polls: Polls,
    /// Dropped last: the call is in flight until its answer is handed over.
    call: Arc<CallMemory>,
}

/// A part of an encoded message. A slice keeps the memory of the whole message, so it keeps the whole charge.
struct Chunk {
    bytes: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AnswerBody {
    pub(super) fn new(inner: Body, call: Arc<CallMemory>, plain: AnswerCharge) -> Self {
        let (charge, progress, polls) = (Arc::new(call.charge()), Progress::current(), call.polls());
        Self { inner, plain, rest: Bytes::new(), charge, progress, polls, call }
    }

    fn chunk(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(CHUNK_BYTES));
        let chunk = Chunk { bytes, _charge: Arc::clone(&self.charge) };
        if self.rest.is_empty() {
            self.rest = Bytes::new();
            self.charge = Arc::new(self.call.charge());
        }
        self.progress.handed();
        Frame::data(Bytes::from_owner(chunk))
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        // The transport asks for more, so it took the last chunk.
        this.progress.taken();
        if this.rest.is_empty() {
            let is_large = this.plain.bytes() > LARGE_BYTES;
            let Self { polls, inner, .. } = this;
            let polled = polls.run(is_large, context, |context| Pin::new(inner).poll_frame(context));
            let frame = match ready!(polled) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => {
                    // All messages that have a charge are encoded in what came.
                    let mut charge = this.plain.take().unwrap_or_else(|| this.call.charge());
                    charge.set(data.len());
                    this.charge = Arc::new(charge);
                    this.rest = data;
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        Poll::Ready(Some(Ok(this.chunk())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use prometheus_client::metrics::counter::Counter;

    use super::super::memory::{ConnectionMemory, ServerMemory};
    use super::*;

    #[test]
    fn an_answer_is_charged_until_its_last_chunk_is_dropped() {
        let size = 2 * CHUNK_BYTES + 100;
        let server = ServerMemory::new(1 << 20, 1 << 20, Counter::default(), Counter::default());
        let call = CallMemory::begin(&ConnectionMemory::new(&server, Arc::default()), 0).unwrap();
        let of_call = server.held();
        let inner = Body::from(vec![1; size]);
        let mut body = pin!(AnswerBody::new(inner, call, AnswerCharge::default()));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut chunks = Vec::new();
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut context) {
            chunks.push(frame.unwrap().into_data().unwrap());
            assert_eq!(server.held(), of_call + size);
        }
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [CHUNK_BYTES, CHUNK_BYTES, 100]);
        while chunks.pop().is_some() {
            assert_eq!(server.held(), of_call + if chunks.is_empty() { 0 } else { size });
        }
    }
}
