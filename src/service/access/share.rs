//! Whether a web page of another origin may read an answer in JSON (CORS).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

/// The methods and headers of calls in JSON.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const HEADERS: HeaderValue = HeaderValue::from_static("content-type, authorization, grpc-timeout");
/// What a page may read in addition to the content type.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, www-authenticate");
/// Seconds for which a browser may remember the permission.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Lets the pages of `origin`, which is allowed, read an answer. An answer without content permits a call.
pub(crate) fn share(response: &mut Response, origin: Option<HeaderValue>) {
    let is_permission = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    let Some(origin) = origin else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if is_permission {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    } else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
