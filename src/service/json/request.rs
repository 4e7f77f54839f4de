//! The body of a request, from JSON to gRPC.
//!
//! What flows in: a body as it arrives. What flows out: one frame of gRPC, once the body is whole; or the status that
//! ends the call. The text, what it becomes and the frame are charged to the call. Large texts are parsed in a
//! [`lane`](crate::service::bounds). The reader of the frame ends a call whose body arrives too slowly.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;

use super::buffer::Buffer;
use super::decode::{self, decode, too_large};
use super::descriptors;
use super::routes::Call;
use super::size::{MAX_DEPTH, dynamic_bytes};
use crate::service::bounds::{self, CallMemory, MAX_EXPANSION, SMALL_BYTES, SMALL_DECODED_BYTES};
use crate::service::deadline::Deadline;
use crate::service::error::InvalidField;
use crate::service::metrics::Observation;
use crate::service::shell::Shell;
use crate::service::status;

/// Bytes of the header of a frame: whether it is compressed, and its length.
const HEADER_BYTES: usize = 5;
/// The request of a route without a body.
const NOTHING: &[u8] = b"{}";

/// Makes the body of `call` one of gRPC.
pub(crate) fn body(
    call: Call,
    body: Body,
    deadline: Deadline,
    shell: &Arc<Shell>,
    memory: &Arc<CallMemory>,
) -> Body {
    let (shell, memory) = (Arc::clone(shell), Arc::clone(memory));
    let frame = async move {
        let frame = frame(&call, body, shell.limits.max_message_bytes, &memory).await;
        if let Err(Failed::Refused(status)) = &frame {
            // The name of the index is unknown, as the request is not read.
            Observation::begin(&shell.metrics.requests, call.route.method(), "", deadline)
                .finish(status.code());
        }
        frame.map_err(Failed::into_error)
    };
    Body::new(OneFrame(Some(Box::pin(frame))))
}

/// Why there is no frame.
enum Failed {
    Refused(Status),
    /// The connection failed.
    Connection(axum::Error),
}

impl Failed {
    fn into_error(self) -> axum::Error {
        match self {
            Failed::Refused(status) => axum::Error::new(status),
            Failed::Connection(error) => error,
        }
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Failed::Refused(status)
    }
}

async fn frame(call: &Call, body: Body, max_bytes: usize, memory: &CallMemory) -> Result<Bytes, Failed> {
    let mut text = Buffer::new(memory.charge(), max_bytes);
    if call.is_get() {
        text.push(NOTHING).map_err(|full| decode::no_room(full, max_bytes))?;
    } else {
        read(body, &mut text).await?;
    }
    let is_large = text.bytes().len() > SMALL_BYTES;
    if is_large {
        next_in_lane(memory).await;
    }
    let (text, _charge) = text.finish();
    let most = max_bytes.saturating_mul(MAX_EXPANSION);
    let decoded = dynamic_bytes(&text).map_err(|_| {
        let problem = format!("expected at most {MAX_DEPTH} objects and lists in each other, found more");
        status::of(&InvalidField::new("request", problem).into(), "")
    })?;
    if decoded > most {
        let problem = format!(
            "has too many elements; expected at most {most} bytes of memory for a request, found more"
        );
        return Err(status::of(&InvalidField::new("request", problem).into(), "").into());
    }
    let mut charge = memory.charge();
    if !charge.grow(decoded) {
        return Err(bounds::refusal().into());
    }
    if !is_large && decoded > SMALL_DECODED_BYTES {
        next_in_lane(memory).await;
    }
    let frame = encoded(call, &text, max_bytes, memory);
    memory.expect_large_message(false);
    Ok(frame?)
}

/// Returns the frame of a text.
fn encoded(call: &Call, text: &[u8], max_bytes: usize, memory: &CallMemory) -> Result<Bytes, Status> {
    let of = descriptors::method(call.route.grpc).ok_or_else(status::internal)?.input();
    let mut frame = Buffer::new(memory.charge(), max_bytes.saturating_add(HEADER_BYTES));
    let result = frame.push(&[0; HEADER_BYTES]).map_err(|full| decode::no_room(full, max_bytes));
    result.and_then(|()| decode(text, &of, &call.index, call.route.index, &mut frame))?;
    let (mut frame, _) = frame.finish();
    let length = u32::try_from(frame.len() - HEADER_BYTES).map_err(|_| too_large(max_bytes))?;
    frame[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame.into())
}

/// Reads a body.
async fn read(mut body: Body, text: &mut Buffer) -> Result<(), Failed> {
    let max_bytes = text.max_bytes();
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large(max_bytes).into());
    }
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.map_err(Failed::Connection)?.into_data() {
            text.push(&data).map_err(|full| decode::no_room(full, max_bytes))?;
        }
    }
    Ok(())
}

/// Lets the rest of the poll run as the handling of a large message.
async fn next_in_lane(memory: &CallMemory) {
    memory.expect_large_message(true);
    tokio::task::yield_now().await;
}

/// A body of one frame, which a future returns.
struct OneFrame(Option<FutureFrame>);

type FutureFrame = Pin<Box<dyn Future<Output = Result<Bytes, axum::Error>> + Send>>;

impl HttpBody for OneFrame {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(future) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(future.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(Some(frame.map(Frame::data)))
    }
}
