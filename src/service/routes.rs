//! The routes of the port: gRPC services, reflection, `/metrics`, `/healthz`.

use std::sync::Arc;

use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

use super::access::{self, Role};
use super::admin::AdminService;
use super::bounds;
use super::caller::Caller;
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
        metrics.load.memory(memory.held());
        metrics.scrape()
    });
    let undecodable = axum::middleware::from_fn_with_state(Arc::clone(&shared), undecodable::refuse);
    let bounds = axum::middleware::from_fn_with_state(Arc::clone(&shared), bounds::enforce);
    let guard = axum::middleware::from_fn_with_state(Arc::clone(&shared), access::guard);
    let healthz = axum::routing::get(move |Extension(caller)| healthz(shared, caller));
    Ok(routes
        .into_axum_router()
        .layer(undecodable)
        .layer(bounds)
        .route("/metrics", scrape)
        .route("/healthz", healthz)
        .layer(guard)
        .layer(axum::middleware::from_fn(deadline::enforce)))
}

/// Answers `GET /healthz`: 200 if any index serves, else 503. Callers with the role `admin` get one line per index of
/// theirs, others one word.
async fn healthz(shared: Arc<Shared>, caller: Caller) -> Response {
    let (is_serving, lines) = shared.health.page(&shared.engine).await;
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
