//! What a request is expected to cost, before it is searched.
//!
//! What flows in: a request and the snapshot that will answer it. What flows out: nanoseconds of one thread. Reads lengths
//! only, no embedding and no attribute. The unit is nominal: a caller that needs time on its machine multiplies by the
//! ratio of measured to estimated cost.

use crate::engine::options::Limits;
use crate::engine::query::request::{Effort, Query, ReturnAttributes, SearchRequest};
use crate::engine::query::snapshot::Snapshot;
use crate::search::{self, SearchParams};

/// Bytes of codes or embeddings that one thread reads and scores per nanosecond.
const BYTES_PER_NANO: u64 = 16;
/// Conversion, planning and the answer of any request.
const REQUEST_NANOS: u64 = 20_000;
/// Rescoring, sorting and choosing one hit; and comparing it with one more interest, or counting it under one more cap.
const HIT_NANOS: u64 = 150;
const HIT_AGAIN_NANOS: u64 = 30;
/// Copying one attribute into the answer.
const ATTRIBUTE_NANOS: u64 = 100;
/// Resolving one word, number or id of a filter or an exclusion.
const LITERAL_NANOS: u64 = 30;
/// A request that keeps places explores for them on their own, and a filtered one often goes deeper than it planned.
const EXPLORED_FOR_PLACES: u64 = 2;
const EXPLORED_UNDER_FILTER: u64 = 2;

/// The expected cost of `request` at `effort` instead of its own. An invalid request gets a cost, too: it is refused later,
/// or costs less.
pub(crate) fn estimate(snapshot: &Snapshot, limits: &Limits, request: &SearchRequest, effort: Effort) -> u64 {
    let rules = &request.rules;
    let interests = match &request.query {
        Query::Interests(interests) => interests.len().clamp(1, Limits::MAX_INTERESTS),
        Query::Vector(_) | Query::Seeds(_) => 1,
    };
    let keeps_places = rules.fresh.as_ref().is_some_and(|fresh| fresh.at_least > 0)
        || matches!(&request.query, Query::Interests(all) if all.iter().any(|one| one.min_share > 0.0));
    let k = request.k.min(limits.max_k);
    let count = request.offset.saturating_add(k).min(limits.max_k);
    let effort = match effort {
        Effort::Default => SearchParams::default_effort(k, limits.max_ef_search),
        Effort::EfSearch(ef_search) => search::Effort::EfSearch(ef_search.min(limits.max_ef_search)),
        Effort::TargetRecall(recall) => {
            let curves = snapshot.calibrated.curves();
            let ef_search = curves.and_then(|curves| curves.ef_search(k, f64::from(recall)).ok());
            search::Effort::EfSearch(ef_search.unwrap_or(limits.max_ef_search).min(limits.max_ef_search))
        }
        Effort::Exact => search::Effort::Exact,
    };
    let ef_search = match effort {
        search::Effort::EfSearch(ef_search) => Some(ef_search),
        search::Effort::Exact => None,
    };
    let has_filter = rules.filter.is_some();
    let (mut bytes, mut rows) = (0, 0);
    for segment in snapshot.segments.iter() {
        let explored = search::explored_bytes(&segment.index, k, count, ef_search, has_filter);
        bytes += explored as u64;
        rows += segment.index.len();
    }
    bytes *= interests as u64;
    if keeps_places {
        bytes *= 1 + EXPLORED_FOR_PLACES;
    }
    let mut nanos = REQUEST_NANOS;
    let mut literals = rules.exclude.video_ids.len();
    if let Some(filter) = &rules.filter {
        let (conditions, of_filter) = filter.size();
        literals += of_filter;
        // Each condition makes a set of nodes: one bit each.
        bytes = bytes * EXPLORED_UNDER_FILTER + (conditions * rows / 8) as u64;
    }
    bytes += rules.exclude.roaring.len() as u64;
    bytes += rules.exclude.bloom.as_ref().map_or(0, |bloom| bloom.bits.len()) as u64;
    let again = interests - 1 + rules.caps.len();
    nanos += count.min(rows) as u64 * (HIT_NANOS + again as u64 * HIT_AGAIN_NANOS);
    nanos += literals as u64 * LITERAL_NANOS;
    let columns = match &request.return_attributes {
        ReturnAttributes::None => 0,
        ReturnAttributes::All => snapshot.index.metadata().attributes.len(),
        ReturnAttributes::Named(names) => names.len(),
    };
    let returned = k.min(rows);
    nanos += (returned * columns) as u64 * ATTRIBUTE_NANOS;
    if request.return_vectors {
        bytes += (returned * snapshot.index.dim() * size_of::<f32>()) as u64;
    }
    nanos + bytes / BYTES_PER_NANO
}
