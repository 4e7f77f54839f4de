//! The span of a call.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, TraceId, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use parking_lot::Mutex;
use shortlist_client::code_name;
use tonic::Code;

use crate::service::caller::Client;

/// Requests of one call that have spans. A batch or a stream may have many more.
const MAX_REQUESTS: usize = 32;

/// The trace that a call is a part of: an extension of its request.
#[derive(Clone)]
pub(crate) struct Trace {
    pub(crate) id: TraceId,
    /// The span of the call; `None` if it is not traced here.
    pub(crate) call: Option<Arc<CallTrace>>,
}

/// A call that is traced.
pub(crate) struct CallTrace {
    tracer: SdkTracer,
    clock: Clock,
    /// The span of the call as the parent of others.
    pub(super) context: Context,
    /// `None` once it has ended.
    span: Mutex<Option<Span>>,
    /// The index of its first request.
    index: OnceLock<String>,
    requests: AtomicUsize,
}

/// What is known of a call before its message is read.
pub(super) struct Call<'a> {
    /// The path of the method, without the first slash: `shortlist.v1.Retrieval/Search`.
    pub(super) path: &'a str,
    pub(super) client: &'a Client,
    pub(super) is_json: bool,
}

impl CallTrace {
    /// Begins the span of a call, below the span in `parent` if there is one.
    pub(super) fn begin(tracer: &SdkTracer, parent: &Context, call: &Call<'_>) -> Self {
        let clock = Clock { at: Instant::now(), time: SystemTime::now() };
        let (service, method) = call.path.split_once('/').unwrap_or((call.path, ""));
        let attributes = [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", method.to_owned()),
            KeyValue::new("shortlist.protocol", if call.is_json { "json" } else { "grpc" }),
            KeyValue::new("shortlist.client", call.client.to_string()),
        ];
        let builder = SpanBuilder::from_name(call.path.to_owned())
            .with_kind(SpanKind::Server)
            .with_start_time(clock.time)
            .with_attributes(attributes);
        let span = tracer.build_with_context(builder, parent);
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        Self {
            tracer: tracer.clone(),
            clock,
            context,
            span: Mutex::new(Some(span)),
            index: OnceLock::new(),
            requests: AtomicUsize::new(0),
        }
    }

    pub(super) fn id(&self) -> TraceId {
        self.context.span().span_context().trace_id()
    }

    /// Counts a request for this index. Returns whether it may have spans.
    pub(super) fn takes_request(&self, index: &str) -> bool {
        self.index.get_or_init(|| index.to_owned());
        self.requests.fetch_add(1, Ordering::Relaxed) < MAX_REQUESTS
    }

    /// Begins a span below `parent`.
    pub(super) fn start(&self, name: &'static str, parent: &Context, began: Instant) -> Span {
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Internal)
            .with_start_time(self.clock.time_at(began));
        self.tracer.build_with_context(builder, parent)
    }

    /// Ends a span.
    pub(super) fn end(&self, mut span: Span, ended: Instant) {
        span.end_with_timestamp(self.clock.time_at(ended));
    }

    /// Ends the span of the call, unless it has ended.
    pub(super) fn finish(&self, code: Code) {
        let Some(mut span) = self.span.lock().take() else { return };
        if let Some(index) = self.index.get() {
            span.set_attribute(KeyValue::new("shortlist.index", index.clone()));
        }
        span.set_attribute(KeyValue::new("shortlist.requests", self.requests.load(Ordering::Relaxed) as i64));
        set_code(&mut span, code);
        span.end();
    }
}

/// Sets the code that a call or a request ended with. Only what is the fault of the server is an error, as the conventions
/// of OpenTelemetry say.
pub(super) fn set_code(span: &mut Span, code: Code) {
    span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code))));
    let is_error = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if is_error {
        span.set_status(Status::error(code_name(code)));
    }
}

/// Two readings of the same moment.
#[derive(Clone, Copy)]
struct Clock {
    at: Instant,
    time: SystemTime,
}

impl Clock {
    fn time_at(self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.at) {
            Some(after) => self.time + after,
            None => self.time - self.at.duration_since(at),
        }
    }
}
