//! proto ↔ domain.
//!
//! What flows in: messages that any client may have put together. What flows out: requests in domain
//! words, or the path of the field that cannot be used. Only what the domain types cannot express is
//! refused here; ranges, dimensions and names are the engine's to check.

use half::f16;
use jiff::Timestamp;

use super::proto;
use crate::attributes::Value;
use crate::element::Dtype;
use crate::engine::{self, EngineError};
use crate::id::VideoId;
use crate::index::{AttributeKind, AttributeSchema, MemoryMode};
use crate::metric::Metric;

/// # Errors
/// [`EngineError::InvalidArgument`] with the path of the field, as in the proto.
pub(super) fn search_request(request: proto::SearchRequest) -> Result<engine::SearchRequest, EngineError> {
    let proto::SearchRequest { index, query, k, params, return_attributes, embedding_model, .. } = request;
    let proto::SearchParams { effort: told, plan: forced } = params.unwrap_or_default();
    Ok(engine::SearchRequest {
        index,
        query: match query {
            Some(proto::search_request::Query::Vector(vector)) => {
                engine::Query::Vector(vector_values(vector)?)
            }
            Some(proto::search_request::Query::Seeds(seeds)) => engine::Query::Seeds(query_seeds(seeds)),
            Some(proto::search_request::Query::Interests(_)) | None => {
                return Err(EngineError::invalid("query", "is required: expected vector or seeds"));
            }
        },
        k: k as usize,
        effort: effort(told),
        plan: plan(forced)?,
        return_attributes: if return_attributes.iter().any(|name| name == "*") {
            engine::ReturnAttributes::All
        } else if return_attributes.is_empty() {
            engine::ReturnAttributes::None
        } else {
            engine::ReturnAttributes::Named(return_attributes)
        },
        embedding_model: Some(embedding_model).filter(|model| !model.is_empty()),
    })
}

fn vector_values(vector: proto::Vector) -> Result<Vec<f32>, EngineError> {
    match (vector.values, vector.packed) {
        (values, None) => Ok(values),
        (values, Some(packed)) if values.is_empty() => packed_values(&packed),
        (_, Some(_)) => {
            Err(EngineError::invalid("query.vector", "has both values and packed: expected one of them"))
        }
    }
}

fn packed_values(packed: &proto::PackedVector) -> Result<Vec<f32>, EngineError> {
    let dtype = match proto::Dtype::try_from(packed.dtype) {
        Ok(proto::Dtype::F32) => Dtype::F32,
        Ok(proto::Dtype::F16) => Dtype::F16,
        Ok(proto::Dtype::Unspecified) | Err(_) => {
            let problem = format!("expected DTYPE_F32 (1) or DTYPE_F16 (2), found {}", packed.dtype);
            return Err(EngineError::invalid("query.vector.packed.dtype", problem));
        }
    };
    let bytes = packed.data.len();
    if !bytes.is_multiple_of(dtype.bytes()) {
        let problem = format!("expected a multiple of {} bytes for {dtype}, found {bytes}", dtype.bytes());
        return Err(EngineError::invalid("query.vector.packed.data", problem));
    }
    // The bytes of a message are not aligned, so they are not cast.
    Ok(match dtype {
        Dtype::F32 => packed.data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => {
            packed.data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
        }
    })
}

fn query_seeds(seeds: proto::Seeds) -> Vec<engine::Seed> {
    let seed = |seed: proto::Seed| engine::Seed {
        video_id: VideoId(seed.video_id),
        weight: seed.weight.unwrap_or(1.0),
    };
    seeds.seeds.into_iter().map(seed).collect()
}

fn effort(effort: Option<proto::search_params::Effort>) -> engine::Effort {
    use proto::search_params::Effort;
    match effort {
        Some(Effort::EfSearch(ef_search)) => engine::Effort::EfSearch(ef_search as usize),
        Some(Effort::TargetRecall(recall)) => engine::Effort::TargetRecall(recall),
        Some(Effort::Exact(true)) => engine::Effort::Exact,
        Some(Effort::Exact(false)) | None => engine::Effort::Default,
    }
}

fn plan(forced: i32) -> Result<Option<engine::Plan>, EngineError> {
    Ok(match proto::Plan::try_from(forced) {
        Ok(proto::Plan::Unspecified) => None,
        Ok(proto::Plan::Graph) => Some(engine::Plan::Graph),
        Ok(proto::Plan::CodeScan) => Some(engine::Plan::CodeScan),
        Ok(proto::Plan::ExactScan) => Some(engine::Plan::ExactScan),
        Ok(proto::Plan::FilteredGraph | proto::Plan::MatchScan | proto::Plan::BlockScan) | Err(_) => {
            let problem = format!("expected a plan by its number, found {forced}");
            return Err(EngineError::invalid("params.plan", problem));
        }
    })
}

/// The answer, with what it cost if that was asked for.
pub(super) fn search_response(response: engine::SearchResponse, with_stats: bool) -> proto::SearchResponse {
    use proto::completeness::Reason;
    let returned = response.candidates.len();
    let reason = if returned < response.requested { Reason::IndexExhausted } else { Reason::Complete };
    proto::SearchResponse {
        candidates: response.candidates.into_iter().map(candidate).collect(),
        completeness: Some(proto::Completeness {
            requested: saturate(response.requested),
            returned: saturate(returned),
            reason: reason.into(),
        }),
        generation: response.generation,
        stats: with_stats.then(|| search_stats(&response.stats)),
        unknown_video_ids: response.unknown_seeds.into_iter().map(|VideoId(id)| id).collect(),
    }
}

fn candidate(candidate: engine::Candidate) -> proto::Candidate {
    let attribute = |(name, value)| (name, attribute_value(value));
    proto::Candidate {
        video_id: candidate.video_id.0,
        score: candidate.score,
        interest: None,
        vector: None,
        attributes: candidate.attributes.into_iter().map(attribute).collect(),
    }
}

fn search_stats(stats: &engine::SearchStats) -> proto::SearchStats {
    let plan = match stats.plan {
        engine::Plan::Graph => proto::Plan::Graph,
        engine::Plan::CodeScan => proto::Plan::CodeScan,
        engine::Plan::ExactScan => proto::Plan::ExactScan,
        engine::Plan::FilteredGraph => proto::Plan::FilteredGraph,
        engine::Plan::MatchScan => proto::Plan::MatchScan,
        engine::Plan::BlockScan => proto::Plan::BlockScan,
    };
    proto::SearchStats {
        plan: plan.into(),
        ef_search: saturate(stats.ef_search),
        measured_recall: stats.measured_recall.map(|recall| recall as f32),
        visited: stats.visited,
        distances: stats.distances,
        elapsed: Some(duration(stats.elapsed)),
        estimated_matches: None,
    }
}

fn attribute_value(value: Value) -> proto::AttributeValue {
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

/// The state of an index, for operators.
pub(super) fn index_status(status: engine::IndexStatus) -> proto::IndexStatus {
    let dtype = match status.dtype {
        Dtype::F32 => proto::Dtype::F32,
        Dtype::F16 => proto::Dtype::F16,
    };
    let metric = match status.metric {
        Metric::InnerProduct => proto::Metric::Ip,
        Metric::Cosine => proto::Metric::Cosine,
        Metric::L2 => proto::Metric::L2,
    };
    let memory = match status.memory {
        MemoryMode::Mapped => proto::MemoryMode::Mapped,
        MemoryMode::Resident => proto::MemoryMode::Resident,
    };
    proto::IndexStatus {
        name: status.name,
        dir: status.dir.display().to_string(),
        generation: status.generation,
        manifest: status.manifest,
        published_at: Some(timestamp(status.published_at)),
        available_generations: status.available_generations,
        vectors: status.vectors,
        dim: status.dim,
        dtype: dtype.into(),
        metric: metric.into(),
        builder: status.builder,
        m: status.m,
        ef_construction: status.ef_construction,
        bytes: status.bytes,
        build_time: Some(duration(status.build_time)),
        embedding_model: status.embedding_model.unwrap_or_default(),
        attributes: status.attributes.into_iter().map(attribute_schema).collect(),
        refused: status.refused.unwrap_or_default(),
        memory: memory.into(),
        serving: status.serving,
        calibration: status.calibration.into_iter().map(calibration).collect(),
    }
}

fn calibration((k, max_recall): (usize, f64)) -> proto::Calibration {
    proto::Calibration { k: saturate(k), max_recall: max_recall as f32 }
}

fn attribute_schema(schema: AttributeSchema) -> proto::AttributeSchema {
    let kind = match schema.kind {
        AttributeKind::Keyword => proto::AttributeKind::Keyword,
        AttributeKind::KeywordList => proto::AttributeKind::KeywordList,
        AttributeKind::Int64 => proto::AttributeKind::Int64,
        AttributeKind::Uint64 => proto::AttributeKind::Uint64,
        AttributeKind::Double => proto::AttributeKind::Double,
        AttributeKind::Bool => proto::AttributeKind::Bool,
        AttributeKind::Timestamp => proto::AttributeKind::Timestamp,
    };
    proto::AttributeSchema { name: schema.name, kind: kind.into() }
}

/// The proto wants nanoseconds that count forward, also before 1970.
fn timestamp(timestamp: Timestamp) -> prost_types::Timestamp {
    const NANOS_PER_SECOND: i128 = 1_000_000_000;
    let nanos = timestamp.as_nanosecond();
    prost_types::Timestamp {
        seconds: nanos.div_euclid(NANOS_PER_SECOND) as i64,
        nanos: nanos.rem_euclid(NANOS_PER_SECOND) as i32,
    }
}

fn duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

fn saturate(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(query: proto::search_request::Query) -> proto::SearchRequest {
        proto::SearchRequest { query: Some(query), k: 10, ..Default::default() }
    }

    fn vector(vector: proto::Vector) -> Result<Vec<f32>, EngineError> {
        let request = search_request(request(proto::search_request::Query::Vector(vector)))?;
        match request.query {
            engine::Query::Vector(values) => Ok(values),
            engine::Query::Seeds(_) => panic!("a vector became seeds"),
        }
    }

    fn packed(data: Vec<u8>, dtype: i32) -> proto::Vector {
        proto::Vector { values: Vec::new(), packed: Some(proto::PackedVector { data, dtype }) }
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, EngineError>) -> (String, String) {
        match result {
            Err(EngineError::InvalidArgument { field, problem }) => (field, problem),
            other => panic!("expected an invalid argument, found {other:?}"),
        }
    }

    #[test]
    fn packed_vectors_equal_repeated_floats() {
        let values = vec![0.5f32, -1.25, 3.0, 0.0];
        let f32_bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let f16_bytes = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        let repeated = proto::Vector { values: values.clone(), packed: None };
        assert_eq!(vector(repeated).unwrap(), values);
        assert_eq!(vector(packed(f32_bytes, 1)).unwrap(), values);
        assert_eq!(vector(packed(f16_bytes, 2)).unwrap(), values);
    }

    #[test]
    fn refuses_vectors_that_are_ambiguous_or_malformed() {
        let both = proto::Vector { values: vec![1.0], ..packed(vec![0; 4], 1) };
        assert_eq!(refused(vector(both)).0, "query.vector");
        for dtype in [0, 3, -1] {
            let (field, problem) = refused(vector(packed(vec![0; 4], dtype)));
            assert_eq!(field, "query.vector.packed.dtype");
            assert_eq!(problem, format!("expected DTYPE_F32 (1) or DTYPE_F16 (2), found {dtype}"));
        }
        let (field, problem) = refused(vector(packed(vec![0; 6], 1)));
        assert_eq!(field, "query.vector.packed.data");
        assert_eq!(problem, "expected a multiple of 4 bytes for f32, found 6");
    }

    #[test]
    fn refuses_a_request_without_query() {
        let without = proto::SearchRequest { k: 10, ..Default::default() };
        assert_eq!(refused(search_request(without)).0, "query");
    }

    #[test]
    fn a_seed_weighs_one_unless_told() {
        let seeds = vec![
            proto::Seed { video_id: u64::MAX, weight: None },
            proto::Seed { video_id: 7, weight: Some(0.0) },
        ];
        let converted =
            search_request(request(proto::search_request::Query::Seeds(proto::Seeds { seeds }))).unwrap();
        let engine::Query::Seeds(seeds) = converted.query else { panic!("seeds became a vector") };
        assert_eq!((seeds[0].video_id, seeds[0].weight), (VideoId(u64::MAX), 1.0));
        assert_eq!((seeds[1].video_id, seeds[1].weight), (VideoId(7), 0.0));
    }

    #[test]
    fn effort_is_the_servers_choice_unless_told() {
        use proto::search_params::Effort;
        assert_eq!(effort(None), engine::Effort::Default);
        assert_eq!(effort(Some(Effort::Exact(false))), engine::Effort::Default);
        assert_eq!(effort(Some(Effort::Exact(true))), engine::Effort::Exact);
        assert_eq!(effort(Some(Effort::EfSearch(64))), engine::Effort::EfSearch(64));
        assert_eq!(effort(Some(Effort::TargetRecall(0.9))), engine::Effort::TargetRecall(0.9));
    }

    #[test]
    fn attributes_are_all_named_or_none() {
        let of = |names: &[&str]| {
            let mut request = request(proto::search_request::Query::Vector(proto::Vector {
                values: vec![1.0],
                packed: None,
            }));
            request.return_attributes = names.iter().map(|name| (*name).to_owned()).collect();
            search_request(request).unwrap().return_attributes
        };
        assert_eq!(of(&[]), engine::ReturnAttributes::None);
        assert_eq!(of(&["*"]), engine::ReturnAttributes::All);
        assert_eq!(of(&["title", "*"]), engine::ReturnAttributes::All);
        assert_eq!(of(&["title"]), engine::ReturnAttributes::Named(vec!["title".into()]));
    }

    #[test]
    fn a_short_answer_says_why() {
        let stats = engine::SearchStats {
            plan: engine::Plan::ExactScan,
            ef_search: 0,
            measured_recall: None,
            visited: 0,
            distances: 1,
            elapsed: Duration::from_micros(3),
        };
        let response = engine::SearchResponse {
            candidates: vec![engine::Candidate {
                video_id: VideoId(5),
                score: 1.5,
                attributes: vec![("title".into(), Value::Keyword("cats".into()))],
            }],
            requested: 10,
            unknown_seeds: vec![VideoId(9)],
            generation: 3,
            stats,
        };
        let complete = engine::SearchResponse { requested: 1, ..response.clone() };
        let short = search_response(response, true);
        let completeness = short.completeness.unwrap();
        assert_eq!((completeness.requested, completeness.returned), (10, 1));
        assert_eq!(completeness.reason(), proto::completeness::Reason::IndexExhausted);
        assert_eq!(short.unknown_video_ids, [9]);
        let stats = short.stats.unwrap();
        assert_eq!(stats.plan(), proto::Plan::ExactScan);
        assert_eq!(stats.elapsed, Some(prost_types::Duration { seconds: 0, nanos: 3000 }));
        let complete = search_response(complete, false);
        assert_eq!(complete.completeness.unwrap().reason(), proto::completeness::Reason::Complete);
        assert_eq!(complete.stats, None);
    }

    #[test]
    fn times_before_1970_count_forward() {
        let just_before = Timestamp::from_microsecond(-1).unwrap();
        assert_eq!(timestamp(just_before), prost_types::Timestamp { seconds: -1, nanos: 999_999_000 });
        let after = Timestamp::from_microsecond(1_500_000).unwrap();
        assert_eq!(timestamp(after), prost_types::Timestamp { seconds: 1, nanos: 500_000_000 });
    }
}
