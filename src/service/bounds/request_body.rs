//! The body of a call, one whole message at a time.
//!
//! What flows in: the bytes of a call as they arrive. What flows out: the same messages, decompressed, each once it is
//! whole, judged and charged; or the status that ends the call. Compressed and large messages are decompressed and judged
//! on blocking threads, so the threads that serve all connections are not held up. Does not decode.

use std::future::Future;
use std::io::Read as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::large::{SMALL_BYTES, SMALL_DECODED_BYTES};
use super::memory::{self, CallMemory, Charge};
use super::wire_size::RequestShape;
use crate::service::deadline::Deadline;
use crate::service::error::InvalidField;
use crate::service::metrics::Observation;
use crate::service::shell::Shell;
use crate::service::status;

/// Bytes of the header of a message: whether it is compressed, and its length.
const HEADER_BYTES: usize = 5;
/// The largest message of a method that is not in `shortlist.v1`: health and reflection.
const OTHER_MAX_BYTES: usize = 64 << 10;
/// A decoded message may take this many times the largest message on the wire.
pub(crate) const MAX_EXPANSION: usize = 8;
/// How long a message that is not whole may still take when the server drains.
const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// What is known about the messages of a call.
#[derive(Clone, Copy)]
struct Rules {
    shape: Option<RequestShape>,
    max_bytes: usize,
    max_decoded: usize,
}

/// The body of a call.
pub(super) struct RequestBody {
    inner: Body,
    shell: Arc<Shell>,
    call: Arc<CallMemory>,
    deadline: Deadline,
    rules: Rules,
    is_gzip: bool,
    /// What arrived of the next messages.
    arrived: BytesMut,
    /// The charge for `arrived`.
    charge: Charge,
    judging: Option<JoinHandle<Result<Judged, Status>>>,
    /// A message that may be decoded in the next poll, which handles a large message.
    next: Option<Judged>,
    /// Completes if the rest takes too long.
    late: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
    /// The trailers, after all messages.
    trailers: Option<Frame<Bytes>>,
    /// Whether the bytes are passed on as they are: the decoder refuses them at once.
    is_opaque: bool,
    is_over: bool,
}

/// A message that may be decoded.
struct Judged {
    /// With its header.
    message: Bytes,
    decoded_bytes: usize,
}

impl RequestBody {
    pub(super) fn new(
        inner: Body,
        shell: Arc<Shell>,
        call: Arc<CallMemory>,
        shape: Option<RequestShape>,
        deadline: Deadline,
        is_gzip: bool,
    ) -> Self {
        let max = shell.limits.max_message_bytes;
        let max_bytes = if shape.is_some() { max } else { max.min(OTHER_MAX_BYTES) };
        let rules = Rules { shape, max_bytes, max_decoded: max.saturating_mul(MAX_EXPANSION) };
        let charge = call.charge();
        Self {
            inner,
            shell,
            call,
            deadline,
            rules,
            is_gzip,
            arrived: BytesMut::new(),
            charge,
            judging: None,
            next: None,
            late: None,
            trailers: None,
            is_opaque: false,
            is_over: false,
        }
    }

    /// Ends the call with `status`, and counts it.
    fn refuse(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.is_over = true;
        self.arrived = BytesMut::new();
        self.charge = self.call.charge();
        if let Some(shape) = self.rules.shape {
            // The name of the index is unknown, as the request is not decoded.
            let observation =
                Observation::begin(&self.shell.metrics.requests, shape.method, "", self.deadline);
            observation.finish(status.code());
        }
        Poll::Ready(Some(Err(status)))
    }

    /// Keeps what arrived.
    fn arrive(&mut self, data: Bytes) -> Result<(), Status> {
        if !self.charge.grow(data.len()) {
            return Err(memory::refusal());
        }
        if self.arrived.is_empty() {
            self.arrived = BytesMut::from(data);
        } else {
            self.arrived.extend_from_slice(&data);
        }
        Ok(())
    }

    /// Takes the next whole message, with its header and whether it is compressed.
    fn next_message(&mut self) -> Option<(Bytes, bool)> {
        let mut header = self.arrived.get(..HEADER_BYTES)?;
        let (flag, length) = (header.get_u8(), header.get_u32() as usize);
        if flag > 1 || length > self.rules.max_bytes || flag == 1 && !self.is_gzip {
            self.is_opaque = true;
            return None;
        }
        let whole = HEADER_BYTES + length;
        (self.arrived.len() >= whole).then(|| (self.arrived.split_to(whole).freeze(), flag == 1))
    }

    /// Judges a message, here or on a blocking thread.
    fn judge(&mut self, message: Bytes, is_compressed: bool) -> Result<Option<Judged>, Status> {
        let rules = self.rules;
        let here = match is_compressed {
            false => (message.len() <= SMALL_BYTES).then(|| message.clone()),
            true => match decompressed(&message, SMALL_BYTES.min(rules.max_bytes)) {
                Err(Decompress::TooLarge) if rules.max_bytes > SMALL_BYTES => None,
                result => Some(result.map_err(|error| error.status(rules.max_bytes))?),
            },
        };
        if let Some(message) = here {
            return rules.judge(message).map(Some);
        }
        if is_compressed && !self.charge.grow(rules.max_bytes) {
            return Err(memory::refusal());
        }
        self.call.expect_large_message(true);
        self.judging = Some(tokio::task::spawn_blocking(move || {
            let message = match is_compressed {
                true => {
                    decompressed(&message, rules.max_bytes).map_err(|error| error.status(rules.max_bytes))?
                }
                false => message,
            };
            rules.judge(message)
        }));
        Ok(None)
    }

    /// Charges a judged message to the call, and returns it.
    fn pass(&mut self, judged: Judged) -> Result<Frame<Bytes>, Status> {
        let mut charge = self.call.charge();
        // The decoder has a copy of the bytes while it decodes.
        if !charge.grow(judged.decoded_bytes + judged.message.len()) {
            return Err(memory::refusal());
        }
        self.call.keep(charge);
        self.charge.set(self.arrived.len());
        self.late = None;
        Ok(Frame::data(judged.message))
    }

    /// Whether the call waits for something that must arrive in time: a message of which a part is there, or the request
    /// of a call that has one.
    fn is_incomplete(&self) -> bool {
        !self.arrived.is_empty() || self.rules.shape.is_some_and(|shape| !shape.is_stream)
    }

    fn late(&self) -> Pin<Box<dyn Future<Output = Status> + Send>> {
        let timeout = self.is_incomplete().then_some(self.shell.connections.message_timeout);
        let mut draining = self.shell.draining.clone();
        Box::pin(async move {
            let late = async {
                match timeout {
                    Some(timeout) => tokio::time::sleep(timeout).await,
                    None => std::future::pending().await,
                }
            };
            let drain = async {
                _ = draining.wait_for(|draining| *draining).await;
                tokio::time::sleep(DRAIN_GRACE).await;
            };
            tokio::select! {
                () = late => Status::deadline_exceeded(format!("the request did not arrive within {timeout:?}")),
                () = drain => status::draining(),
            }
        })
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if this.is_over {
                return Poll::Ready(this.trailers.take().map(Ok));
            }
            if let Some(judging) = &mut this.judging {
                let judged = ready!(pin!(judging).poll(context));
                this.judging = None;
                this.call.expect_large_message(false);
                let judged = judged.unwrap_or_else(|_| Err(status::internal()));
                return match judged.and_then(|judged| this.pass(judged)) {
                    Ok(frame) => Poll::Ready(Some(Ok(frame))),
                    Err(status) => this.refuse(status),
                };
            }
            if this.is_opaque && !this.arrived.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(this.arrived.split().freeze()))));
            }
            if let Some(judged) = this.next.take() {
                this.call.expect_large_message(false);
                return match this.pass(judged) {
                    Ok(frame) => Poll::Ready(Some(Ok(frame))),
                    Err(status) => this.refuse(status),
                };
            }
            if let Some((message, is_compressed)) = this.next_message() {
                match this.judge(message, is_compressed) {
                    Ok(Some(judged)) if judged.decoded_bytes > SMALL_DECODED_BYTES => {
                        this.call.expect_large_message(true);
                        this.next = Some(judged);
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Ok(Some(judged)) => {
                        return match this.pass(judged) {
                            Ok(frame) => Poll::Ready(Some(Ok(frame))),
                            Err(status) => this.refuse(status),
                        };
                    }
                    Ok(None) => continue,
                    Err(status) => return this.refuse(status),
                }
            }
            if this.is_opaque && !this.arrived.is_empty() {
                continue;
            }
            let was_incomplete = this.is_incomplete();
            match Pin::new(&mut this.inner).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        if let Err(status) = this.arrive(data) {
                            return this.refuse(status);
                        }
                        if !was_incomplete {
                            this.late = None;
                        }
                    }
                    Err(trailers) => this.trailers = Some(trailers),
                },
                Poll::Ready(Some(Err(error))) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(Status::from_error(error.into()))));
                }
                Poll::Ready(None) => {
                    this.is_over = true;
                    // The decoder reports a message that is cut off.
                    if !this.arrived.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(this.arrived.split().freeze()))));
                    }
                }
                Poll::Pending => {
                    if this.late.is_none() {
                        this.late = Some(this.late());
                    }
                    let late = this.late.as_mut().map(|late| late.as_mut().poll(context));
                    return match late {
                        Some(Poll::Ready(status)) => this.refuse(status),
                        _ => Poll::Pending,
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.trailers.is_none()
            || self.arrived.is_empty()
                && self.judging.is_none()
                && self.next.is_none()
                && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Rules {
    /// # Errors
    /// `INVALID_ARGUMENT` with the field that takes too much memory once it is decoded.
    fn judge(self, message: Bytes) -> Result<Judged, Status> {
        let decoded_bytes = match self.shape {
            None => message.len(),
            Some(shape) => {
                let bytes = message.get(HEADER_BYTES..).unwrap_or_default();
                shape.decoded_bytes(bytes, self.max_decoded).map_err(|too_large| {
                    let problem = format!(
                        "cannot be decoded: has too many elements; expected at most {} bytes of memory for a \
                         request, found more",
                        self.max_decoded
                    );
                    status::of(&InvalidField::new(too_large.field, problem).into(), "")
                })?
            }
        };
        Ok(Judged { message, decoded_bytes })
    }
}

/// Why a message cannot be decompressed.
enum Decompress {
    TooLarge,
    Broken(std::io::Error),
}

impl Decompress {
    fn status(self, max_bytes: usize) -> Status {
        match self {
            Self::TooLarge => Status::resource_exhausted(format!(
                "expected a message of at most {max_bytes} bytes after decompression, found more"
            )),
            Self::Broken(error) => {
                Status::new(Code::InvalidArgument, format!("the message cannot be decompressed: {error}"))
            }
        }
    }
}

/// Returns a compressed message as one that is not, with its header.
fn decompressed(message: &[u8], max_bytes: usize) -> Result<Bytes, Decompress> {
    let compressed = message.get(HEADER_BYTES..).unwrap_or_default();
    let mut plain = vec![0; HEADER_BYTES];
    let limit = HEADER_BYTES + max_bytes;
    let mut reader = GzDecoder::new(compressed).take(max_bytes as u64 + 1);
    reader.read_to_end(&mut plain).map_err(Decompress::Broken)?;
    if plain.len() > limit {
        return Err(Decompress::TooLarge);
    }
    let length = (plain.len() - HEADER_BYTES) as u32;
    (&mut plain[1..HEADER_BYTES]).put_u32(length);
    Ok(plain.into())
}
