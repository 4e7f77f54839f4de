//! The routes of the port: gRPC services, reflection, JSON, `/metrics`, `/healthz`; and what every request passes on
//! its way.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body::Body as _;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service as _;

use super::access::{self, Role};
use super::bounds::{self, CallMemory};
use super::caller::Caller;
use super::deadline::{self, Deadline};
use super::json;
use super::page;
use super::proto::FILE_DESCRIPTOR_SET;
use super::proto::admin_server::{Admin, AdminServer};
use super::proto::catalog_server::{Catalog, CatalogServer};
use super::proto::retrieval_server::{Retrieval, RetrievalServer};
use super::shell::Shell;
use super::traces::{self, Trace};
use super::undecodable;

const METRICS: &str = "/metrics";
const HEALTHZ: &str = "/healthz";
/// The service that most calls are of, with the slashes around it.
const RETRIEVAL: &str = "/shortlist.v1.Retrieval/";

/// Everything that the port serves. `R`: the service that most calls are of.
pub(super) struct Routes<R> {
    shell: Arc<Shell>,
    retrieval: RetrievalServer<R>,
    /// The other services of gRPC.
    services: axum::Router,
    /// `/metrics` and `/healthz`.
    pages: axum::Router,
}

impl<R: Retrieval> Routes<R> {
    /// The routes to these services.
    ///
    /// # Errors
    /// If the descriptors in this binary cannot be read.
    pub(super) fn new(
        shell: Arc<Shell>,
        retrieval: R,
        catalog: impl Catalog,
        admin: impl Admin,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let limits = shell.limits;
        // Requests may be compressed. Answers are not: clients announce gzip by default, and would pay for it in latency.
        let retrieval = RetrievalServer::new(retrieval)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limits.max_message_bytes)
            .max_encoding_message_size(limits.max_response_bytes);
        let catalog = CatalogServer::new(catalog)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limits.max_message_bytes)
            .max_encoding_message_size(limits.max_response_bytes);
        let admin = AdminServer::new(admin)
            .max_decoding_message_size(limits.max_message_bytes)
            .max_encoding_message_size(limits.max_response_bytes);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let services = tonic::service::Routes::new(catalog)
            .add_service(admin)
            .add_service(shell.health.service())
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .into_axum_router();
        let (metrics, memory) = (Arc::clone(&shell.metrics), Arc::clone(&shell.memory));
        let scrape = get(move || async move {
            metrics.load.memory(memory.held());
            metrics.scrape()
        });
        let of_health = Arc::clone(&shell);
        let healthz = get(move |Extension(caller)| healthz(of_health, caller));
        let pages = axum::Router::new().route(METRICS, scrape).route(HEALTHZ, healthz);
        Ok(Self { shell, retrieval, services, pages })
    }

    /// Answers a request that has its caller and the memory of its connection as extensions.
    pub(super) async fn answer(&self, request: Request) -> Response {
        let is_head = request.method() == Method::HEAD;
        let response = match json::is_json(request.uri().path()) {
            // Boxed, here and below: a call of gRPC would be copied with the room for one of JSON.
            true => Box::pin(self.answer_json(request)).await,
            false => self.guarded(request).await,
        };
        if is_head { without_body(response) } else { response }
    }

    /// Answers a request for a path of JSON.
    async fn answer_json(&self, mut request: Request) -> Response {
        let origin = self.shell.access.allowed_origin(request.headers()).cloned();
        let mut response = match json::Call::of(&request) {
            Ok(call) => {
                call.redirect(&mut request);
                let response = self.guarded(request).await;
                match Status::from_header_map(response.headers()) {
                    Some(status) => {
                        let http = Some(response.status()).filter(|code| *code != StatusCode::OK);
                        json::refusal(&status, http)
                    }
                    None => response,
                }
            }
            Err(none) => json::no_call(&none),
        };
        access::share(&mut response, origin);
        response
    }

    async fn guarded(&self, request: Request) -> Response {
        let guarded = |request| access::guard(&self.shell, request, |request| self.route(request));
        deadline::enforce(request, guarded).await
    }

    async fn route(&self, request: Request) -> Response {
        match self.shell.is_following {
            true => Box::pin(self.follow(request)).await,
            false => self.serve(request).await,
        }
    }

    /// Serves a request, and traces it if it is to be traced.
    async fn follow(&self, mut request: Request) -> Response {
        let is_json = request.extensions().get::<json::Call>().is_some();
        let Some(trace) = self.trace(&request, is_json) else { return self.serve(request).await };
        let deadline = request.extensions().get().copied().unwrap_or(Deadline(None));
        let call = trace.call.clone();
        request.extensions_mut().insert(trace);
        let answer = self.serve(request);
        match call {
            Some(call) => traces::watch(call, deadline, is_json, answer).await,
            None => answer.await,
        }
    }

    fn trace(&self, request: &Request, is_json: bool) -> Option<Trace> {
        let caller = request.extensions().get::<Caller>()?;
        self.shell.traces.begin(request.uri().path(), request.headers(), || caller.client(), is_json)
    }

    async fn serve(&self, request: Request) -> Response {
        match request.uri().path() {
            METRICS | HEALTHZ => return infallible(self.pages.clone().call(request).await),
            json::OPENAPI => return json::page(),
            _ => {}
        }
        if let Some(page) = &self.shell.page
            && page::has(request.uri().path())
        {
            return page.answer(&request);
        }
        let json = request.extensions().get::<json::Call>().cloned();
        let deadline = request.extensions().get().copied().unwrap_or(Deadline(None));
        let translate = |body, memory: &Arc<CallMemory>| match json.clone() {
            Some(call) => json::body(call, body, deadline, &self.shell, memory),
            None => body,
        };
        let decoded = async |request: Request| {
            let memory = request.extensions().get::<Arc<CallMemory>>().cloned();
            let response = undecodable::refuse(&self.shell, request, |request| self.call(request)).await;
            match &json {
                Some(call) => Box::pin(json::answer(call, response, memory)).await,
                None => response,
            }
        };
        bounds::enforce(&self.shell, request, translate, decoded).await
    }

    /// Calls the method of a service.
    async fn call(&self, request: Request) -> Response {
        // A router would clone and box its layers for each call.
        if request.uri().path().starts_with(RETRIEVAL) {
            return infallible(self.retrieval.clone().call(request).await).map(Body::new);
        }
        infallible(self.services.clone().call(request).await)
    }
}

/// Leaves out the body of an answer to HEAD, which HTTP/2 would send.
fn without_body(mut response: Response) -> Response {
    let length = response.body().size_hint().exact();
    if let Some(length) = length.filter(|_| !response.headers().contains_key(header::CONTENT_LENGTH)) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response.map(|_| Body::empty())
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
    }
}

/// Answers `GET /healthz`: 200 if any index serves, else 503. Callers with the role `admin` get one line per index of
/// theirs, others one word.
async fn healthz(shell: Arc<Shell>, caller: Caller) -> Response {
    let (is_serving, lines) = shell.health.page(&*shell.indexes).await;
    let text = if caller.rights.has(Role::Admin) {
        let own = lines.iter().filter(|(index, _)| caller.rights.include(index));
        own.map(|(index, word)| format!("{index}: {word}\n")).collect()
    } else if is_serving {
        "serving\n".to_owned()
    } else {
        "not serving\n".to_owned()
    };
    (if is_serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}
