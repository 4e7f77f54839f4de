//! Where traces go to, and how many.

use axum::http::Uri;
use serde::Deserialize;

use crate::base::whole::whole;

/// Where traces go to, and how many.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(expecting = "struct TracesConfig", deny_unknown_fields, default)]
pub struct TraceOptions {
    /// The collector, which takes OTLP over gRPC, such as `http://127.0.0.1:4317`. If empty, there are no traces.
    pub endpoint: String,
    /// The share of calls to trace, 0 to 1, of those without a `traceparent`.
    pub sample: f64,
    /// Maximum number of these calls to trace per second, and of those whose caller asks for it.
    #[serde(deserialize_with = "whole")]
    pub max_per_second: usize,
    /// The name of the service, as the resource attribute `service.name`.
    pub service_name: String,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            sample: 0.01,
            max_per_second: 100,
            service_name: "shortlist".to_owned(),
        }
    }
}

impl TraceOptions {
    /// Returns whether there are traces.
    pub fn is_on(&self) -> bool {
        !self.endpoint.is_empty()
    }

    /// Returns whether the endpoint is `http://` or `https://` with a host, or empty.
    pub fn has_valid_endpoint(&self) -> bool {
        let is_url = |uri: Uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"));
        !self.is_on() || self.endpoint.parse().is_ok_and(is_url)
    }
}
