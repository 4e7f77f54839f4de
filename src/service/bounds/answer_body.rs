//! The body of an answer, in small chunks.
//!
//! What flows in: encoded messages. What flows out: the same bytes, handed to the transport as it takes them, and whether
//! it does. An answer is charged until it is handed over; then its connection is charged until it has written the bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::large;
use super::memory::{AnswerCharge, CallMemory, Charge};
use super::progress::Progress;

/// Bytes that are handed over at a time. Most answers are smaller.
const CHUNK_BYTES: usize = 64 << 10;

/// Answers that take more memory than this are encoded without blocking other calls.
const LARGE_BYTES: usize = 512 << 10;

/// Bytes of the chunks that the transport may hold after it asked for the last one.
const UNTAKEN_BYTES: usize = 2 * CHUNK_BYTES;

/// The body of the answer to one call.
pub(super) struct AnswerBody {
    inner: Body,
    /// The charge of the messages that are not encoded yet.
    plain: AnswerCharge,
    /// What is encoded and not handed over.
    rest: Bytes,
    /// The size of what was encoded at once, which `rest` is the end of.
    encoded_bytes: usize,
    /// The charge for `encoded_bytes`.
    charge: Charge,
    progress: Arc<Progress>,
    /// Dropped last: the call is in flight until its answer is handed over.
    call: Arc<CallMemory>,
}

impl AnswerBody {
    pub(super) fn new(inner: Body, call: Arc<CallMemory>, plain: AnswerCharge) -> Self {
        let (charge, progress) = (call.charge(), Progress::current());
        Self { inner, plain, rest: Bytes::new(), encoded_bytes: 0, charge, progress, call }
    }

    fn chunk(&mut self) -> Frame<Bytes> {
        let is_near_end = self.rest.len() <= UNTAKEN_BYTES;
        let mut chunk = self.rest.split_to(self.rest.len().min(CHUNK_BYTES));
        if is_near_end && self.encoded_bytes > CHUNK_BYTES {
            // A slice would keep the memory of the whole answer while the client does not take the last chunks.
            chunk = Bytes::copy_from_slice(&chunk);
        }
        if self.rest.is_empty() {
            self.rest = Bytes::new();
            self.charge.hand_over(self.encoded_bytes.min(UNTAKEN_BYTES));
            self.charge = self.call.charge();
        }
        self.progress.handed();
        Frame::data(chunk)
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
            let polled = large::poll_once(is_large, || Pin::new(&mut this.inner).poll_frame(context));
            let frame = match ready!(polled) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => {
                    // All messages that have a charge are encoded in what came.
                    if let Some(plain) = this.plain.take() {
                        this.charge.join(plain);
                    }
                    this.charge.set(data.len());
                    this.encoded_bytes = data.len();
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
