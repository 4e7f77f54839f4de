//! Decides on a request before its message is read.
//!
//! What flows in: requests of any path. What flows out: those that the port serves, that no browser made up and whose
//! caller has the role, each with the name and the rights of the caller.

use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tonic::Status;

use super::browser::{self, Refused, is_grpc};
use super::credentials::Access;
use super::denial::{Denial, Unidentified};
use super::rights::{Identity, Need, Rights, Route};
use crate::service::caller::Caller;
use crate::service::deadline::Deadline;
use crate::service::json;
use crate::service::listeners::Part;
use crate::service::metrics::Observation;
use crate::service::shell::Shell;
use crate::service::status;

/// Passes a request on, or refuses it and records the refusal.
pub(crate) async fn guard<F: Future<Output = Response>>(
    shell: &Shell,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let json = request.extensions().get::<json::Call>().cloned();
    let Some(route) = Route::of(request.uri().path()) else { return not_found(&request) };
    let Some(caller) = request.extensions().get::<Caller>() else {
        return status::internal().into_http();
    };
    let is_off = route.part == Part::Page && shell.page.is_none();
    if is_off || !caller.port.serves(route.part) {
        return not_found(&request);
    }
    let mut caller = caller.clone();
    let checked = match &json {
        None if !route.is_grpc() => Ok(()),
        None => browser::check(&request, shell.access.hosts(caller.port)),
        Some(call) => {
            let (hosts, origins) = (shell.access.hosts(caller.port), shell.access.origins());
            let has_body = !call.is_get() && !call.is_preflight;
            browser::check_json(&request, has_body, hosts, origins)
        }
    };
    if checked.is_ok() && json.as_ref().is_some_and(|call| call.is_preflight) {
        return StatusCode::NO_CONTENT.into_response();
    }
    if let Err(refused) = checked.and_then(|()| decide(&shell.access, route, &mut caller, &request)) {
        shell.denied(&caller, route.method(), refused.denial, &refused.status);
        if route.is_grpc() {
            let deadline = request.extensions().get().copied().unwrap_or(Deadline(None));
            Observation::begin(&shell.metrics.requests, route.method(), "", deadline)
                .finish(refused.status.code());
        }
        return answer(refused.http, refused.status, json.is_some() || is_grpc(request.headers()));
    }
    if !shell.access.is_open() {
        request.extensions_mut().insert(caller);
    }
    next(request).await
}

/// Finds out the name and the rights of the caller, if not everybody has all rights.
///
/// # Errors
/// The credential or the role that the request lacks.
fn decide(access: &Access, route: &Route, caller: &mut Caller, request: &Request) -> Result<(), Refused> {
    if access.is_open() {
        return Ok(());
    }
    // A client of gRPC expects 200, and reads the status of gRPC.
    let http = |code| if route.is_grpc() { StatusCode::OK } else { code };
    caller.rights = Rights::none();
    match access.identify(request.headers()) {
        Ok(Identity { name, is_token, rights, .. }) => {
            (caller.name, caller.has_token, caller.rights) = (Some(name), is_token, rights);
        }
        Err(_) if route.need == Need::Nothing => {}
        Err(Unidentified { denial, status }) => {
            return Err(Refused { http: http(StatusCode::UNAUTHORIZED), denial, status });
        }
    }
    let forbidden = |denial, text: String| {
        let status = Status::permission_denied(text);
        Err(Refused { http: http(StatusCode::FORBIDDEN), denial, status })
    };
    match route.need {
        Need::Role(role) if !caller.rights.has(role) => {
            let (method, role) = (route.method(), role.name());
            let text = format!("{method} needs the role `{role}`, which the credential does not have");
            forbidden(Denial::Role, text)
        }
        // Metrics are of all indexes.
        _ if route.part == Part::Metrics && caller.rights.indexes.is_some() => {
            forbidden(Denial::Index, "the credential is not for all indexes".to_owned())
        }
        _ => Ok(()),
    }
}

/// Answers in the protocol of the caller: gRPC, of which answers in JSON are made, or text.
fn answer(http: StatusCode, status: Status, has_status: bool) -> Response {
    if !has_status {
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
fn not_found(request: &Request) -> Response {
    if request.extensions().get::<json::Call>().is_some() {
        let status = Status::not_found("this port does not serve this path");
        return answer(StatusCode::NOT_FOUND, status, true);
    }
    if is_grpc(request.headers()) {
        return Status::unimplemented("no such service").into_http::<Body>();
    }
    let text = "not found: this server speaks gRPC, JSON at /v1/indexes (described at /openapi.json), and HTTP/1 at \
                /metrics and /healthz\n";
    (StatusCode::NOT_FOUND, text).into_response()
}
