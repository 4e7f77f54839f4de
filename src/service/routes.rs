//! The routes of the port: gRPC services, reflection, `/metrics`, `/healthz`.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

use super::admin::AdminService;
use super::bounds;
use super::catalog::CatalogService;
use super::deadline;
use super::proto::FILE_DESCRIPTOR_SET;
use super::proto::admin_server::AdminServer;
use super::proto::catalog_server::CatalogServer;
use super::proto::retrieval_server::RetrievalServer;
use super::retrieval::RetrievalService;
use super::shared::Shared;
use super::undecodable;

/// Returns the router of everything that the port serves.
///
/// # Errors
/// If the descriptors in this binary cannot be read.
pub(super) fn router(shared: Arc<Shared>) -> Result<axum::Router, tonic_reflection::server::Error> {
    let limits = shared.limits;
    // Requests may be compressed. Answers are not: clients announce gzip by default, and would pay for it in latency.
    let retrieval = RetrievalServer::new(RetrievalService::new(Arc::clone(&shared)))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(limits.max_response_bytes);
    let catalog = CatalogServer::new(CatalogService::new(Arc::clone(&shared)))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(limits.max_response_bytes);
    let admin = AdminServer::new(AdminService::new(Arc::clone(&shared)))
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(limits.max_response_bytes);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(retrieval)
        .add_service(catalog)
        .add_service(admin)
        .add_service(shared.health.service())
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let metrics = Arc::clone(&shared.metrics);
    let memory = Arc::clone(&shared.memory);
    let scrape = axum::routing::get(move || async move {
        metrics.memory(memory.held());
        metrics.scrape()
    });
    let undecodable = axum::middleware::from_fn_with_state(Arc::clone(&shared), undecodable::refuse);
    let bounds = axum::middleware::from_fn_with_state(Arc::clone(&shared), bounds::enforce);
    let healthz = axum::routing::get(move || healthz(shared));
    Ok(routes
        .into_axum_router()
        .layer(undecodable)
        .layer(bounds)
        .route("/metrics", scrape)
        .route("/healthz", healthz)
        .fallback(not_found)
        .layer(axum::middleware::from_fn(deadline::enforce)))
}

/// Answers `GET /healthz`: 200 if any index serves, else 503, with one line per index.
async fn healthz(shared: Arc<Shared>) -> Response {
    let (is_serving, text) = shared.health.page(&shared.engine).await;
    (if is_serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

/// Answers a path that has no route, in the protocol of the caller.
async fn not_found(headers: HeaderMap) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(b"application/grpc") {
        return tonic::Status::unimplemented("no such service").into_http::<axum::body::Body>();
    }
    (StatusCode::NOT_FOUND, "not found: this server speaks gRPC, and HTTP/1 at /metrics and /healthz\n")
        .into_response()
}
