//! Search requests, from the wire.

use std::collections::HashSet;

use half::f16;

use super::ids::id;
use super::path::Path;
use super::plan::plan_from_proto;
use super::rules::{WireRules, rules};
use crate::base::element::Dtype;
use crate::engine;
use crate::service::error::InvalidField;
use crate::service::page_token::PageToken;
use crate::service::proto;

/// Reads a search request.
///
/// # Errors
/// [`InvalidField`] with the path of the field in the proto.
pub(crate) fn search_request(request: proto::SearchRequest) -> Result<engine::SearchRequest, InvalidField> {
    let proto::SearchRequest {
        index,
        query,
        k,
        params,
        filter,
        filter_text,
        exclude,
        caps,
        fresh,
        score_threshold,
        offset,
        return_attributes,
        return_vectors,
        return_stats: _,
        embedding_model,
        min_sequence,
        min_coverage,
        page_token,
        score_terms,
        reserve,
        diversity,
    } = request;
    let (offset, generation) = page(offset, &page_token)?;
    if let Some(found) = min_coverage.filter(|share| !(0.0..=1.0).contains(share)) {
        return Err(InvalidField::new("min_coverage", format!("expected 0 to 1, found {found}")));
    }
    let params = params.unwrap_or_default();
    Ok(engine::SearchRequest {
        index,
        query: match query {
            Some(proto::search_request::Query::Vector(vector)) => {
                engine::Query::Vector(vector_values(vector, &Path::root("query").field("vector"))?)
            }
            Some(proto::search_request::Query::Interests(interests)) => {
                engine::Query::Interests(query_interests(interests)?)
            }
            Some(proto::search_request::Query::Seeds(seeds)) => engine::Query::Seeds(query_seeds(seeds)?),
            None => {
                let problem = "is required: expected vector, interests or seeds, found none of them";
                return Err(InvalidField::new("query", problem));
            }
        },
        k: k as usize,
        effort: effort(params.effort),
        effort_k: params.effort_k as usize,
        plan: plan(params.plan)?,
        rules: rules(WireRules {
            filter,
            filter_text,
            exclude,
            caps,
            fresh,
            score_threshold,
            score_terms,
            reserves: reserve,
            diversity,
        })?,
        marks_matches: params.mark_matches,
        offset: offset as usize,
        return_attributes: attributes_to_return(return_attributes)?,
        return_vectors,
        embedding_model: Some(embedding_model).filter(|model| !model.is_empty()),
        min_sequence,
        generation,
    })
}

/// Reads where the page begins, and the generation that it must come from.
///
/// # Errors
/// If the token is malformed, or there is an offset, too.
fn page(offset: u32, token: &str) -> Result<(u32, Option<u64>), InvalidField> {
    if token.is_empty() {
        return Ok((offset, None));
    }
    if offset > 0 {
        return Err(InvalidField::new("offset", format!("expected none with page_token, found {offset}")));
    }
    let PageToken { offset, generations, .. } = PageToken::read(token)?.of_shards(1)?;
    Ok((offset, generations.first().copied().filter(|generation| *generation > 0)))
}

/// Reads the names of the attributes to return, where `*` means all.
///
/// # Errors
/// If a name is there twice: each copy would be returned with every candidate.
pub(super) fn attributes_to_return(names: Vec<String>) -> Result<engine::ReturnAttributes, InvalidField> {
    let mut seen = HashSet::new();
    if let Some(position) = names.iter().position(|name| !seen.insert(name.as_str())) {
        let first = names.iter().position(|name| *name == names[position]).unwrap_or_default();
        let problem =
            format!("expected each name once, found {:?} at position {first} already", names[position]);
        return Err(InvalidField::new(format!("return_attributes[{position}]"), problem));
    }
    Ok(if names.iter().any(|name| name == "*") {
        engine::ReturnAttributes::All
    } else if names.is_empty() {
        engine::ReturnAttributes::None
    } else {
        engine::ReturnAttributes::Named(names)
    })
}

/// Reads an embedding, from either the values or the packed bytes.
pub(super) fn vector_values(vector: proto::Vector, path: &Path<'_>) -> Result<Vec<f32>, InvalidField> {
    match (vector.values, vector.packed) {
        (values, None) => Ok(values),
        (values, Some(packed)) if values.is_empty() => packed_values(&packed, &path.field("packed")),
        (_, Some(_)) => Err(path.invalid("has both values and packed: expected one of them")),
    }
}

/// Reads an embedding of an answer.
///
/// # Errors
/// If it is ambiguous or malformed.
#[cfg(feature = "cluster")]
pub(crate) fn vector_of_answer(vector: proto::Vector) -> Result<Vec<f32>, InvalidField> {
    vector_values(vector, &Path::root("vector"))
}

fn packed_values(packed: &proto::PackedVector, path: &Path<'_>) -> Result<Vec<f32>, InvalidField> {
    let dtype = match proto::Dtype::try_from(packed.dtype) {
        Ok(proto::Dtype::F32) => Dtype::F32,
        Ok(proto::Dtype::F16) => Dtype::F16,
        Ok(proto::Dtype::Unspecified) | Err(_) => {
            let problem = format!("expected DTYPE_F32 (1) or DTYPE_F16 (2), found {}", packed.dtype);
            return Err(path.field("dtype").invalid(problem));
        }
    };
    let bytes = packed.data.len();
    if !bytes.is_multiple_of(dtype.bytes()) {
        let problem = format!("expected a multiple of {} bytes for {dtype}, found {bytes}", dtype.bytes());
        return Err(path.field("data").invalid(problem));
    }
    // The bytes of a message may be unaligned, so they are decoded one component at a time.
    Ok(match dtype {
        Dtype::F32 => packed.data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => {
            packed.data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
        }
    })
}

fn query_interests(interests: proto::Interests) -> Result<Vec<engine::Interest>, InvalidField> {
    let query = Path::root("query");
    let path = query.field("interests");
    let interest = |(position, interest): (usize, proto::Interest)| {
        let path = path.item("interests", position);
        let path = path.field("vector");
        let vector = interest.vector.ok_or_else(|| path.invalid("is required: found none"))?;
        Ok(engine::Interest {
            vector: vector_values(vector, &path)?,
            weight: interest.weight.unwrap_or(1.0),
            min_share: interest.min_share,
        })
    };
    interests.interests.into_iter().enumerate().map(interest).collect()
}

fn query_seeds(seeds: proto::Seeds) -> Result<Vec<engine::Seed>, InvalidField> {
    let query = Path::root("query");
    let path = query.field("seeds");
    let seed = |(position, seed): (usize, proto::Seed)| {
        let path = path.item("seeds", position);
        let video_id = id(seed.video_id, &seed.text_id, &path.field("text_id"))?;
        Ok(engine::Seed { video_id, weight: seed.weight.unwrap_or(1.0) })
    };
    seeds.seeds.into_iter().enumerate().map(seed).collect()
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

fn plan(number: i32) -> Result<Option<engine::Plan>, InvalidField> {
    let plan = proto::Plan::try_from(number).map_err(|_| {
        InvalidField::new("params.plan", format!("expected the number of a plan, found {number}"))
    })?;
    Ok(plan_from_proto(plan))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::VideoId;

    fn request(query: proto::search_request::Query) -> proto::SearchRequest {
        proto::SearchRequest { query: Some(query), k: 10, ..Default::default() }
    }

    fn vector(vector: proto::Vector) -> Result<Vec<f32>, InvalidField> {
        let request = search_request(request(proto::search_request::Query::Vector(vector)))?;
        match request.query {
            engine::Query::Vector(values) => Ok(values),
            other => panic!("a vector became {other:?}"),
        }
    }

    fn packed(data: Vec<u8>, dtype: i32) -> proto::Vector {
        proto::Vector { values: Vec::new(), packed: Some(proto::PackedVector { data, dtype }) }
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, InvalidField>) -> (String, String) {
        match result {
            Err(InvalidField { path, problem }) => (path, problem),
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
    fn a_seed_weighs_one_by_default() {
        let seeds = vec![
            proto::Seed { video_id: u64::MAX, ..Default::default() },
            proto::Seed { video_id: 7, weight: Some(0.0), text_id: String::new() },
        ];
        let converted =
            search_request(request(proto::search_request::Query::Seeds(proto::Seeds { seeds }))).unwrap();
        let engine::Query::Seeds(seeds) = converted.query else { panic!("seeds became a vector") };
        assert_eq!((seeds[0].video_id, seeds[0].weight), (VideoId(u64::MAX), 1.0));
        assert_eq!((seeds[1].video_id, seeds[1].weight), (VideoId(7), 0.0));
    }

    #[test]
    fn an_interest_weighs_one_by_default_and_is_named_by_its_position() {
        let interests = |interests: Vec<proto::Interest>| {
            let interests = proto::Interests { interests };
            search_request(request(proto::search_request::Query::Interests(interests)))
        };
        let of = |vector, weight| proto::Interest { vector: Some(vector), weight, min_share: 0.25 };
        let floats = |values: &[f32]| proto::Vector { values: values.to_vec(), packed: None };
        let f16_bytes = f16::from_f32(2.0).to_le_bytes().to_vec();
        let converted =
            interests(vec![of(floats(&[1.0]), None), of(packed(f16_bytes, 2), Some(0.5))]).unwrap();
        let engine::Query::Interests(found) = converted.query else { panic!("not interests") };
        let interest = |value, weight| engine::Interest { vector: vec![value], weight, min_share: 0.25 };
        assert_eq!(found, [interest(1.0, 1.0), interest(2.0, 0.5)]);

        let without = proto::Interest { vector: None, ..Default::default() };
        let cases = [
            (vec![of(floats(&[1.0]), None), without], "query.interests.interests[1].vector"),
            (vec![of(packed(vec![0; 4], 9), None)], "query.interests.interests[0].vector.packed.dtype"),
            (vec![of(packed(vec![0; 3], 1), None)], "query.interests.interests[0].vector.packed.data"),
            (
                vec![of(proto::Vector { values: vec![1.0], ..packed(vec![0; 4], 1) }, None)],
                "query.interests.interests[0].vector",
            ),
        ];
        for (wrong, field) in cases {
            assert_eq!(refused(interests(wrong)).0, field);
        }
    }

    #[test]
    fn rules_and_offset_are_passed_on() {
        let mut wire = request(proto::search_request::Query::Seeds(proto::Seeds::default()));
        wire.filter = Some(proto::Filter { min_should: Some(3), ..Default::default() });
        wire.caps = vec![proto::Cap { attribute: "creator".into(), max_per_value: 2 }];
        wire.offset = 40;
        wire.return_vectors = true;
        wire.min_sequence = u64::MAX;
        let converted = search_request(wire).unwrap();
        assert_eq!(converted.rules.filter.unwrap().min_should, Some(3));
        let cap = crate::rules::Cap { attribute: "creator".into(), max_per_value: 2 };
        assert_eq!(converted.rules.caps, [cap]);
        assert_eq!((converted.offset, converted.return_vectors), (40, true));
        assert_eq!(converted.min_sequence, u64::MAX);
    }

    #[test]
    fn effort_is_the_servers_choice_by_default() {
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
}
