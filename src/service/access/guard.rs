//! Decides on a request before its message is read.
//!
//! What flows in: requests of any path. What flows out: those that the port serves, that no browser made up and whose
//! caller has the role, each with the name and the rights of the caller.

use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tonic::Status;

use super::browser::{self, Refused, is_grpc};
use super::credentials::Access;
use super::rights::{Identity, Need, Rights, Route};
use crate::service::caller::Caller;
use crate::service::deadline::Deadline;
use crate::service::listeners::Part;
use crate::service::metrics::Observation;
use crate::service::shared::Shared;
use crate::service::status;

/// Passes a request on, or refuses it and records the refusal.
pub(crate) async fn guard<F: Future<Output = Response>>(
    shared: &Shared,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let Some(route) = Route::of(request.uri().path()) else { return not_found(request.headers()) };
    let Some(caller) = request.extensions().get::<Caller>() else {
        return status::internal().into_http();
    };
    if !caller.port.serves(route.part) {
        return not_found(request.headers());
    }
    let mut caller = caller.clone();
    if let Err(refused) = decide(&shared.access, route, &mut caller, &request) {
        shared.access.audit().refused(&caller, route.method(), "", &refused.status);
        if route.is_grpc() {
            let deadline = request.extensions().get().copied().unwrap_or(Deadline(None));
            Observation::begin(&shared.metrics.requests, route.method(), "", deadline)
                .finish(refused.status.code());
        }
        return answer(refused, request.headers());
    }
    if !shared.access.is_open() {
        request.extensions_mut().insert(caller);
    }
    next(request).await
}

/// Finds out the name and the rights of the caller, if not everybody has all rights.
///
/// # Errors
/// The rule of browsers, the credential or the role that the request lacks.
fn decide(access: &Access, route: &Route, caller: &mut Caller, request: &Request) -> Result<(), Refused> {
    if route.is_grpc() {
        browser::check(request, access.hosts(caller.port))?;
    }
    if access.is_open() {
        return Ok(());
    }
    // A client of gRPC expects 200, and reads the status of gRPC.
    let http = |code| if route.is_grpc() { StatusCode::OK } else { code };
    caller.rights = Rights::none();
    match access.identify(request.headers()) {
        Ok(Identity { name, rights, .. }) => (caller.name, caller.rights) = (Some(name), rights),
        Err(_) if route.need == Need::Nothing => {}
        Err(status) => return Err(Refused { http: http(StatusCode::UNAUTHORIZED), status }),
    }
    let forbidden = |text: String| {
        Err(Refused { http: http(StatusCode::FORBIDDEN), status: Status::permission_denied(text) })
    };
    match route.need {
        Need::Role(role) if !caller.rights.has(role) => forbidden(format!(
            "{} needs the role `{}`, which the credential does not have",
            route.method(),
            role.name()
        )),
        // Metrics are of all indexes.
        _ if route.part == Part::Metrics && caller.rights.indexes.is_some() => {
            forbidden("the credential is not for all indexes".to_owned())
        }
        _ => Ok(()),
    }
}

/// Answers in the protocol of the caller.
fn answer(Refused { http, status }: Refused, headers: &HeaderMap) -> Response {
    if !is_grpc(headers) {
        let text = format!("{}\n", status.message());
        let mut response = (http, text).into_response();
        if http == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        return response;
    }
    let mut response = status.into_http::<Body>();
    *response.status_mut() = http;
    response
}

/// Answers a path that this port does not serve, in the protocol of the caller.
fn not_found(headers: &HeaderMap) -> Response {
    if is_grpc(headers) {
        return Status::unimplemented("no such service").into_http::<Body>();
    }
    (StatusCode::NOT_FOUND, "not found: this server speaks gRPC, and HTTP/1 at /metrics and /healthz\n")
        .into_response()
}
