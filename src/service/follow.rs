//! What is recorded of one request beyond its metrics: its spans, and a line if it is a slow search.
//!
//! What flows in: the stages of a request. What flows out: spans and log lines. A request that is not traced, on a server that
//! logs no slow searches, has none of this and pays one branch for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use tonic::Code;

use super::admission::Queued;
use super::caller::Caller;
use super::metrics::Observation;
use super::shared::Shared;
use super::slow_search::SlowSearch;
use super::traces::{RequestTrace, Trace};
use crate::engine::{EngineError, SearchRequest, SearchResponse};

/// What is recorded of one request.
pub(super) struct Followed {
    shared: Arc<Shared>,
    method: &'static str,
    caller: Caller,
    index: String,
    trace: Option<Trace>,
    /// Its spans; `None` if it is not traced.
    spans: Option<RequestTrace>,
    queued: Duration,
    /// When a thread began to compute it.
    began: Instant,
}

impl Followed {
    /// Begins to record a request. `path` is its path within the call. `None` if nothing may be recorded of it.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        method: &'static str,
        caller: &Caller,
        index: &str,
        trace: Option<&Trace>,
        path: &str,
    ) -> Option<Box<Self>> {
        let call = trace.and_then(|trace| trace.call.as_ref());
        if call.is_none() && !shared.slow_searches.is_on() {
            return None;
        }
        let index = shared.engine.resolve(index).unwrap_or_default();
        let is_one_of_many = matches!(method, "BatchSearch" | "StreamSearch");
        let spans = call.and_then(|call| RequestTrace::begin(call, index, path, is_one_of_many));
        Some(Box::new(Self {
            shared: Arc::clone(shared),
            method,
            caller: caller.clone(),
            index: index.to_owned(),
            trace: trace.cloned(),
            spans,
            queued: Duration::ZERO,
            began: Instant::now(),
        }))
    }

    /// Whether the request has spans.
    pub(super) fn is_traced(&self) -> bool {
        self.spans.is_some()
    }

    /// Records that a thread begins to compute the request.
    pub(super) fn begins(&mut self, queued: &Queued) {
        (self.queued, self.began) = (queued.waited, Instant::now());
        if let Some(spans) = &self.spans {
            spans.waited(vec![
                KeyValue::new("shortlist.class", queued.class.name()),
                KeyValue::new("shortlist.client", self.caller.client().to_string()),
                KeyValue::new(
                    "shortlist.expected_cost_seconds",
                    Duration::from_nanos(queued.cost).as_secs_f64(),
                ),
                KeyValue::new("shortlist.queue_seconds", queued.waited.as_secs_f64()),
            ]);
        }
    }

    /// Records a search that was computed, or failed.
    pub(super) fn searched(
        &self,
        observation: &Observation,
        request: &SearchRequest,
        found: &Result<SearchResponse, EngineError>,
    ) {
        if let Some(spans) = &self.spans {
            spans.searched(self.began, request, found);
        }
        let seconds = observation.elapsed();
        if self.shared.slow_searches.is_slow(seconds) {
            observation.is_slow();
            self.shared.slow_searches.log(&SlowSearch {
                index: &self.index,
                method: self.method,
                client: &self.caller.client(),
                took: seconds,
                queued: self.queued,
                computed: self.began.elapsed(),
                request,
                found,
                trace_id: self.trace.as_ref().map(|trace| trace.id),
            });
        }
    }

    /// Records other work that was computed.
    pub(super) fn computed(&self, name: &'static str) {
        if let Some(spans) = &self.spans {
            spans.record(name, self.began, Instant::now(), Vec::new());
        }
    }

    /// Records the end of the request.
    pub(super) fn finish(self, code: Code) {
        if let Some(spans) = self.spans {
            spans.finish(code);
        }
    }
}
