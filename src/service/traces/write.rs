//! The spans of one batch of writes.

use std::time::Instant;

use opentelemetry::KeyValue;

use super::request::RequestTrace;
use crate::engine::{EngineError, Written};

impl RequestTrace {
    /// Records a write of `mutations` that began then and ends now.
    pub(crate) fn written(&self, began: Instant, mutations: usize, written: &Result<Written, EngineError>) {
        let mut attributes = vec![
            KeyValue::new("shortlist.index", self.index.clone()),
            KeyValue::new("shortlist.batch_size", mutations as i64),
        ];
        if let Ok(written) = written {
            attributes.push(KeyValue::new("shortlist.written", written.written as i64));
            attributes.push(KeyValue::new("shortlist.sequence", written.sequence as i64));
        }
        let context = self.record_below(&self.context, "log write", began, Instant::now(), attributes);
        if let Some(append) = written.as_ref().ok().and_then(|written| written.append) {
            let of_all = vec![KeyValue::new("shortlist.log.mutations", append.mutations as i64)];
            self.record_below(&context, "log append", append.began, append.began + append.took, of_all);
        }
    }
}
