//! Which calls are traced.
//!
//! What flows in: calls that passed the guard. What flows out: a [`Trace`] for each that is traced. The caller's flag decides
//! if there is a valid `traceparent`, else a share of the calls is taken at random. Both are limited per second, each by
//! itself: callers cannot use up what the server samples.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::call::{Call, CallTrace, Trace};
use super::exporter;
use super::options::TraceOptions;
use super::parent::parent;
use crate::service::caller::Client;
use crate::service::per_second::PerSecond;

/// What the paths of the traced services begin with.
const TRACED: &str = "/shortlist.v1.";
/// How long spans that wait are exported once the server has stopped.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Traces the calls of one server; none by default.
#[derive(Clone, Default)]
pub(crate) struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sample: f64,
    sampled: PerSecond,
    asked: PerSecond,
}

impl Traces {
    /// Starts the thread that exports spans, if traces are on. To be called in a tokio runtime.
    ///
    /// # Errors
    /// If the endpoint is malformed. A collector that does not answer is no error.
    pub(crate) fn start(options: &TraceOptions) -> Result<Self, ExporterBuildError> {
        if !options.is_on() {
            return Ok(Self(None));
        }
        let provider = exporter::provider(&options.endpoint, &options.service_name)?;
        let tracing = Tracing {
            tracer: provider.tracer("shortlist"),
            provider,
            sample: options.sample,
            sampled: PerSecond::new(options.max_per_second),
            asked: PerSecond::new(options.max_per_second),
        };
        Ok(Self(Some(Arc::new(tracing))))
    }

    /// Returns whether any call may be traced.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the trace that a call belongs to, if it is traced or its caller names one.
    pub(crate) fn begin(
        &self,
        path: &str,
        headers: &HeaderMap,
        client: impl FnOnce() -> Client,
        is_json: bool,
    ) -> Option<Trace> {
        if !path.starts_with(TRACED) {
            return None;
        }
        let parent = parent(headers);
        let takes = |tracing: &&Arc<Tracing>| match &parent {
            Some(parent) => parent.is_sampled() && tracing.asked.take().is_some(),
            None => rand::random::<f64>() < tracing.sample && tracing.sampled.take().is_some(),
        };
        let Some(tracing) = self.0.as_ref().filter(takes) else {
            return parent.map(|parent| Trace { id: parent.trace_id(), call: None });
        };
        let parent =
            parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let call = Call { path: path.trim_start_matches('/'), client: &client(), is_json };
        let call = Arc::new(CallTrace::begin(&tracing.tracer, &parent, &call));
        Some(Trace { id: call.id(), call: Some(call) })
    }

    /// Exports the spans that wait, for a bounded time.
    pub(crate) async fn stop(&self) {
        let Some(tracing) = self.0.clone() else { return };
        // It waits for the thread that exports.
        let flush =
            tokio::task::spawn_blocking(move || tracing.provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        if !matches!(tokio::time::timeout(2 * FLUSH_TIMEOUT, flush).await, Ok(Ok(Ok(())))) {
            tracing::warn!(
                timeout_seconds = FLUSH_TIMEOUT.as_secs_f64(),
                "the collector did not take the last spans in time"
            );
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.is_on()).finish()
    }
}
