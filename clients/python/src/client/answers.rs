//! Messages become answers.

use std::collections::BTreeMap;
use std::time::Duration;

use pyo3::prelude::*;
use shortlist::{
    AttributeKind, Candidate, Completeness, Instant, Plan, SearchResponse, SearchStats, Shortfall, Value,
    VideoId,
};
use shortlist_client::proto::completeness::Reason;
use shortlist_client::proto::explain_response::{Loss, Rule};
use shortlist_client::proto::{self, AttributeValue, ExplainResponse, attribute_value};

use super::messages::{number, vector};
use crate::answers::{Answers, Kept, Stats};
use crate::error::{Code, Fault};
use crate::request::{Options, Queries};

/// What to keep of answers, as far as it is known before they come.
pub(super) struct Wanted {
    k: usize,
    vectors: bool,
    interests: bool,
    terms: usize,
    reserves: usize,
    /// Names of attributes; `None` for all.
    attributes: Option<Vec<String>>,
    stats: bool,
}

impl Wanted {
    pub(super) fn of(queries: &Queries<'_>, options: &Options<'_>, stats: bool) -> Self {
        let Options(k, _, _, _, _, (_, reserve), _, _, (attributes, vectors), _, terms, _) = options;
        Self {
            k: *k as usize,
            vectors: *vectors,
            interests: matches!(queries, Queries::Interests(..)),
            terms: terms.len(),
            reserves: reserve.len(),
            attributes: attributes.clone(),
            stats,
        }
    }
}

/// The answers of one call.
pub(super) fn found<'py>(
    py: Python<'py>,
    responses: Vec<proto::SearchResponse>,
    wanted: &Wanted,
) -> PyResult<Bound<'py, PyAny>> {
    let candidates = || responses.iter().flat_map(|response| &response.candidates);
    let dim = candidates().find_map(|candidate| candidate.vector.as_ref()).map_or(0, |vector| {
        vector.packed.as_ref().map_or(vector.values.len(), |packed| packed.data.len() / 4)
    });
    // A server sends values, and not the types of the index.
    let mut kinds: BTreeMap<&str, AttributeKind> = BTreeMap::new();
    for (name, value) in candidates().flat_map(|candidate| &candidate.attributes) {
        if let Some(value) = &value.value {
            kinds.entry(name).or_insert_with(|| kind(value));
        }
    }
    let kind_of = |name: &String| kinds.get(name.as_str()).copied().unwrap_or(AttributeKind::Keyword);
    let attributes = match &wanted.attributes {
        Some(names) => names.iter().map(|name| (name.clone(), kind_of(name))).collect(),
        None => kinds.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
    };
    let kept = Kept {
        vectors: wanted.vectors.then_some(dim),
        interests: wanted.interests,
        terms: wanted.terms,
        reserves: wanted.reserves,
        attributes,
        stats: wanted.stats,
    };
    let mut answers = Answers::new(responses.len(), wanted.k, kept)?;
    for response in responses {
        if response.candidates.len() > wanted.k {
            let found = response.candidates.len();
            let reason = format!("expected at most {} candidates, the server sent {found}", wanted.k);
            return Err(Fault::new(Code::Of("INTERNAL"), None, reason).into());
        }
        answers.push(received(response));
    }
    Ok(answers.finish(py)?.into_pyobject(py)?.into_any())
}

fn received(response: proto::SearchResponse) -> SearchResponse {
    let completeness = response.completeness.unwrap_or_default();
    SearchResponse {
        requested: completeness.requested as usize,
        completeness: match completeness.reason() {
            Reason::Unspecified | Reason::Complete => Completeness::Complete,
            Reason::Deadline => Completeness::Deadline,
            Reason::IndexExhausted => Completeness::Short(Shortfall::IndexExhausted),
            Reason::TooFewMatches => Completeness::Short(Shortfall::TooFewMatches),
            Reason::Excluded => Completeness::Short(Shortfall::Excluded),
            Reason::CapsExhausted => Completeness::Short(Shortfall::CapsExhausted),
            Reason::ScoreThreshold => Completeness::Short(Shortfall::ScoreThreshold),
            Reason::TooSimilar => Completeness::Short(Shortfall::TooSimilar),
        },
        candidates: response.candidates.into_iter().map(candidate).collect(),
        unknown_seeds: response.unknown_video_ids.into_iter().map(VideoId).collect(),
        generation: response.generation,
        sequence: response.sequence,
        videos: response.coverage.map_or(0, |coverage| coverage.videos_searched),
        stats: stats(response.stats),
    }
}

fn candidate(candidate: proto::Candidate) -> Candidate {
    let value = |(name, value): (String, AttributeValue)| Some((name, self::value(value.value?)));
    Candidate {
        video_id: VideoId(candidate.video_id),
        text_id: Some(candidate.text_id).filter(|text| !text.is_empty()),
        score: candidate.score,
        interest: candidate.interest.map(|interest| interest as usize),
        attributes: candidate.attributes.into_iter().filter_map(value).collect(),
        vector: candidate.vector.map(vector),
        terms: candidate.terms,
        reserved: candidate.reserved.into_iter().map(number).collect(),
    }
}

fn stats(stats: Option<proto::SearchStats>) -> SearchStats {
    let stats = stats.unwrap_or_default();
    let elapsed = stats.elapsed.unwrap_or_default();
    SearchStats {
        plan: match stats.plan() {
            proto::Plan::Unspecified | proto::Plan::Graph => Plan::Graph,
            proto::Plan::ExactScan => Plan::ExactScan,
            proto::Plan::CodeScan => Plan::CodeScan,
            proto::Plan::FilteredGraph => Plan::FilteredGraph,
            proto::Plan::MatchScan => Plan::MatchScan,
            proto::Plan::BlockScan => Plan::BlockScan,
        },
        ef_search: stats.ef_search as usize,
        measured_recall: stats.measured_recall.map(f64::from),
        expanded: stats.expanded,
        distances: stats.distances,
        elapsed: Duration::try_from(elapsed).unwrap_or_default(),
        matches: stats.matches.map(|matches| matches as usize),
        stages: None,
    }
}

fn kind(value: &attribute_value::Value) -> AttributeKind {
    use attribute_value::Value as Wire;
    match value {
        Wire::Keyword(_) => AttributeKind::Keyword,
        Wire::KeywordList(_) => AttributeKind::KeywordList,
        Wire::Int64(_) => AttributeKind::Int64,
        Wire::Uint64(_) => AttributeKind::Uint64,
        Wire::Double(_) => AttributeKind::Double,
        Wire::Bool(_) => AttributeKind::Bool,
        Wire::Timestamp(_) => AttributeKind::Timestamp,
    }
}

pub(super) fn value(value: attribute_value::Value) -> Value {
    use attribute_value::Value as Wire;
    match value {
        Wire::Keyword(word) => Value::Keyword(word),
        Wire::KeywordList(list) => Value::KeywordList(list.values),
        Wire::Int64(value) => Value::Int64(value),
        Wire::Uint64(value) => Value::Uint64(value),
        Wire::Double(value) => Value::Double(value),
        Wire::Bool(value) => Value::Bool(value),
        Wire::Timestamp(at) => Value::Timestamp(instant(&at)),
    }
}

/// The time of a message, in microseconds; the nearest one that there is.
fn instant(at: &prost_types::Timestamp) -> Instant {
    let micros = at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos) / 1000);
    Instant::from_microsecond(micros).unwrap_or(if micros < 0 { Instant::MIN } else { Instant::MAX })
}

/// An explanation as a dict, like that of an index.
pub(super) fn explained<'py>(py: Python<'py>, explained: ExplainResponse) -> PyResult<Bound<'py, PyAny>> {
    let rule = match explained.removed_by() {
        Rule::Unspecified => None,
        Rule::Seed => Some("seed"),
        Rule::Filter => Some("filter"),
        Rule::Exclude => Some("exclude"),
        Rule::ScoreThreshold => Some("score_threshold"),
        Rule::Cap => Some("cap"),
        Rule::KeptPlace => Some("kept_place"),
        Rule::Diversity => Some("diversity"),
    };
    let loss = match explained.lost() {
        Loss::Unspecified => None,
        Loss::NotReached => Some("not_reached"),
        Loss::NotRescored => Some("not_rescored"),
        Loss::Displaced => Some("displaced"),
        Loss::EarlierPage => Some("earlier_page"),
    };
    let removal =
        rule.map(|rule| (rule, super::error::argument(&explained.removed_at), explained.reason.clone()));
    let dict = crate::index::Explained {
        score: explained.exact_score,
        terms: explained.terms,
        interest: explained.interest.map(number),
        exact_rank: explained.exact_rank.map(|rank| rank as usize),
        in_exact_answer: explained.in_exact_answer,
        rank: explained.rank.map(number),
        removal,
        loss,
        stats: Stats::from(&stats(explained.stats)),
    };
    Ok(dict.into_pyobject(py)?.into_any())
}
