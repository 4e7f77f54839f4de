//! The answer to a call, from gRPC to JSON.
//!
//! What flows in: the answer of a service. What flows out: an answer whose body is the text of the message, charged to
//! the call; or the status that the call ended with, as headers of gRPC. Large answers are written without blocking
//! other calls.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tonic::{Code, Status};

use super::buffer::Buffer;
use super::descriptors;
use super::encode::{Unwritten, encode};
use super::error::JSON;
use super::routes::Call;
use crate::service::bounds::{self, AnswerCharge, CallMemory, SMALL_BYTES};
use crate::service::status;

/// Bytes of the header of a frame: whether it is compressed, and its length.
const HEADER_BYTES: usize = 5;
/// Writing a message as text takes several times as long as decoding it.
const LARGE_BYTES: usize = SMALL_BYTES / 4;

/// Makes the answer to `call` one of JSON, unless the call failed.
pub(crate) async fn answer(call: &Call, response: Response, memory: Option<Arc<CallMemory>>) -> Response {
    if Status::from_header_map(response.headers()).is_some() {
        return response;
    }
    let (parts, body) = response.into_parts();
    // Of the message, until the text is written.
    let _plain = parts.extensions.get::<AnswerCharge>().and_then(AnswerCharge::take);
    match text(call, body, memory.as_deref()).await {
        Ok((text, charge)) => {
            let length = text.len();
            let mut response = Response::new(Body::from(text));
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            response.extensions_mut().insert(AnswerCharge::of(charge));
            response
        }
        Err(status) => status.into_http(),
    }
}

/// Returns the text of the message in a body, and the charge for it.
async fn text(
    call: &Call,
    body: Body,
    memory: Option<&CallMemory>,
) -> Result<(Bytes, bounds::Charge), Status> {
    let memory = memory.ok_or_else(status::internal)?;
    let frame = collect(body).await?;
    let message = frame.get(HEADER_BYTES..).ok_or_else(status::internal)?;
    let of = descriptors::method(call.route.grpc).ok_or_else(status::internal)?.output();
    let mut text = Buffer::new(memory.charge(), usize::MAX);
    let is_large = message.len() > LARGE_BYTES;
    if is_large {
        memory.expect_large_message(true);
        tokio::task::yield_now().await;
    }
    let written = encode(&of, message, &mut text);
    if is_large {
        memory.expect_large_message(false);
    }
    written.map_err(|unwritten| match unwritten {
        Unwritten::Full => bounds::refusal(),
        Unwritten::Value(error) => Status::failed_precondition(format!(
            "the answer has a value that JSON does not have: {error}; leave its attribute out, or call over gRPC"
        )),
        Unwritten::Malformed => {
            tracing::error!(method = call.route.method(), "an answer is malformed");
            status::internal()
        }
    })?;
    let (text, charge) = text.finish();
    Ok((text.into(), charge))
}

/// Returns the bytes of a body.
///
/// # Errors
/// The status that the call ended with, if it failed.
async fn collect(mut body: Body) -> Result<Bytes, Status> {
    let mut all = Bytes::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame.map_err(|error| Status::from_error(error.into()))?.into_data() {
            Ok(data) if all.is_empty() => all = data,
            Ok(data) => {
                let mut joined = BytesMut::from(all);
                joined.extend_from_slice(&data);
                all = joined.freeze();
            }
            Err(frame) => {
                let status = frame.trailers_ref().and_then(Status::from_header_map);
                if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                    return Err(status);
                }
            }
        }
    }
    Ok(all)
}
