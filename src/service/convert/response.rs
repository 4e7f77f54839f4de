//! Answers to searches, and explanations, to the wire.

use prost::Message as _;
use prost::encoding::message;

use super::plan::plan_to_proto;
use super::scalar::{duration, saturate, timestamp};
use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::engine::{self, Completeness, Shortfall};
use crate::service::answer::EncodedSearch;
use crate::service::field::proto_path;
use crate::service::page_token::PageToken;
use crate::service::proto;

/// The number of the field `candidates` of a `SearchResponse`.
const CANDIDATES: u32 = 1;
/// An encoded candidate that has an id and a score and nothing else. The first byte is for the field [`CANDIDATES`], the
/// second is the length of the rest: field 1 with 64 bits, and field 2 with 32 bits.
const PLAIN: [u8; 16] = [0x0a, 14, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x15, 0, 0, 0, 0];
/// Bytes of the other fields of an answer, as a rule.
const REST_BYTES: usize = 128;

/// Converts the explanation why a video is, or is not, in an answer.
pub(crate) fn explanation(explanation: engine::Explanation) -> proto::ExplainResponse {
    use proto::explain_response::{Loss, Rule};
    let engine::Explanation {
        score,
        interest,
        exact_rank,
        in_exact_answer,
        rank,
        removal,
        loss,
        generation,
        stats,
        terms,
    } = explanation;
    let rule = |rule| match rule {
        engine::Rule::Seed => Rule::Seed,
        engine::Rule::Filter => Rule::Filter,
        engine::Rule::Exclude => Rule::Exclude,
        engine::Rule::ScoreThreshold => Rule::ScoreThreshold,
        engine::Rule::Cap => Rule::Cap,
        engine::Rule::KeptPlace => Rule::KeptPlace,
        engine::Rule::Diversity => Rule::Diversity,
    };
    let lost = match loss {
        None => Loss::Unspecified,
        Some(engine::Loss::NotReached) => Loss::NotReached,
        Some(engine::Loss::NotRescored) => Loss::NotRescored,
        Some(engine::Loss::Displaced) => Loss::Displaced,
        Some(engine::Loss::EarlierPage) => Loss::EarlierPage,
    };
    let removed_by = removal.as_ref().map_or(Rule::Unspecified, |removal| rule(removal.rule));
    let (removed_at, reason) =
        removal.map(|removal| (proto_path(&removal.field), removal.reason)).unwrap_or_default();
    proto::ExplainResponse {
        exact_score: score,
        exact_rank: exact_rank.map(|rank| rank as u64),
        in_exact_answer,
        found: rank.is_some(),
        rank: rank.map(saturate),
        removed_by: removed_by.into(),
        removed_at,
        reason,
        lost: lost.into(),
        interest: interest.map(saturate),
        generation,
        stats: Some(search_stats(&stats)),
        terms,
    }
}

/// Converts and encodes the answer to a search. `with_stats`: whether to add the stats. `next`: where the next page begins, if there
/// may be one. `index`: the index that answered, if the request named an alias.
pub(crate) fn search_response(
    response: engine::SearchResponse,
    with_stats: bool,
    next: Option<u32>,
    index: Option<&str>,
) -> EncodedSearch {
    use proto::completeness::Reason;
    let returned = response.candidates.len();
    let mut bytes = Vec::with_capacity(PLAIN.len() * returned + REST_BYTES);
    for found in response.candidates {
        match plain(&found) {
            Some(encoded) => bytes.extend_from_slice(&encoded),
            None => message::encode(CANDIDATES, &candidate(found), &mut bytes),
        }
    }
    let reason = match response.completeness {
        Completeness::Complete => Reason::Complete,
        Completeness::Deadline => Reason::Deadline,
        Completeness::Short(Shortfall::IndexExhausted) => Reason::IndexExhausted,
        Completeness::Short(Shortfall::TooFewMatches) => Reason::TooFewMatches,
        Completeness::Short(Shortfall::Excluded) => Reason::Excluded,
        Completeness::Short(Shortfall::CapsExhausted) => Reason::CapsExhausted,
        Completeness::Short(Shortfall::ScoreThreshold) => Reason::ScoreThreshold,
        Completeness::Short(Shortfall::TooSimilar) => Reason::TooSimilar,
    };
    // A message is the concatenation of its fields.
    let rest = proto::SearchResponse {
        candidates: Vec::new(),
        completeness: Some(proto::Completeness {
            requested: saturate(response.requested),
            returned: saturate(returned),
            reason: reason.into(),
        }),
        generation: response.generation,
        sequence: response.sequence,
        stats: with_stats.then(|| search_stats(&response.stats)),
        unknown_video_ids: response.unknown_seeds.into_iter().map(|VideoId(id)| id).collect(),
        // One server searches all of its index.
        coverage: Some(proto::Coverage {
            videos_total: response.videos,
            videos_searched: response.videos,
            shards_total: 1,
            shards_answered: 1,
        }),
        next_page_token: next
            .filter(|_| response.completeness == Completeness::Complete)
            .map(|offset| {
                let token = PageToken::new(offset, vec![response.generation]);
                match index {
                    Some(index) => token.of_index(index).text(),
                    None => token.text(),
                }
            })
            .unwrap_or_default(),
        index: index.unwrap_or_default().to_owned(),
    };
    rest.encode(&mut bytes).expect("a vector has room");
    EncodedSearch::new(bytes)
}

/// Encodes a candidate many times faster than a generated message does; `None` if it has other fields, or values of zero, which
/// are left out.
fn plain(found: &engine::Candidate) -> Option<[u8; PLAIN.len()]> {
    let engine::Candidate {
        video_id: VideoId(id),
        text_id,
        score,
        interest,
        attributes,
        vector,
        terms,
        reserved,
    } = found;
    let is_plain = *id != 0
        && *score != 0.0
        && text_id.is_none()
        && interest.is_none()
        && attributes.is_empty()
        && vector.is_none()
        && terms.is_empty()
        && reserved.is_empty();
    let mut encoded = PLAIN;
    encoded[3..11].copy_from_slice(&id.to_le_bytes());
    encoded[12..].copy_from_slice(&score.to_le_bytes());
    is_plain.then_some(encoded)
}

fn candidate(candidate: engine::Candidate) -> proto::Candidate {
    let attribute = |(name, value)| (name, attribute_value(value));
    proto::Candidate {
        video_id: candidate.video_id.0,
        score: candidate.score,
        interest: candidate.interest.map(saturate),
        vector: candidate.vector.map(|values| proto::Vector { values, packed: None }),
        attributes: candidate.attributes.into_iter().map(attribute).collect(),
        text_id: candidate.text_id.unwrap_or_default(),
        terms: candidate.terms,
        reserved: candidate.reserved.into_iter().map(saturate).collect(),
    }
}

#[expect(deprecated, reason = "fills the deprecated fields as well, for clients that still read them")]
fn search_stats(stats: &engine::SearchStats) -> proto::SearchStats {
    let matches = stats.matches.map(|matches| matches as u64);
    proto::SearchStats {
        plan: plan_to_proto(stats.plan).into(),
        ef_search: saturate(stats.ef_search),
        measured_recall: stats.measured_recall.map(|recall| recall as f32),
        visited: stats.expanded,
        expanded: stats.expanded,
        distances: stats.distances,
        elapsed: Some(duration(stats.elapsed)),
        estimated_matches: matches,
        matches,
    }
}

pub(super) fn attribute_value(value: Value) -> proto::AttributeValue {
    use proto::attribute_value::Value as Wire;
    let value = match value {
        Value::Keyword(word) => Wire::Keyword(word),
        Value::KeywordList(values) => Wire::KeywordList(proto::KeywordList { values }),
        Value::Int64(value) => Wire::Int64(value),
        Value::Uint64(value) => Wire::Uint64(value),
        Value::Double(value) => Wire::Double(value),
        Value::Bool(value) => Wire::Bool(value),
        Value::Timestamp(value) => Wire::Timestamp(timestamp(value)),
    };
    proto::AttributeValue { value: Some(value) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const STATS: engine::SearchStats = engine::SearchStats {
        plan: engine::Plan::ExactScan,
        ef_search: 0,
        measured_recall: None,
        expanded: 0,
        distances: 1,
        elapsed: Duration::from_micros(3),
        matches: None,
        stages: None,
    };

    fn decoded(response: engine::SearchResponse, with_stats: bool) -> proto::SearchResponse {
        let encoded = search_response(response, with_stats, Some(5), None).encode_to_vec();
        proto::SearchResponse::decode(encoded.as_slice()).unwrap()
    }

    proptest! {
        /// Byte for byte.
        #[test]
        fn an_encoded_answer_is_that_of_the_generated_message(
            ids in vec(prop_oneof![Just(0), any::<u64>()], 0..5),
            score in prop_oneof![Just(0.0), Just(-0.0), -1e30f32..1e30],
            interest in option::of(0usize..3),
            has_vector: bool,
            has_attributes: bool,
            with_stats: bool,
            terms in 0usize..3,
        ) {
            let candidate_of = |id: &u64| engine::Candidate {
                video_id: VideoId(*id),
                text_id: None,
                score,
                interest,
                attributes: vec![("n".into(), Value::Int64(*id as i64)); usize::from(has_attributes)],
                vector: has_vector.then(|| vec![score; 3]),
                terms: vec![score; terms],
                reserved: (0..terms / 2).collect(),
            };
            let response = engine::SearchResponse {
                candidates: ids.iter().map(candidate_of).collect(),
                requested: 5,
                completeness: Completeness::Complete,
                unknown_seeds: ids.iter().map(|id| VideoId(*id)).collect(),
                generation: 3,
                sequence: 12,
                videos: 20,
                stats: STATS,
            };
            let expected: Vec<proto::Candidate> = response.candidates.iter().cloned().map(candidate).collect();
            let encoded = search_response(response, with_stats, None, None).encode_to_vec();
            let decoded = proto::SearchResponse::decode(encoded.as_slice()).unwrap();
            prop_assert_eq!(&decoded.candidates, &expected);
            prop_assert_eq!((decoded.generation, decoded.sequence, &decoded.unknown_video_ids), (3, 12, &ids));
            let coverage = decoded.coverage.unwrap();
            prop_assert_eq!((coverage.videos_total, coverage.videos_searched), (20, 20));
            prop_assert_eq!((coverage.shards_total, coverage.shards_answered), (1, 1));
            prop_assert_eq!(decoded.stats.is_some(), with_stats);
            prop_assert_eq!(decoded.encode_to_vec(), encoded);
        }
    }

    #[test]
    fn a_short_answer_says_why() {
        let response = engine::SearchResponse {
            candidates: vec![engine::Candidate {
                video_id: VideoId(5),
                text_id: Some("five".to_owned()),
                score: 1.5,
                interest: Some(1),
                attributes: vec![("title".into(), Value::Keyword("cats".into()))],
                vector: Some(vec![0.5, -1.0]),
                terms: vec![0.25, 1.0],
                reserved: vec![0, 3],
            }],
            requested: 10,
            completeness: Completeness::Short(Shortfall::IndexExhausted),
            unknown_seeds: vec![VideoId(9)],
            generation: 3,
            sequence: 12,
            videos: 20,
            stats: STATS,
        };
        let complete =
            engine::SearchResponse { requested: 1, completeness: Completeness::Complete, ..response.clone() };
        let short = decoded(response, true);
        let candidate = &short.candidates[0];
        assert_eq!((candidate.video_id, candidate.score, candidate.interest), (5, 1.5, Some(1)));
        assert_eq!(candidate.text_id, "five");
        assert_eq!(candidate.reserved, [0, 3]);
        assert_eq!(candidate.vector, Some(proto::Vector { values: vec![0.5, -1.0], packed: None }));
        let completeness = short.completeness.unwrap();
        assert_eq!((completeness.requested, completeness.returned), (10, 1));
        assert_eq!(completeness.reason(), proto::completeness::Reason::IndexExhausted);
        assert_eq!(short.unknown_video_ids, [9]);
        assert_eq!((short.generation, short.sequence), (3, 12));
        let stats = short.stats.unwrap();
        assert_eq!(stats.plan(), proto::Plan::ExactScan);
        assert_eq!(stats.elapsed, Some(prost_types::Duration { seconds: 0, nanos: 3000 }));
        let complete = decoded(complete, false);
        assert_eq!(complete.completeness.unwrap().reason(), proto::completeness::Reason::Complete);
        assert_eq!(complete.stats, None);
        let next = PageToken::new(5, vec![3]);
        assert_eq!(complete.next_page_token, next.text());
    }
}
