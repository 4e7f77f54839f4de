//! The W3C headers of a call: `traceparent` and `tracestate`.
//!
//! What flows in: headers of gRPC or HTTP, from anybody. What flows out: the span of the caller, if they name one.

use axum::http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: &str = "traceparent";
/// The longest `traceparent`. That of version 0 has 55 bytes; later versions may append to it.
const MAX_TRACEPARENT_BYTES: usize = 128;
/// A longer `tracestate` is dropped. The standard asks for at least this much.
const MAX_TRACESTATE_BYTES: usize = 512;

/// Returns the span of the caller. `None` without a valid `traceparent`.
pub(super) fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    // Most calls have none, and cost no more than this.
    headers.get(TRACEPARENT)?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    /// The value of a header that is there once and is not too long.
    fn get(&self, key: &str) -> Option<&str> {
        let most = if key == TRACEPARENT { MAX_TRACEPARENT_BYTES } else { MAX_TRACESTATE_BYTES };
        let mut values = self.0.get_all(key).iter();
        let value = values.next()?;
        value.to_str().ok().filter(|value| values.next().is_none() && value.len() <= most)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn of(list: &[(&'static str, &str)]) -> Option<SpanContext> {
        parent(&headers(list))
    }

    #[test]
    fn a_valid_parent_is_read_with_its_flag_and_state() {
        let found = of(&[("traceparent", PARENT), ("tracestate", "vendor=a,other=b")]).unwrap();
        assert_eq!(found.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(found.span_id().to_string(), "b7ad6b7169203331");
        assert!(found.is_sampled() && found.is_remote());
        assert_eq!(found.trace_state().header(), "vendor=a,other=b");
        assert!(!of(&[("traceparent", &PARENT.replace("-01", "-00"))]).unwrap().is_sampled());
    }

    #[test]
    fn malformed_and_repeated_parents_are_none() {
        let upper = PARENT.to_uppercase();
        let long = format!("01{}-{}", &PARENT[2..], "x".repeat(200));
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for value in ["", "00", "garbage", upper.as_str(), long.as_str(), zeros, "ff-0-0-01"] {
            assert!(of(&[("traceparent", value)]).is_none(), "{value:?}");
        }
        assert!(of(&[("traceparent", PARENT), ("traceparent", PARENT)]).is_none());
        assert!(of(&[("tracestate", "vendor=a")]).is_none());
    }

    #[test]
    fn a_long_state_is_dropped_and_the_parent_stays() {
        let long = format!("vendor={}", "x".repeat(MAX_TRACESTATE_BYTES));
        let found = of(&[("traceparent", PARENT), ("tracestate", &long)]).unwrap();
        assert_eq!(found.trace_state().header(), "");
    }
}
