//! The spans of one search.
//!
//! What flows in: a request, its answer and when its stages began and ended. What flows out: spans with the effort and the
//! cost. Rules are counted: their values stay out.

use std::time::Instant;

use opentelemetry::KeyValue;

use super::request::RequestTrace;
use crate::engine::{EngineError, Query, SearchRequest, SearchResponse};
use crate::service::metrics::reason_of;

impl RequestTrace {
    /// Records a search that began then and ends now.
    pub(crate) fn searched(
        &self,
        began: Instant,
        request: &SearchRequest,
        found: &Result<SearchResponse, EngineError>,
    ) {
        let of_request = vec![
            KeyValue::new("shortlist.index", self.index.clone()),
            KeyValue::new("shortlist.k", request.k as i64),
            KeyValue::new("shortlist.offset", request.offset as i64),
            KeyValue::new("shortlist.effort", request.effort.name()),
            KeyValue::new("shortlist.interests", interests(&request.query)),
            KeyValue::new("shortlist.has_filter", request.rules.filter.is_some()),
            KeyValue::new("shortlist.has_exclusions", !request.rules.exclude.is_empty()),
            KeyValue::new("shortlist.caps", request.rules.caps.len() as i64),
        ];
        let answered = found.as_ref().ok().and_then(|answer| Some((answer, answer.stats.stages?)));
        let Some((answer, stages)) = answered else {
            return self.record("search", began, Instant::now(), of_request);
        };
        let mut of_planning = of_request;
        of_planning
            .extend(answer.stats.matches.map(|count| KeyValue::new("shortlist.matches", count as i64)));
        self.record("planning", stages.began, stages.planned, of_planning);
        let of_search = vec![
            KeyValue::new("shortlist.plan", answer.stats.plan.name()),
            KeyValue::new("shortlist.ef_search", answer.stats.ef_search as i64),
            KeyValue::new("shortlist.distances", answer.stats.distances as i64),
            KeyValue::new("shortlist.hops", answer.stats.expanded as i64),
            KeyValue::new("shortlist.candidates", answer.candidates.len() as i64),
            KeyValue::new("shortlist.completeness", reason_of(answer.completeness).unwrap_or("complete")),
            KeyValue::new("shortlist.generation", answer.generation as i64),
        ];
        let search = self.record_below(&self.context, "search", stages.planned, stages.searched, of_search);
        for (name, stage) in [("rescoring", stages.rescoring), ("choosing", stages.choosing)] {
            if let Some(stage) = stage {
                let runs = vec![KeyValue::new("shortlist.runs", i64::from(stage.runs))];
                self.record_below(&search, name, stage.began, stage.began + stage.took, runs);
            }
        }
    }
}

fn interests(query: &Query) -> i64 {
    match query {
        Query::Interests(interests) => interests.len() as i64,
        Query::Vector(_) | Query::Seeds(_) => 0,
    }
}
