//! Ends the span of a call with its answer.
//!
//! What flows in: the answer to a call that is traced. What flows out: the same answer; its code is in its headers, or in
//! the trailers that end its body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status};

use super::call::CallTrace;
use crate::service::deadline::Deadline;

/// Answers a call, and ends its span when the whole answer was taken. If that does not happen, because the caller no longer
/// waits, the span ends with `DEADLINE_EXCEEDED` after the deadline and with `CANCELLED` before.
pub(crate) async fn watch(
    call: Arc<CallTrace>,
    deadline: Deadline,
    is_json: bool,
    answer: impl Future<Output = Response>,
) -> Response {
    let ending = Ending { call, deadline };
    let response = answer.await;
    match code_of(response.headers()) {
        Some(code) => ending.finish(code),
        None if is_json => ending.finish(Code::Ok),
        None => return response.map(|body| Body::new(TracedBody { body, ending })),
    }
    response
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// Ends the span of a call when it is dropped.
struct Ending {
    call: Arc<CallTrace>,
    deadline: Deadline,
}

impl Ending {
    fn finish(&self, code: Code) {
        self.call.finish(code);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Does nothing if the span has ended.
        self.finish(if self.deadline.is_over() { Code::DeadlineExceeded } else { Code::Cancelled });
    }
}

/// A body of gRPC, whose trailers have the code.
struct TracedBody {
    body: Body,
    ending: Ending,
}

impl HttpBody for TracedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(code) = frame.trailers_ref().and_then(code_of)
        {
            self.ending.finish(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
