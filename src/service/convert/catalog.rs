//! Writes from the wire, and their answers.
//!
//! Only the valid items of a batch go to the engine. Items that are invalid, or that the engine refuses, are reported by
//! their position in the request.

use std::collections::{BTreeMap, BTreeSet};

use super::bound::instant;
use super::embeddings::{Single, divide};
use super::ids::{id, ids};
use super::path::Path;
use super::request::vector_values;
use super::scalar::saturate;
use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::base::instant::Instant;
use crate::dataset::ID_COLUMN;
use crate::engine::{EngineError, Field, WriteMode, Written};
use crate::live::{Mutation, Upsert};
use crate::service::aliases::Target;
use crate::service::error::{CallError, InvalidField};
use crate::service::proto;

/// Maximum number of attributes of one video.
const MAX_ATTRIBUTES: usize = 1000;
/// Maximum length of the name of an attribute or a model, in bytes. Errors quote names, and are sent as headers.
const MAX_NAME_BYTES: usize = 1000;
/// The field of the embeddings of several models.
const VECTORS: &str = "vectors";
/// The field of ids as text.
pub(super) const TEXT_IDS: &str = "text_ids";

/// The valid mutations of one request, and the errors of the other items.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The name of the index.
    pub(crate) index: String,
    pub(crate) mode: WriteMode,
    /// The valid mutations.
    pub(crate) mutations: Vec<Mutation>,
    /// The refused items.
    pub(crate) outcome: Outcome,
    /// The first field that has an id as text.
    pub(crate) text_field: Option<String>,
}

/// The refused items of a request, by their positions in it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The repeated field that contains the items.
    pub(crate) items: &'static str,
    /// The position of each valid mutation in the request.
    positions: Vec<usize>,
    /// The position of each refused item and its error, ascending. The field paths of the errors start at the item.
    pub(crate) refused: Vec<(usize, CallError)>,
    /// The model of each video whose embedding was one of several, by its position in the request.
    models: BTreeMap<usize, String>,
}

impl Outcome {
    fn new(items: &'static str) -> Self {
        Self { items, positions: Vec::new(), refused: Vec::new(), models: BTreeMap::new() }
    }

    /// Adds the items that the engine refused, by their positions among the mutations.
    pub(crate) fn add(&mut self, refused: Vec<(usize, EngineError)>) {
        let in_request: Vec<(usize, CallError)> =
            refused.into_iter().filter_map(|refused| self.of_engine(refused)).collect();
        self.refused.extend(in_request);
        self.refused.sort_by_key(|(position, _)| *position);
    }

    /// The position in the request, and the error, of the first item that an engine would refuse.
    pub(crate) fn of_engine(&self, (position, error): (usize, EngineError)) -> Option<(usize, CallError)> {
        let position = *self.positions.get(position)?;
        Some((position, named(error, self.models.get(&position))))
    }

    /// Returns the path of an item, as a prefix for fields within it.
    pub(crate) fn path(&self, position: usize) -> String {
        format!("{}[{position}].", self.items)
    }
}

/// Names the embedding that an error is about, if it was one of several: that of this model.
fn named(error: EngineError, model: Option<&String>) -> CallError {
    match (error, model) {
        (EngineError::InvalidArgument { field: Field::Vector, problem }, Some(model)) => {
            Path::root(VECTORS).key(model).invalid(problem).into()
        }
        (error, _) => error.into(),
    }
}

/// The videos of an upsert, for each index that it goes to.
#[derive(Debug)]
pub(crate) struct Upserts {
    /// One for each index.
    pub(crate) batches: Vec<Batch>,
    /// Models of embeddings that no index takes.
    pub(crate) unused_models: Vec<String>,
}

/// Reads the videos of a request to these indexes, at least one. In either mode, invalid videos are in the outcome of the index that
/// they are for; of the first one, if of none.
///
/// # Errors
/// If there are more than `max_writes` videos.
pub(crate) fn upserts(
    request: proto::UpsertRequest,
    targets: &[Target],
    max_writes: usize,
) -> Result<Upserts, InvalidField> {
    let proto::UpsertRequest { index: _, videos, partial } = request;
    let items = "videos";
    check_count(items, videos.len(), max_writes)?;
    let mode = if partial { WriteMode::EachAlone } else { WriteMode::AllOrNothing };
    let batch = |target: &Target| Batch {
        index: target.index.clone(),
        mode,
        mutations: Vec::with_capacity(videos.len()),
        outcome: Outcome::new(items),
        text_field: None,
    };
    let mut batches: Vec<Batch> = targets.iter().map(batch).collect();
    let mut unused = BTreeSet::new();
    for (position, video) in videos.into_iter().enumerate() {
        let singles = match divide(video, targets, &mut unused) {
            Ok(singles) => singles,
            Err(error) => {
                batches[0].outcome.refused.push((position, error.into()));
                continue;
            }
        };
        for Single { target, video, is_named } in singles {
            let Batch { mutations, outcome, text_field, .. } = &mut batches[target];
            if text_field.is_none() && !video.text_id.is_empty() {
                *text_field = Some(format!("{}text_id", outcome.path(position)));
            }
            let model = is_named.then(|| video.embedding_model.clone());
            match upsert(video, model.as_deref()) {
                Ok(upsert) => {
                    mutations.push(Mutation::Upsert(upsert));
                    outcome.positions.push(position);
                    outcome.models.extend(model.map(|model| (position, model)));
                }
                Err(error) => outcome.refused.push((position, error.into())),
            }
        }
    }
    Ok(Upserts { batches, unused_models: unused.into_iter().collect() })
}

/// Creates one mutation per id.
///
/// # Errors
/// If there are more than `max_writes` ids, both kinds of ids, or an id that is no text id.
pub(crate) fn batch_of_ids(
    index: String,
    video_ids: Vec<u64>,
    text_ids: &[String],
    max_writes: usize,
    mutation: fn(VideoId) -> Mutation,
) -> Result<Batch, InvalidField> {
    let is_text = !text_ids.is_empty();
    let mut outcome = Outcome::new(if is_text { TEXT_IDS } else { "video_ids" });
    check_count(outcome.items, video_ids.len().max(text_ids.len()), max_writes)?;
    let mutations: Vec<Mutation> = ids(video_ids, text_ids)?.into_iter().map(mutation).collect();
    outcome.positions = (0..mutations.len()).collect();
    let text_field = is_text.then(|| TEXT_IDS.to_owned());
    Ok(Batch { index, mode: WriteMode::EachAlone, mutations, outcome, text_field })
}

impl Outcome {
    /// Creates the answer to a batch of which `written` was written. `status` converts an error at a path.
    pub(crate) fn response(
        self,
        written: &Written,
        status: impl Fn(&CallError, &str) -> tonic_types::Status,
    ) -> proto::WriteResponse {
        let error = |(position, error): &(usize, CallError)| proto::WriteError {
            position: saturate(*position),
            status: Some(status(error, &self.path(*position))),
        };
        proto::WriteResponse {
            sequence: written.sequence,
            written: saturate(written.written),
            errors: self.refused.iter().map(error).collect(),
            indexes: Vec::new(),
            unused_models: Vec::new(),
        }
    }
}

pub(super) fn check_count(field: &str, found: usize, max: usize) -> Result<(), InvalidField> {
    if found <= max {
        return Ok(());
    }
    Err(InvalidField::new(field, format!("expected at most {max} videos, found {found}")))
}

/// Reads a video with one embedding, which was one of several if `of_model`.
fn upsert(video: proto::Video, of_model: Option<&str>) -> Result<Upsert, InvalidField> {
    let proto::Video { video_id, vector, attributes, expires_at, embedding_model, text_id, vectors: _ } =
        video;
    let video_id = id(video_id, &text_id, &Path::root("text_id"))?;
    let vectors = Path::root(VECTORS);
    let path = of_model.map_or(Path::root("vector"), |model| vectors.key(model));
    let vector = vector.ok_or_else(|| path.invalid("is required: found none"))?;
    let embedding = vector_values(vector, &path)?;
    if let Some(at) = embedding.iter().position(|value| !value.is_finite()) {
        let found = embedding[at];
        return Err(path.invalid(format!("expected finite components, found {found} as component {at}")));
    }
    let path = Path::root("attributes");
    if attributes.len() > MAX_ATTRIBUTES {
        let found = attributes.len();
        return Err(path.invalid(format!("expected at most {MAX_ATTRIBUTES} attributes, found {found}")));
    }
    let attributes = attributes.into_iter().map(|(name, wire)| {
        check_name(&name, &path)?;
        let value = value(wire, &path.key(&name))?;
        Ok((name, value))
    });
    let mut attributes = attributes.collect::<Result<Vec<_>, InvalidField>>()?;
    if !text_id.is_empty() {
        if attributes.iter().any(|(name, _)| name == ID_COLUMN) {
            return Err(path.key(ID_COLUMN).invalid("expected no attribute of this name with text_id"));
        }
        attributes.push((ID_COLUMN.to_owned(), Value::Keyword(text_id)));
    }
    check_name(&embedding_model, &Path::root("embedding_model"))?;
    let expires_at = expires_at.map(|at| microseconds(&at, &Path::root("expires_at"))).transpose()?;
    Ok(Upsert {
        video_id,
        embedding,
        attributes,
        expires_at,
        embedding_model: Some(embedding_model).filter(|model| !model.is_empty()),
    })
}

fn check_name(name: &str, path: &Path<'_>) -> Result<(), InvalidField> {
    if name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let found = name.len();
    Err(path.invalid(format!("expected a name of at most {MAX_NAME_BYTES} bytes, found one of {found}")))
}

fn value(wire: proto::AttributeValue, path: &Path<'_>) -> Result<Value, InvalidField> {
    use proto::attribute_value::Value as Wire;
    Ok(match wire.value {
        None => return Err(path.invalid("expected a value, found none")),
        Some(Wire::Keyword(word)) => Value::Keyword(word),
        Some(Wire::KeywordList(list)) => Value::KeywordList(list.values),
        Some(Wire::Int64(value)) => Value::Int64(value),
        Some(Wire::Uint64(value)) => Value::Uint64(value),
        Some(Wire::Double(value)) => Value::Double(value),
        Some(Wire::Bool(value)) => Value::Bool(value),
        Some(Wire::Timestamp(at)) => Value::Timestamp(microseconds(&at, &path.field("timestamp"))?),
    })
}

/// Reads a point in time and rounds it down to the microsecond, the precision of an index.
fn microseconds(wire: &prost_types::Timestamp, path: &Path<'_>) -> Result<Instant, InvalidField> {
    let finer = instant(wire, path)?;
    Instant::from_microsecond(finer.as_microsecond()).map_err(|error| path.invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: i32) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos }
    }

    fn video(video_id: u64) -> proto::Video {
        let vector = Some(proto::Vector { values: vec![0.5, -1.0], packed: None });
        proto::Video { video_id, vector, ..Default::default() }
    }

    fn with_attribute(name: &str, value: Option<proto::attribute_value::Value>) -> proto::Video {
        let attributes = [(name.to_owned(), proto::AttributeValue { value })].into();
        proto::Video { attributes, ..video(1) }
    }

    fn refused(video: proto::Video) -> (String, String) {
        match upsert(video) {
            Err(InvalidField { path, problem }) => (path, problem),
            other => panic!("expected an invalid argument, found {other:?}"),
        }
    }

    fn upsert(video: proto::Video) -> Result<Upsert, InvalidField> {
        super::upsert(video, None)
    }

    fn upsert_batch(request: proto::UpsertRequest, max_writes: usize) -> Result<Batch, InvalidField> {
        let target = Target { index: request.index.clone(), model: None };
        Ok(upserts(request, &[target], max_writes)?.batches.remove(0))
    }

    fn batch(videos: Vec<proto::Video>, partial: bool) -> Batch {
        upsert_batch(proto::UpsertRequest { index: "a".into(), videos, partial }, 10).unwrap()
    }

    #[test]
    fn a_video_keeps_all_that_it_came_with() {
        use proto::attribute_value::Value as Wire;
        let wires = [
            ("keyword", Wire::Keyword("cats".into()), Value::Keyword("cats".into())),
            (
                "list",
                Wire::KeywordList(proto::KeywordList { values: vec!["b".into(), "a".into()] }),
                Value::KeywordList(vec!["b".into(), "a".into()]),
            ),
            ("int64", Wire::Int64(i64::MIN), Value::Int64(i64::MIN)),
            ("uint64", Wire::Uint64(u64::MAX), Value::Uint64(u64::MAX)),
            ("double", Wire::Double(-0.5), Value::Double(-0.5)),
            ("bool", Wire::Bool(false), Value::Bool(false)),
            (
                "timestamp",
                Wire::Timestamp(at(-1, 999_999_999)),
                Value::Timestamp(Instant::from_microsecond(-1).unwrap()),
            ),
        ];
        for (name, wire, expected) in wires {
            let upsert = upsert(with_attribute(name, Some(wire))).unwrap();
            assert_eq!(upsert.attributes, [(name.to_owned(), expected)]);
        }
        let expires_at = Some(at(7, 1999));
        let converted =
            upsert(proto::Video { expires_at, embedding_model: "towers".into(), ..video(u64::MAX) }).unwrap();
        let expected = Upsert {
            video_id: VideoId(u64::MAX),
            embedding: vec![0.5, -1.0],
            attributes: Vec::new(),
            expires_at: Some(Instant::from_microsecond(7_000_001).unwrap()),
            embedding_model: Some("towers".into()),
        };
        assert_eq!(converted, expected);
        assert_eq!(upsert(video(1)).unwrap().embedding_model, None);
    }

    #[test]
    fn what_cannot_be_used_is_named_within_its_video() {
        use proto::attribute_value::Value as Wire;
        let vector = |vector| refused(proto::Video { vector, ..video(1) });
        assert_eq!(vector(None), ("vector".into(), "is required: found none".into()));
        let packed = Some(proto::PackedVector { data: vec![0; 3], dtype: 1 });
        assert_eq!(vector(Some(proto::Vector { values: Vec::new(), packed })).0, "vector.packed.data");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let problem = format!("expected finite components, found {value} as component 1");
            let values = proto::Vector { values: vec![1.0, value], packed: None };
            assert_eq!(vector(Some(values)), ("vector".into(), problem));
        }
        let none = ("attributes[\"a \\\"b\\\"\"]".to_owned(), "expected a value, found none".to_owned());
        assert_eq!(refused(with_attribute("a \"b\"", None)), none);
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000), (0, i32::MIN)] {
            let wrong = at(seconds, nanos);
            let attribute = with_attribute("published_at", Some(Wire::Timestamp(wrong)));
            assert_eq!(refused(attribute).0, "attributes[\"published_at\"].timestamp");
            let (field, problem) = refused(proto::Video { expires_at: Some(wrong), ..video(1) });
            assert_eq!(field, "expires_at");
            assert!(seconds != 0 || problem.ends_with(&format!("found {nanos}")), "{problem}");
        }
    }

    #[test]
    fn names_and_their_number_are_bounded() {
        use proto::attribute_value::Value as Wire;
        let named = |bytes| with_attribute(&"x".repeat(bytes), Some(Wire::Bool(true)));
        assert!(upsert(named(MAX_NAME_BYTES)).is_ok());
        let problem = "expected a name of at most 1000 bytes, found one of 1001".to_owned();
        assert_eq!(refused(named(MAX_NAME_BYTES + 1)), ("attributes".into(), problem.clone()));
        let of_model = proto::Video { embedding_model: "x".repeat(MAX_NAME_BYTES + 1), ..video(1) };
        assert_eq!(refused(of_model), ("embedding_model".into(), problem));
        let value = proto::AttributeValue { value: Some(Wire::Bool(true)) };
        let attributes = |count: usize| {
            let attributes = (0..count).map(|at| (at.to_string(), value.clone())).collect();
            proto::Video { attributes, ..video(1) }
        };
        assert!(upsert(attributes(MAX_ATTRIBUTES)).is_ok());
        let problem = "expected at most 1000 attributes, found 1001".to_owned();
        assert_eq!(refused(attributes(MAX_ATTRIBUTES + 1)), ("attributes".into(), problem));
    }

    #[test]
    fn what_is_refused_keeps_its_position_in_the_request() {
        let bad = |video_id| proto::Video { vector: None, ..video(video_id) };
        let Batch { index, mode, mutations, mut outcome, .. } =
            batch(vec![bad(0), video(1), video(2), bad(3), video(4)], true);
        assert_eq!((index.as_str(), mode), ("a", WriteMode::EachAlone));
        let sound: Vec<u64> = mutations.iter().map(|mutation| mutation.video_id().0).collect();
        assert_eq!(sound, [1, 2, 4]);
        // The engine counts positions among the mutations that it was given.
        outcome.add(vec![(1, EngineError::invalid(Field::Attributes, "of another type"))]);
        let written = Written { sequence: 9, written: 2, refused: Vec::new(), append: None };
        let response = outcome.response(&written, |error, path| tonic_types::Status {
            message: format!("{path}{error}"),
            ..Default::default()
        });
        assert_eq!((response.sequence, response.written), (9, 2));
        let errors: Vec<(u32, String)> = response
            .errors
            .into_iter()
            .map(|error| (error.position, error.status.unwrap().message))
            .collect();
        let expected = [
            (0, "videos[0].vector: is required: found none"),
            (2, "videos[2].attributes: of another type"),
            (3, "videos[3].vector: is required: found none"),
        ];
        assert_eq!(errors, expected.map(|(position, message)| (position, message.to_owned())));
    }

    #[test]
    fn a_batch_is_written_whole_by_default() {
        assert_eq!(batch(vec![video(1)], false).mode, WriteMode::AllOrNothing);
        assert!(batch(Vec::new(), false).mutations.is_empty());
    }

    #[test]
    fn batches_are_bounded() {
        let videos = |count| proto::UpsertRequest { videos: vec![video(1); count], ..Default::default() };
        assert!(upsert_batch(videos(2), 2).is_ok());
        let error = upsert_batch(videos(3), 2).unwrap_err();
        assert_eq!(error.to_string(), "videos: expected at most 2 videos, found 3");
        assert!(batch_of_ids(String::new(), vec![1; 2], &[], 2, Mutation::Delete).is_ok());
        let error = batch_of_ids(String::new(), vec![1; 3], &[], 2, Mutation::Delete).unwrap_err();
        assert_eq!(error.to_string(), "video_ids: expected at most 2 videos, found 3");
    }
}
