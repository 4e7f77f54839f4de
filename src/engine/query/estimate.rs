//! What a request is expected to cost, before it is searched.
//!
//! What flows in: a request and the snapshot that will answer it. What flows out: nanoseconds of one thread. Reads lengths
//! and a sample of a Bloom filter, no embedding and no attribute. The unit is nominal: a caller that needs time on its
//! machine multiplies by the ratio of measured to estimated cost. The constants are from `cargo bench --bench estimate`,
//! which compares the estimate with the time of requests of every kind.

use crate::attributes::Columns;
use crate::engine::options::Limits;
use crate::engine::query::request::{Effort, Query, ReturnAttributes, SearchRequest};
use crate::engine::query::snapshot::Snapshot;
use crate::index::{AttributeKind, Index};
use crate::rules::{self, Bloom, Cap, TermForm};
use crate::search;

/// Bytes of codes that one thread reads and scores per nanosecond.
const CODE_BYTES_PER_NANO: u64 = 16;
/// Bytes of embeddings that one thread reads and scores per nanosecond.
const BYTES_PER_NANO: u64 = 8;
/// An exact scan scores each embedding for all interests at once: one more interest costs 1/4 of the first.
const EXACT_SHARE_OF_INTEREST: u64 = 4;
/// Conversion, planning and the answer of any request.
const REQUEST_NANOS: u64 = 20_000;
/// Rescoring, sorting and choosing one hit of a request without an offset, caps and kept places.
const HIT_NANOS: u64 = 150;
/// The same for other requests: their pools are deepened and merged.
const RULED_HIT_NANOS: u64 = 600;
/// Comparing one hit with one more interest.
const INTEREST_NANOS: u64 = 30;
/// Counting one hit under one cap.
const CAP_NANOS: u64 = 100;
/// Looking up one candidate in a Bloom filter, including the repeated look-ups of deeper pools.
const BLOOM_NANOS: u64 = 500;
/// Looking up one stored video.
const LOOKUP_NANOS: u64 = 300;
/// Copying one attribute into the answer.
const ATTRIBUTE_NANOS: u64 = 250;
/// Making, combining or counting one set of the nodes that match, whatever their number.
const SET_NANOS: u64 = 100;
/// Resolving one word, number or id of a filter or an exclusion.
const VALUE_NANOS: u64 = 30;
/// An id that is text, to hash and to look up.
const TEXT_ID_NANOS: u64 = 150;
/// How much a request that keeps places explores for them, in addition.
const EXPLORED_FOR_PLACES: u64 = 2;
/// How many times as much a request with an offset explores: its pools are deepened.
const EXPLORED_FOR_PAGES: u64 = 3;
/// How many times as much a request with a filter explores: it often goes deeper than it planned.
const EXPLORED_UNDER_FILTER: u64 = 2;
/// How many times as much a request with score terms explores: traversals are widened for them.
const EXPLORED_FOR_TERMS: u64 = 2;
/// Pairs of hits per nanosecond that are found not to be near.
const NEAR_PER_NANO: u64 = 2;
/// One in this many pairs is compared for the choice of a page by marginal relevance.
const COMPARED_SHARE: u64 = 4;
/// Scoring one match of a sampled reserve, in addition to reading its code.
const NOISE_NANOS: u64 = 28;
/// Reading the value of one score term, and its contribution.
const TERM_NANOS: u64 = 25;
/// Bytes of a Bloom filter that are read to learn how full it is.
const BLOOM_SAMPLE: usize = 64;

/// The expected cost of `request` at `effort` instead of its own. An invalid request gets a cost, too: it is refused later,
/// or costs less.
pub(crate) fn estimate(snapshot: &Snapshot, limits: &Limits, request: &SearchRequest, effort: Effort) -> u64 {
    let rules = &request.rules;
    let rows: usize = snapshot.segments.iter().map(|segment| segment.index.len()).sum();
    let k = request.k.min(limits.max_k);
    let count = request.offset.saturating_add(k).min(limits.max_k);
    let interests = match &request.query {
        Query::Interests(interests) => interests.len().clamp(1, Limits::MAX_INTERESTS),
        Query::Vector(_) | Query::Seeds(_) => 1,
    };
    let mut sources = 1 + usize::from(rules.fresh.as_ref().is_some_and(|fresh| fresh.at_least > 0));
    sources += rules.reserves.iter().filter(|reserve| reserve.at_least(k) > 0).count();
    if let Query::Interests(all) = &request.query {
        sources += all.iter().take(interests).filter(|one| one.min_share > 0.0).count();
    }

    let ef_search = expanded(snapshot, limits, k.max(request.effort_k.min(limits.max_k)), effort);
    let mut nanos = REQUEST_NANOS;
    for segment in snapshot.segments.iter() {
        let has_filter = rules.filter.is_some();
        let bytes =
            search::explored_bytes(&segment.index, k, count, ef_search, request.plan, has_filter) as u64;
        let interests = interests as u64;
        let mut explored = match ef_search {
            Some(_) => bytes * interests / CODE_BYTES_PER_NANO,
            None => (bytes + bytes * (interests - 1) / EXACT_SHARE_OF_INTEREST) / BYTES_PER_NANO,
        };
        if sources > 1 {
            explored *= 1 + EXPLORED_FOR_PLACES;
        }
        if request.offset > 0 {
            explored *= EXPLORED_FOR_PAGES;
        }
        if has_filter {
            explored *= EXPLORED_UNDER_FILTER;
        }
        if !rules.score_terms.is_empty() {
            explored = match ef_search {
                Some(_) => EXPLORED_FOR_TERMS * explored,
                None => explored + (segment.index.len() * rules.score_terms.len()) as u64 * TERM_NANOS,
            };
        }
        nanos += explored;
    }

    let is_plain = request.offset == 0 && rules.caps.is_empty() && sources == 1;
    // With caps that k candidates cannot keep, every video is considered.
    let considered = if capacity(snapshot, &rules.caps) < count { rows } else { count.min(rows) };
    let mut of_hit = if is_plain { HIT_NANOS } else { RULED_HIT_NANOS };
    of_hit += (interests - 1) as u64 * INTEREST_NANOS + rules.caps.len() as u64 * CAP_NANOS;
    of_hit += rules.score_terms.len() as u64 * TERM_NANOS;
    nanos += (considered * sources) as u64 * of_hit;

    let dim = snapshot.index.dim() as u64;
    if let Some(diversity) = rules.diversity {
        let (k, count) = (k.min(rows) as u64, count.min(rows) as u64);
        let bytes_of_row = size_of::<f32>() as u64 * dim;
        if diversity.max_similarity.is_some() {
            nanos += count * bytes_of_row / BYTES_PER_NANO + count * count / 2 / NEAR_PER_NANO;
        }
        if diversity.lambda.is_some() {
            let pages = (request.offset.min(limits.max_k) / request.k.max(1) + 1) as u64;
            let among = rules::Diversity::CHOSEN_AMONG as u64 * k;
            nanos += pages * among * (bytes_of_row + count * bytes_of_row / COMPARED_SHARE) / BYTES_PER_NANO;
        }
    }

    let mut values = rules.exclude.video_ids.len();
    if let Some(filter) = &rules.filter {
        let work = filter.work();
        values += work.values;
        nanos += work.sets as u64 * (SET_NANOS + rows as u64 / 8 / CODE_BYTES_PER_NANO);
    }
    for reserve in &rules.reserves {
        let work = reserve.filter.work();
        values += work.values;
        nanos += work.sets as u64 * (SET_NANOS + rows as u64 / 8 / CODE_BYTES_PER_NANO);
        if reserve.sample.is_some() && reserve.at_least(k) > 0 {
            // How many match is not known. Half of all is more than most reserves have.
            let drawn = NOISE_NANOS + interests as u64 * dim / CODE_BYTES_PER_NANO;
            nanos += rows as u64 / 2 * drawn;
        }
    }
    for term in &rules.score_terms {
        if let TermForm::Match { any_of } = &term.form {
            values += any_of.len();
            nanos += SET_NANOS + rows as u64 / 8 / CODE_BYTES_PER_NANO;
        }
    }
    nanos += values as u64 * VALUE_NANOS;
    nanos += rules.exclude.text_ids.len() as u64 * TEXT_ID_NANOS;
    nanos += rules.exclude.roaring.len() as u64 / CODE_BYTES_PER_NANO;
    if let Some(bloom) = &rules.exclude.bloom {
        let looked_up = (considered as f64 / passing(bloom)).min(rows as f64);
        nanos += looked_up as u64 * BLOOM_NANOS;
    }

    nanos + returned(snapshot, k.min(rows), &request.return_attributes, request.return_vectors)
}

/// The expected cost of looking up this many stored videos.
pub(crate) fn lookup(
    snapshot: &Snapshot,
    videos: usize,
    attributes: &ReturnAttributes,
    with_vectors: bool,
) -> u64 {
    REQUEST_NANOS + videos as u64 * LOOKUP_NANOS + returned(snapshot, videos, attributes, with_vectors)
}

/// The expected cost of copying the contents of this many videos into an answer.
fn returned(snapshot: &Snapshot, videos: usize, attributes: &ReturnAttributes, with_vectors: bool) -> u64 {
    let columns = match attributes {
        ReturnAttributes::None => 0,
        ReturnAttributes::All => snapshot.index.metadata().attributes.len(),
        ReturnAttributes::Named(names) => names.len(),
    };
    let columns = columns + usize::from(snapshot.has_text_ids());
    let vector_bytes = if with_vectors { snapshot.index.dim() * size_of::<f32>() } else { 0 };
    (videos * columns) as u64 * ATTRIBUTE_NANOS + (videos * vector_bytes) as u64 / BYTES_PER_NANO
}

/// The nodes that a traversal expands; `None` for exact effort.
fn expanded(snapshot: &Snapshot, limits: &Limits, k: usize, effort: Effort) -> Option<usize> {
    let effort = match effort {
        Effort::Default => snapshot.default_effort(k, limits),
        Effort::EfSearch(ef_search) => search::Effort::EfSearch(ef_search.min(limits.max_ef_search)),
        Effort::TargetRecall(recall) => {
            let curves = snapshot.calibrated.targets();
            let ef_search = curves.and_then(|curves| curves.ef_search(k, f64::from(recall)).ok());
            search::Effort::EfSearch(ef_search.unwrap_or(limits.max_ef_search).min(limits.max_ef_search))
        }
        Effort::Exact => search::Effort::Exact,
    };
    match effort {
        search::Effort::EfSearch(ef_search) => Some(ef_search),
        search::Effort::Exact => None,
    }
}

/// How many videos with a value the caps have room for, at most.
fn capacity(snapshot: &Snapshot, caps: &[Cap]) -> usize {
    let of = |cap: &Cap| {
        let values = snapshot.segments.iter().map(|segment| distinct(&segment.index, &cap.attribute));
        let values = values.fold(0, usize::saturating_add);
        values.saturating_mul(cap.max_per_value)
    };
    caps.iter().map(of).min().unwrap_or(usize::MAX)
}

/// How many values an attribute has, at most.
fn distinct(index: &Index, attribute: &str) -> usize {
    let columns = Columns::of(index);
    let Some(column) = columns.find(attribute) else { return usize::MAX };
    match columns.schema()[column].kind {
        AttributeKind::Bool => 2,
        _ => columns.words(column).map_or(usize::MAX, |words| words.len()),
    }
}

/// The share of ids that a Bloom filter lets pass, from a sample of its bits.
fn passing(bloom: &Bloom) -> f64 {
    let step = (bloom.bits.len() / BLOOM_SAMPLE).max(1);
    let sample = || bloom.bits.iter().step_by(step).take(BLOOM_SAMPLE);
    let ones: u32 = sample().map(|byte| byte.count_ones()).sum();
    let bits = 8 * sample().count().max(1);
    1.0 - (f64::from(ones) / bits as f64).powi(bloom.hashes.min(64) as i32)
}
