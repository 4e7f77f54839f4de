//! A status of gRPC → an answer of HTTP, in the form of Google's APIs.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use shortlist_client::code_name;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::descriptors;
use super::routes::NoCall;
use crate::service::error::InvalidField;
use crate::service::status;

/// The media type of all answers.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Returns the answer for a call that failed, with the code of HTTP that `google.rpc.Code` documents, or another one.
pub(crate) fn refusal(status: &Status, http: Option<StatusCode>) -> Response {
    let code = http.unwrap_or_else(|| http_code(status.code()));
    let mut error = json!({
        "code": code.as_u16(),
        "status": code_name(status.code()),
        "message": status.message(),
    });
    if let Some(details) = details(status.details()) {
        error["details"] = details;
    }
    let mut response = Response::new(Body::from(json!({ "error": error }).to_string()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    if code == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let delay = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
    if let Some(delay) = delay {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(delay)));
    }
    response
}

/// Returns the answer to a request that makes no call.
pub(crate) fn no_call(problem: &NoCall) -> Response {
    match problem {
        NoCall::Path => {
            refusal(&Status::not_found("there is nothing at this path: /openapi.json has all paths"), None)
        }
        NoCall::Method(allowed) => {
            let status = Status::unimplemented(format!("expected the method {allowed}"));
            let mut response = refusal(&status, Some(StatusCode::METHOD_NOT_ALLOWED));
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
            response
        }
        NoCall::Index => {
            let problem = "expected percent-encoded UTF-8 in the path, found other bytes";
            refusal(&status::of(&InvalidField::new("index", problem).into(), ""), None)
        }
    }
}

/// Returns the details of an error as JSON, if there are any.
fn details(encoded: &[u8]) -> Option<Value> {
    let of = descriptors::message("google.rpc.Status").filter(|_| !encoded.is_empty())?;
    let status = DynamicMessage::decode(of, encoded).ok()?;
    let mut status = serde_json::to_value(&status).ok()?;
    status.get_mut("details").map(Value::take)
}

/// Rounds up, so that nobody retries too early.
fn whole_seconds(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

/// Returns the code of HTTP for one of gRPC.
fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // No name is registered for it.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Internal | Code::Unknown | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
