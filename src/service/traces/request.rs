//! The spans of one request of a call.

use std::sync::Arc;
use std::time::Instant;

use opentelemetry::trace::{Span as _, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;
use tonic::Code;

use super::call::{CallTrace, set_code};

/// One request of a call that is traced.
pub(crate) struct RequestTrace {
    pub(super) call: Arc<CallTrace>,
    /// The name of the index; empty if there is none of that name.
    pub(super) index: String,
    /// The parent of its spans.
    pub(super) context: Context,
    /// Its own span, if the call may have several requests.
    span: Option<Span>,
    began: Instant,
}

impl RequestTrace {
    /// Begins to trace a request. `path` is its path within the call. `None` if the call has many requests, and enough of
    /// them are traced.
    pub(crate) fn begin(
        call: &Arc<CallTrace>,
        index: &str,
        path: &str,
        is_one_of_many: bool,
    ) -> Option<Self> {
        if !call.takes_request(index) {
            return None;
        }
        let (call, index, began) = (Arc::clone(call), index.to_owned(), Instant::now());
        if !is_one_of_many {
            let context = call.context.clone();
            return Some(Self { call, index, context, span: None, began });
        }
        let mut span = call.start("request", &call.context, began);
        span.set_attribute(KeyValue::new("shortlist.index", index.clone()));
        let path = path.trim_end_matches('.');
        if !path.is_empty() {
            span.set_attribute(KeyValue::new("shortlist.request", path.to_owned()));
        }
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        Some(Self { call, index, context, span: Some(span), began })
    }

    /// Records a part of the request that has ended.
    pub(crate) fn record(
        &self,
        name: &'static str,
        began: Instant,
        ended: Instant,
        attributes: Vec<KeyValue>,
    ) {
        self.record_below(&self.context, name, began, ended, attributes);
    }

    /// Records the wait of the request since it arrived.
    pub(crate) fn waited(&self, attributes: Vec<KeyValue>) {
        self.record("admission", self.began, Instant::now(), attributes);
    }

    /// Records a part of a part, and returns the parent for parts of it.
    pub(super) fn record_below(
        &self,
        parent: &Context,
        name: &'static str,
        began: Instant,
        ended: Instant,
        attributes: Vec<KeyValue>,
    ) -> Context {
        let mut span = self.call.start(name, parent, began);
        span.set_attributes(attributes);
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        self.call.end(span, ended);
        context
    }

    /// Ends the span of the request.
    pub(crate) fn finish(mut self, code: Code) {
        if let Some(mut span) = self.span.take() {
            set_code(&mut span, code);
            self.call.end(span, Instant::now());
        }
    }
}
