//! The log of slow searches.
//!
//! What flows in: searches that took longer than a threshold, from the decoded request to the computed answer. What flows
//! out: one event for each, a bounded number per second, with what the search asked for and what it cost. The next event
//! says how many were left out. Embeddings are in it only if asked for.

use std::fmt::{self, Write};
use std::time::Duration;

use opentelemetry::trace::TraceId;

use super::caller::Client;
use super::metrics::reason_of;
use super::per_second::PerSecond;
use crate::engine::{EngineError, Query, SearchRequest, SearchResponse};

/// The target of the events, for filters of the log.
const TARGET: &str = "shortlist::slow_search";
/// A longer filter is cut.
const MAX_FILTER_BYTES: usize = 1000;
/// The names of capped attributes are cut to this length.
const MAX_NAMES_BYTES: usize = 200;

/// Which searches are logged as slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowSearchOptions {
    /// A search that takes longer is slow; zero for none.
    pub threshold: Duration,
    /// Events per second. Further slow searches are counted.
    pub max_per_second: usize,
    /// Whether the events have the embeddings of queries.
    pub embeddings: bool,
}

impl Default for SlowSearchOptions {
    fn default() -> Self {
        Self { threshold: Duration::ZERO, max_per_second: 10, embeddings: false }
    }
}

/// Logs slow searches.
#[derive(Debug)]
pub(super) struct SlowSearches {
    options: SlowSearchOptions,
    logged: PerSecond,
}

/// One search that was slow.
pub(super) struct SlowSearch<'a> {
    pub(super) index: &'a str,
    pub(super) method: &'static str,
    pub(super) client: &'a Client,
    pub(super) took: Duration,
    /// The part of it before a thread began to compute the search.
    pub(super) queued: Duration,
    /// The part of it after that.
    pub(super) computed: Duration,
    pub(super) request: &'a SearchRequest,
    pub(super) found: &'a Result<SearchResponse, EngineError>,
    pub(super) trace_id: Option<TraceId>,
}

impl SlowSearches {
    pub(super) fn new(options: SlowSearchOptions) -> Self {
        Self { options, logged: PerSecond::new(options.max_per_second) }
    }

    /// Returns whether any search can be slow.
    pub(super) fn is_on(&self) -> bool {
        !self.options.threshold.is_zero()
    }

    /// Returns whether a search that took this long is slow.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        self.is_on() && took > self.options.threshold
    }

    /// Logs a search, unless this second has enough of them.
    pub(super) fn log(&self, search: &SlowSearch<'_>) {
        if !tracing::enabled!(target: TARGET, tracing::Level::WARN) {
            return;
        }
        let Some(left_out) = self.logged.take() else { return };
        let SearchRequest { query, rules, effort, .. } = search.request;
        let (interests, seeds) = match query {
            Query::Vector(_) => (None, None),
            Query::Interests(interests) => (Some(interests.len()), None),
            Query::Seeds(seeds) => (None, Some(seeds.len())),
        };
        let filter = rules.filter.as_ref().map(|filter| cut(filter, MAX_FILTER_BYTES));
        let caps = Some(&rules.caps).filter(|caps| !caps.is_empty());
        let cap_attributes = caps.map(|caps| {
            let names: Vec<&str> = caps.iter().map(|cap| cap.attribute.as_str()).collect();
            cut(names.join(","), MAX_NAMES_BYTES)
        });
        let exclude = &rules.exclude;
        let exclusions = exclude.video_ids.len() + exclude.text_ids.len();
        let exclusion_bytes =
            exclude.roaring.len() + exclude.bloom.as_ref().map_or(0, |bloom| bloom.bits.len());
        let fresh = rules.fresh.as_ref();
        let terms = Some(&rules.score_terms).filter(|terms| !terms.is_empty());
        let score_terms = terms.map(|terms| {
            let texts: Vec<String> = terms.iter().map(ToString::to_string).collect();
            cut(texts.join(" + "), MAX_FILTER_BYTES)
        });
        let reserves = Some(&rules.reserves).filter(|reserves| !reserves.is_empty());
        let reserves = reserves.map(|reserves| {
            let texts: Vec<String> = reserves.iter().map(ToString::to_string).collect();
            cut(texts.join("; "), MAX_FILTER_BYTES)
        });
        let diversity = rules.diversity.unwrap_or_default();
        let answer = search.found.as_ref().ok();
        let stats = answer.map(|answer| answer.stats);
        let completeness = answer.map(|answer| reason_of(answer.completeness).unwrap_or("complete"));
        let embeddings = self.options.embeddings.then(|| embeddings(query));
        tracing::warn!(
            target: TARGET,
            index = search.index,
            method = search.method,
            client = %search.client,
            seconds = search.took.as_secs_f64(),
            queue_seconds = search.queued.as_secs_f64(),
            compute_seconds = search.computed.as_secs_f64(),
            k = search.request.k,
            offset = search.request.offset,
            effort = effort.name(),
            target_recall = effort.target(),
            plan = stats.map(|stats| stats.plan.name()),
            ef_search = stats.map(|stats| stats.ef_search),
            distances = stats.map(|stats| stats.distances),
            hops = stats.map(|stats| stats.expanded),
            matches = stats.and_then(|stats| stats.matches),
            candidates = answer.map(|answer| answer.candidates.len()),
            completeness,
            problem = search.found.as_ref().err().map(tracing::field::display),
            interests,
            seeds,
            filter,
            exclusions = Some(exclusions).filter(|count| *count > 0),
            exclusion_bytes = Some(exclusion_bytes).filter(|bytes| *bytes > 0),
            caps = caps.map(Vec::len),
            cap_attributes,
            fresh_at_least = fresh.map(|fresh| fresh.at_least),
            fresh_within_seconds = fresh.map(|fresh| fresh.within.as_secs_f64()),
            score_threshold = rules.score_threshold.map(f64::from),
            score_terms,
            reserves,
            max_similarity = diversity.max_similarity.map(f64::from),
            lambda = diversity.lambda.map(f64::from),
            trace_id = search.trace_id.map(tracing::field::display),
            left_out = Some(left_out).filter(|count| *count > 0),
            embeddings,
            "slow search"
        );
    }
}

/// The components of the query, or of each interest, as text: `0.5,-1;0.25,3`. Empty for seeds.
fn embeddings(query: &Query) -> String {
    let one = |vector: &[f32]| vector.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    match query {
        Query::Vector(vector) => one(vector),
        Query::Interests(interests) => {
            interests.iter().map(|interest| one(&interest.vector)).collect::<Vec<_>>().join(";")
        }
        Query::Seeds(_) => String::new(),
    }
}

/// The text of a value, or what of it fits into this many bytes and an ellipsis. Stops to format there.
fn cut(value: impl fmt::Display, most: usize) -> String {
    struct Cut {
        text: String,
        most: usize,
    }
    impl Write for Cut {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            let room = self.most - self.text.len();
            if part.len() <= room {
                self.text.push_str(part);
                return Ok(());
            }
            let end = (0..=room).rev().find(|end| part.is_char_boundary(*end)).unwrap_or_default();
            self.text.push_str(&part[..end]);
            Err(fmt::Error)
        }
    }
    let mut cut = Cut { text: String::new(), most };
    if write!(cut, "{value}").is_err() {
        cut.text.push('…');
    }
    cut.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöü", 5), "äö…");
        assert_eq!(cut(format_args!("{}{}", "ab", "cd"), 3), "abc…");
        assert_eq!(cut("", 0), "");
    }
}
