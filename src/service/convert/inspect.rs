//! What people look at, to the wire.

use std::time::Duration;

use super::scalar::{duration, timestamp};
use super::status::{gate_report, wire_dtype, wire_metric};
use crate::attributes::Value;
use crate::base::text::shortened;
use crate::engine::inspect::{Axes, CatalogMap, GenerationInfo, ValueCount};
use crate::index::{PublishReason, RecallCurve, RecallCurves};
use crate::service::proto;

/// Converts a generation in the folder of an index.
pub(crate) fn generation(info: GenerationInfo) -> proto::Generation {
    let reason = match info.manifest.as_ref().map(|manifest| manifest.reason) {
        None => "",
        Some(PublishReason::Build) => "build",
        Some(PublishReason::Activate) => "activate",
    };
    let build_ms = info.manifest.as_ref().map_or(0, |manifest| manifest.build_ms);
    let millis = |ms| duration(Duration::from_millis(ms));
    let phase = |(name, ms)| proto::BuildPhase { name, time: Some(millis(ms)) };
    let generation = proto::Generation {
        generation: info.generation,
        serves: info.serves,
        created_at: info.created_at.map(timestamp),
        reason: reason.to_owned(),
        build_time: (build_ms > 0).then(|| millis(build_ms)),
        phases: info.phases.into_iter().map(phase).collect(),
        ..proto::Generation::default()
    };
    let contents = match info.contents {
        Ok(contents) => contents,
        Err(problem) => return proto::Generation { problem, ..generation },
    };
    let facts = contents.metadata;
    proto::Generation {
        vectors: u64::from(facts.rows),
        dim: facts.dim,
        dtype: wire_dtype(facts.dtype).into(),
        metric: wire_metric(facts.metric).into(),
        codes: facts.codes.name().to_owned(),
        builder: facts.build.builder,
        m: facts.m,
        ef_construction: facts.build.ef_construction,
        bytes: contents.bytes,
        embedding_model: facts.embedding_model.unwrap_or_default(),
        log_sequence: facts.log_sequence,
        gate: contents.gate.map(gate_report),
        curves: contents.curves.map(curves).unwrap_or_default(),
        ..generation
    }
}

/// Describes indexes of these states, for callers.
pub(crate) fn descriptions(
    indexes: Vec<proto::IndexStatus>,
    aliases: Vec<proto::Alias>,
) -> proto::ListIndexesResponse {
    let attribute =
        |proto::AttributeSchema { name, kind }: proto::AttributeSchema| proto::IndexAttribute { name, kind };
    let description = |index: proto::IndexStatus| proto::IndexDescription {
        name: index.name,
        dim: index.dim,
        metric: index.metric,
        embedding_model: index.embedding_model,
        has_text_ids: index.has_text_ids,
        attributes: index.attributes.into_iter().map(attribute).collect(),
    };
    proto::ListIndexesResponse { indexes: indexes.into_iter().map(description).collect(), aliases }
}

fn curves(RecallCurves { queries, curves, .. }: RecallCurves) -> Vec<proto::RecallCurve> {
    let curve = |RecallCurve { k, points }: RecallCurve| {
        let all = (f64::from(queries) * f64::from(k)).max(1.0);
        let points = points
            .into_iter()
            .map(|point| proto::RecallPoint { ef_search: point.ef_search, recall: point.found as f64 / all });
        proto::RecallCurve { k, points: points.collect() }
    };
    curves.into_iter().map(curve).collect()
}

/// Converts a picture of an index. `is_colored`: whether an attribute was asked for.
pub(crate) fn map(map: CatalogMap, is_colored: bool) -> proto::GetMapResponse {
    let CatalogMap { generation, axes: Axes { mean, first, second }, points } = map;
    let has_texts = points.iter().any(|point| point.text_id.is_some());
    let text_ids = points.iter().map(|point| point.text_id.clone().unwrap_or_default());
    proto::GetMapResponse {
        generation,
        x: points.iter().map(|point| point.place.0).collect(),
        y: points.iter().map(|point| point.place.1).collect(),
        video_ids: points.iter().map(|point| point.video_id.0).collect(),
        text_ids: if has_texts { text_ids.collect() } else { Vec::new() },
        colors: match is_colored {
            true => points.iter().map(|point| point.color.as_ref().map(text).unwrap_or_default()).collect(),
            false => Vec::new(),
        },
        axes: Some(proto::Axes { mean, first, second }),
    }
}

/// The bytes of a value that colors a video. Longer ones are cut.
const MAX_COLOR_BYTES: usize = 100;

/// A value as text; the first of a list.
fn text(value: &Value) -> String {
    match value {
        Value::Keyword(word) => shortened(word, MAX_COLOR_BYTES),
        Value::KeywordList(words) => {
            words.first().map(|word| shortened(word, MAX_COLOR_BYTES)).unwrap_or_default()
        }
        Value::Int64(value) => value.to_string(),
        Value::Uint64(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Timestamp(at) => at.to_string(),
    }
}

/// Returns the vectors of users.
pub(crate) fn users(users: Vec<Vec<f32>>) -> Vec<proto::Vector> {
    users.into_iter().map(|values| proto::Vector { values, packed: None }).collect()
}

/// Converts values of an attribute.
pub(crate) fn values(values: Vec<ValueCount>) -> Vec<proto::AttributeValueCount> {
    let value = |count: ValueCount| proto::AttributeValueCount { value: count.value, videos: count.videos };
    values.into_iter().map(value).collect()
}

/// A limit of a request: `default` if it has none.
///
/// # Errors
/// What was expected and found, if it is above `most`.
pub(crate) fn limit(found: u32, default: u32, most: u32) -> Result<usize, String> {
    match found {
        0 => Ok(default as usize),
        found if found <= most => Ok(found as usize),
        found => Err(format!("expected at most {most}, found {found}")),
    }
}
