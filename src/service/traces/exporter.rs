//! The queue of spans, and the connection to the collector.
//!
//! What flows in: spans that ended, from any thread, which never waits. What flows out: OTLP over gRPC, from a thread of its
//! own. A batch that the collector does not take is lost. That is logged once, and so is the first batch that it takes again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};

/// Spans that wait. Further ones are dropped.
const QUEUE_SPANS: usize = 8192;
/// Spans in one export.
const BATCH_SPANS: usize = 512;
/// The longest time that a span waits for others to be exported with.
const DELAY: Duration = Duration::from_secs(1);
/// The collector must take a batch within this time.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the provider of spans that are exported to `endpoint`. Records every span: which calls have any was decided.
///
/// # Errors
/// If the endpoint is malformed.
pub(super) fn provider(endpoint: &str, service_name: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT);
    if endpoint.starts_with("https:") {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS)
        .with_max_export_batch_size(BATCH_SPANS)
        .with_scheduled_delay(DELAY)
        .build();
    let exporter = Reporting { exporter: exporter.build()?, lost: AtomicU64::new(0) };
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let resource = Resource::builder()
        .with_service_name(service_name.to_owned())
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(resource)
        .build())
}

/// An exporter that logs when the collector stops and starts to take spans.
#[derive(Debug)]
struct Reporting<E> {
    exporter: E,
    /// Spans that were lost since the last export that succeeded.
    lost: AtomicU64,
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => {
                let lost_spans = self.lost.swap(0, Ordering::Relaxed);
                if lost_spans > 0 {
                    tracing::info!(lost_spans, "the collector of traces takes spans again");
                }
            }
            Err(error) => {
                if self.lost.fetch_add(spans, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        %error,
                        "the collector of traces does not take spans; they are lost until it does"
                    );
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
