//! Counts the memory of every call: its headers, its requests and its answers.
//!
//! What flows in: calls of a connection. What flows out: the same calls, whose bodies are counted and limited; or a
//! refusal if there is no memory for another call.

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;

use super::answer_body::AnswerBody;
use super::large;
use super::memory::{AnswerCharge, CallMemory, ConnectionMemory};
use super::request_body::RequestBody;
use super::wire_size::RequestShape;
use crate::service::deadline::Deadline;
use crate::service::shell::Shell;

/// Counts and limits the memory of one call. `translate` makes the body of the request one of gRPC.
pub(crate) async fn enforce<F: Future<Output = Response>>(
    shell: &Arc<Shell>,
    request: Request,
    translate: impl FnOnce(Body, &Arc<CallMemory>) -> Body,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let Some(connection) = request.extensions().get::<Arc<ConnectionMemory>>().cloned() else {
        return next(request).await;
    };
    let call = match CallMemory::begin(&connection, header_bytes(request.headers())) {
        Ok(call) => call,
        Err(status) => return status.into_http(),
    };
    let (mut parts, body) = request.into_parts();
    let shape = RequestShape::of(parts.uri.path());
    let deadline = parts.extensions.get().copied().unwrap_or(Deadline(None));
    let is_gzip = parts.headers.get("grpc-encoding").is_some_and(|encoding| encoding == "gzip");
    parts.extensions.insert(Arc::clone(&call));
    let body = translate(body, &call);
    let body = RequestBody::new(body, Arc::clone(shell), Arc::clone(&call), shape, deadline, is_gzip);
    let answer = next(Request::from_parts(parts, Body::new(body)));
    let response = large::without_blocking_others(Some(&call), answer).await;
    let (mut parts, body) = response.into_parts();
    let plain = parts.extensions.remove::<AnswerCharge>().unwrap_or_default();
    Response::from_parts(parts, Body::new(AnswerBody::new(body, call, plain)))
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}
