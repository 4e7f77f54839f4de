//! Builds the dataset of a segment from upserts, or from the videos of other segments.
//!
//! Also checks the embedding and attributes of an upsert against the types of an index.

use std::path::Path;

use half::f16;

use crate::attributes::{Columns, Value, empty_column};
use crate::base::element::{Dtype, Element};
use crate::base::id::{NodeId, VideoId};
use crate::base::instant::Instant;
use crate::base::metric::Metric;
use crate::dataset::{AttributeColumn, ColumnValues, Dataset, EXPIRES_AT, Embeddings, NEVER};
use crate::index::{AttributeKind, AttributeSchema, Index, IndexError, SectionKind};
use crate::kernel::{MAX_NORM, is_bounded, norm};
use crate::live::log::mutation::Upsert;
use crate::node_set::NodeSet;

/// Why an upsert cannot be added to an index.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpsertError {
    /// The embedding is of another dimension.
    #[error("embedding: expected {expected} dimensions, found {found}")]
    Dimension {
        /// Of the index.
        expected: usize,
        /// Of the embedding.
        found: usize,
    },
    /// A component is not a number, or too large for the component type of the index.
    #[error("embedding, component {component}: expected a finite {dtype}, found {found}")]
    NotFinite {
        /// Its position, from 0.
        component: usize,
        /// The component type of the index.
        dtype: Dtype,
        /// Its value.
        found: f32,
    },
    /// The embedding is longer than scores in single precision allow.
    #[error("embedding: expected a norm of {most:e} at most, found {found:.3e}")]
    TooLong {
        /// The largest norm.
        most: f32,
        /// Of the embedding.
        found: f64,
    },
    /// The embedding is zero, so its cosine is undefined.
    #[error("embedding: expected a non-zero vector under cosine, found only zeros as {dtype}")]
    Zero {
        /// The component type of the index.
        dtype: Dtype,
    },
    /// The index has no such attribute.
    #[error("attribute {attribute:?}: expected one of {expected:?}")]
    UnknownAttribute {
        /// Its name.
        attribute: String,
        /// The attribute names of the index.
        expected: Vec<String>,
    },
    /// An attribute has two values.
    #[error("attribute {attribute:?}: expected one value, found another")]
    DuplicateAttribute {
        /// Its name.
        attribute: String,
    },
    /// A value does not have the type of its column and cannot be converted exactly.
    #[error("attribute {attribute:?}: expected {expected}, found {found}")]
    AttributeType {
        /// Its name.
        attribute: String,
        /// The values that the column accepts.
        expected: &'static str,
        /// The type of the value, and the value.
        found: String,
    },
    /// The upsert and its expiry attribute have different times.
    #[error("attribute {EXPIRES_AT:?}: expected {expected} as the upsert has it, found {found}")]
    Expiry {
        /// Of the upsert.
        expected: Instant,
        /// Of the attribute.
        found: Instant,
    },
}

impl UpsertError {
    /// Returns the name of the attribute that cannot be added, if the error is about one.
    pub(crate) fn attribute(&self) -> Option<&str> {
        match self {
            Self::UnknownAttribute { attribute, .. }
            | Self::DuplicateAttribute { attribute }
            | Self::AttributeType { attribute, .. } => Some(attribute),
            Self::Expiry { .. } => Some(EXPIRES_AT),
            Self::Dimension { .. } | Self::NotFinite { .. } | Self::TooLong { .. } | Self::Zero { .. } => {
                None
            }
        }
    }
}

/// Why no dataset can be built.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// There are no videos; an index has at least one.
    #[error("expected at least one video, found none")]
    NoVideos,
    /// There are more videos than an index can contain.
    #[error("expected at most {most} videos, found {found}")]
    TooManyVideos {
        /// The largest number of videos in an index.
        most: usize,
        /// The number of videos.
        found: usize,
    },
    /// An upsert cannot be added to the index.
    #[error("video {video_id}: {source}")]
    Upsert {
        /// The video.
        video_id: VideoId,
        /// What is wrong.
        r#source: UpsertError,
    },
    /// The segments have embeddings of different shapes or types.
    #[error("{segment}: expected embeddings of {expected}, found {found}")]
    OtherEmbeddings {
        /// The path or name of the segment.
        segment: String,
        /// Dimension and type of the first segment.
        expected: String,
        /// Dimension and type of this segment.
        found: String,
    },
    /// A segment is damaged.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Checks that an embedding fits an index of `dim` components of type `dtype`.
///
/// # Errors
/// [`UpsertError`] for another dimension, a component that is not finite in that type, a norm above [`MAX_NORM`], or a
/// zero vector under cosine.
pub fn check_embedding(
    embedding: &[f32],
    dim: usize,
    dtype: Dtype,
    metric: Metric,
) -> Result<(), UpsertError> {
    match dtype {
        Dtype::F32 => check_components::<f32>(embedding, dim, metric),
        Dtype::F16 => check_components::<f16>(embedding, dim, metric),
    }
}

/// Checks that the attributes of an upsert fit the columns of an index: each is known, has one value, and has the type of
/// its column. An integer also fits another numeric type that represents it exactly.
///
/// # Errors
/// [`UpsertError`] for the first attribute that does not fit.
pub fn check_attributes(upsert: &Upsert, schema: &[AttributeSchema]) -> Result<(), UpsertError> {
    expiry(upsert, schema).and(for_each_value(upsert, schema, |_, _| {}))
}

/// Returns the dataset of `upserts`, each of a different video, with the columns of `schema`; missing attributes are null.
///
/// A timestamp column [`EXPIRES_AT`] is the expiry of the videos: it can be set by the upsert or by the attribute.
///
/// # Errors
/// [`RowsError`] for an upsert that [`check_embedding`] or [`check_attributes`] rejects, except for zero and long vectors.
pub fn dataset_of(
    upserts: &[&Upsert],
    schema: &[AttributeSchema],
    dim: usize,
    dtype: Dtype,
) -> Result<Dataset, RowsError> {
    check_count(upserts.len())?;
    let mut values: Vec<Vec<Option<&Value>>> = vec![vec![None; upserts.len()]; schema.len()];
    let mut expiries = Vec::with_capacity(upserts.len());
    for (row, upsert) in upserts.iter().enumerate() {
        let refused = |source| RowsError::Upsert { video_id: upsert.video_id, source };
        for_each_value(upsert, schema, |column, value| values[column][row] = Some(value)).map_err(refused)?;
        expiries.push(expiry(upsert, schema).map_err(refused)?.map_or(NEVER, Instant::as_microsecond));
    }
    let column = |(schema, values): (&AttributeSchema, &Vec<_>)| AttributeColumn {
        name: schema.name.clone(),
        values: if is_expiry(schema) {
            let times = expiries.iter().map(|expiry| Some(*expiry).filter(|expiry| *expiry != NEVER));
            ColumnValues::Timestamp(times.collect())
        } else {
            column_of(schema.kind, values)
        },
    };
    let attributes = schema.iter().zip(&values).map(column).collect();
    let name = Path::new("upserted videos");
    let embeddings = match dtype {
        Dtype::F32 => Embeddings::in_memory(name, dim, components_of::<f32>(upserts, dim)?),
        Dtype::F16 => Embeddings::in_memory(name, dim, components_of::<f16>(upserts, dim)?),
    };
    let ids = upserts.iter().map(|upsert| upsert.video_id).collect();
    Ok(Dataset { embeddings, ids, attributes, expires_at: some_expire(expiries) })
}

/// Returns the dataset of the videos in the set of each segment, segment after segment, with the columns of `schema`. An
/// attribute is null if the segment has no column of that name and type.
///
/// A video must be in the set of at most one segment.
///
/// # Errors
/// [`RowsError`] for segments with embeddings of different shapes or types, or a damaged segment.
///
/// # Panics
/// If the length of a set is not that of its segment.
pub fn gather(segments: &[(&Index, &NodeSet)], schema: &[AttributeSchema]) -> Result<Dataset, RowsError> {
    let Some((first, _)) = segments.first() else { return Err(RowsError::NoVideos) };
    let kind_of = |index: &Index| format!("{} {}", index.dim(), index.metadata().dtype);
    for (index, kept) in segments {
        assert_eq!(kept.nodes(), index.len(), "a set has the length of its segment");
        let (expected, found) = (kind_of(first), kind_of(index));
        if expected != found {
            let segment = index.path().display().to_string();
            return Err(RowsError::OtherEmbeddings { segment, expected, found });
        }
    }
    let rows: usize = segments.iter().map(|(_, kept)| kept.count()).sum();
    check_count(rows)?;
    let segments: Vec<(&Index, Vec<u32>)> =
        segments.iter().map(|(index, kept)| (*index, kept.iter().collect())).collect();
    let mut ids = Vec::with_capacity(rows);
    let mut expiries = Vec::with_capacity(rows);
    for (index, nodes) in &segments {
        let of_nodes = nodes.iter().map(|node| *node as usize);
        ids.extend(of_nodes.clone().map(|node| index.video_ids()[node]));
        match index.expiries() {
            Some(times) => expiries.extend(of_nodes.map(|node| times[node])),
            None => expiries.extend(of_nodes.map(|_| NEVER)),
        }
    }
    let attributes =
        schema.iter().map(|column| gather_column(&segments, column)).collect::<Result<_, _>>()?;
    let name = Path::new("gathered videos");
    let embeddings = match first.metadata().dtype {
        Dtype::F32 => Embeddings::in_memory(name, first.dim(), gather_vectors::<f32>(&segments, rows)),
        Dtype::F16 => Embeddings::in_memory(name, first.dim(), gather_vectors::<f16>(&segments, rows)),
    };
    Ok(Dataset { embeddings, ids, attributes, expires_at: some_expire(expiries) })
}

fn check_count(found: usize) -> Result<(), RowsError> {
    let most = NodeId::MAX_NODES;
    match found {
        0 => Err(RowsError::NoVideos),
        _ if found > most => Err(RowsError::TooManyVideos { most, found }),
        _ => Ok(()),
    }
}

fn some_expire(expiries: Vec<i64>) -> Option<Vec<i64>> {
    expiries.iter().any(|expiry| *expiry != NEVER).then_some(expiries)
}

fn gather_vectors<T: Element>(segments: &[(&Index, Vec<u32>)], rows: usize) -> Vec<T> {
    let dim = segments[0].0.dim();
    let mut gathered = Vec::with_capacity(rows * dim);
    for (index, nodes) in segments {
        let vectors: &[T] = index.column(SectionKind::Vectors, 0);
        // Most nodes have adjacent neighbors, so copy runs of rows.
        for run in nodes.chunk_by(|node, next| node + 1 == *next) {
            let first = run[0] as usize * dim;
            gathered.extend_from_slice(&vectors[first..first + run.len() * dim]);
        }
    }
    gathered
}

fn gather_column(
    segments: &[(&Index, Vec<u32>)],
    schema: &AttributeSchema,
) -> Result<AttributeColumn, RowsError> {
    let mut values = empty_column(schema.kind);
    for (index, nodes) in segments {
        let columns = Columns::of(index);
        match columns.schema().iter().position(|column| column == schema) {
            Some(column) => columns.append_to(column, nodes, &mut values)?,
            None => values.push_nulls(nodes.len()),
        }
    }
    Ok(AttributeColumn { name: schema.name.clone(), values })
}

fn check_components<T: Element>(embedding: &[f32], dim: usize, metric: Metric) -> Result<(), UpsertError> {
    let mut stored: Vec<T> = Vec::with_capacity(dim);
    push_components(embedding, dim, &mut stored)?;
    if !is_bounded(embedding) {
        return Err(UpsertError::TooLong { most: MAX_NORM, found: norm(embedding) });
    }
    if metric == Metric::Cosine && stored.iter().all(|value| value.to_f32() == 0.0) {
        return Err(UpsertError::Zero { dtype: T::DTYPE });
    }
    Ok(())
}

fn components_of<T: Element>(upserts: &[&Upsert], dim: usize) -> Result<Vec<T>, RowsError> {
    let mut stored = Vec::with_capacity(upserts.len() * dim);
    for upsert in upserts {
        push_components(&upsert.embedding, dim, &mut stored)
            .map_err(|source| RowsError::Upsert { video_id: upsert.video_id, source })?;
    }
    Ok(stored)
}

fn push_components<T: Element>(
    embedding: &[f32],
    dim: usize,
    stored: &mut Vec<T>,
) -> Result<(), UpsertError> {
    if embedding.len() != dim {
        return Err(UpsertError::Dimension { expected: dim, found: embedding.len() });
    }
    let first = stored.len();
    stored.extend(embedding.iter().map(|value| T::from_f32(*value)));
    match stored[first..].iter().position(|value| !value.to_f32().is_finite()) {
        None => Ok(()),
        Some(component) => {
            Err(UpsertError::NotFinite { component, dtype: T::DTYPE, found: embedding[component] })
        }
    }
}

/// Calls `each` with the column and value of every attribute, up to the first one that does not fit.
fn for_each_value<'u>(
    upsert: &'u Upsert,
    schema: &[AttributeSchema],
    mut each: impl FnMut(usize, &'u Value),
) -> Result<(), UpsertError> {
    for (at, (name, value)) in upsert.attributes.iter().enumerate() {
        let attribute = || name.clone();
        let Some(column) = schema.iter().position(|column| column.name == *name) else {
            let expected = schema.iter().map(|column| column.name.clone()).collect();
            return Err(UpsertError::UnknownAttribute { attribute: attribute(), expected });
        };
        // Quadratic, but there are at most as many attributes as columns.
        if upsert.attributes[..at].iter().any(|(other, _)| other == name) {
            return Err(UpsertError::DuplicateAttribute { attribute: attribute() });
        }
        let kind = schema[column].kind;
        if !fits(value, kind) {
            let found = format!("{} {value}", type_of(value));
            let expected = expected(kind);
            return Err(UpsertError::AttributeType { attribute: attribute(), expected, found });
        }
        each(column, value);
    }
    Ok(())
}

/// Returns whether the column is the expiry of the videos.
fn is_expiry(schema: &AttributeSchema) -> bool {
    schema.name == EXPIRES_AT && schema.kind == AttributeKind::Timestamp
}

/// Returns the expiry of a video, from the upsert or its attribute.
fn expiry(upsert: &Upsert, schema: &[AttributeSchema]) -> Result<Option<Instant>, UpsertError> {
    let attribute = upsert.attributes.iter().find_map(|(name, value)| match value {
        Value::Timestamp(time) if name == EXPIRES_AT => Some(*time),
        _ => None,
    });
    match (upsert.expires_at, attribute.filter(|_| schema.iter().any(is_expiry))) {
        (Some(expected), Some(found)) if expected.as_microsecond() != found.as_microsecond() => {
            Err(UpsertError::Expiry { expected, found })
        }
        (upsert, attribute) => Ok(upsert.or(attribute)),
    }
}

/// Returns a column of `values`, each of which fits `kind`.
fn column_of(kind: AttributeKind, values: &[Option<&Value>]) -> ColumnValues {
    let values = values.iter().copied();
    match kind {
        AttributeKind::Int64 => ColumnValues::Int64(values.map(|value| int64(value?)).collect()),
        AttributeKind::Uint64 => ColumnValues::Uint64(values.map(|value| uint64(value?)).collect()),
        AttributeKind::Double => ColumnValues::Double(values.map(|value| double(value?)).collect()),
        AttributeKind::Timestamp => ColumnValues::Timestamp(values.map(|value| micros(value?)).collect()),
        AttributeKind::Bool => ColumnValues::Bool(values.map(|value| boolean(value?)).collect()),
        AttributeKind::Keyword => ColumnValues::Keyword(values.map(|value| word(value?)).collect()),
        AttributeKind::KeywordList => ColumnValues::KeywordList(values.map(|value| words(value?)).collect()),
    }
}

/// Returns whether a column of this kind can have the value.
pub(crate) fn fits(value: &Value, kind: AttributeKind) -> bool {
    match kind {
        AttributeKind::Int64 => int64(value).is_some(),
        AttributeKind::Uint64 => uint64(value).is_some(),
        AttributeKind::Double => double(value).is_some(),
        AttributeKind::Timestamp => micros(value).is_some(),
        AttributeKind::Bool => boolean(value).is_some(),
        AttributeKind::Keyword => word(value).is_some(),
        AttributeKind::KeywordList => words(value).is_some(),
    }
}

fn expected(kind: AttributeKind) -> &'static str {
    match kind {
        AttributeKind::Int64 => "an integer of at least -2^63 and below 2^63",
        AttributeKind::Uint64 => "an integer of at least 0 and below 2^64",
        AttributeKind::Double => "a double, or an integer that is one exactly",
        AttributeKind::Timestamp => "a timestamp",
        AttributeKind::Bool => "a bool",
        AttributeKind::Keyword => "a keyword",
        AttributeKind::KeywordList => "a list of keywords",
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Int64(_) | Value::Uint64(_) => "integer",
        Value::Double(_) => "double",
        Value::Timestamp(_) => "timestamp",
        Value::Bool(_) => "bool",
        Value::Keyword(_) => "keyword",
        Value::KeywordList(_) => "list of keywords",
    }
}

fn int64(value: &Value) -> Option<i64> {
    match value {
        Value::Int64(value) => Some(*value),
        Value::Uint64(value) => i64::try_from(*value).ok(),
        _ => None,
    }
}

fn uint64(value: &Value) -> Option<u64> {
    match value {
        Value::Int64(value) => u64::try_from(*value).ok(),
        Value::Uint64(value) => Some(*value),
        _ => None,
    }
}

fn double(value: &Value) -> Option<f64> {
    // The nearest double of a 64-bit integer converts to i128 without loss, so the comparison is exact.
    let exact = |integer: i128| Some(integer as f64).filter(|double| *double as i128 == integer);
    match value {
        Value::Double(value) => Some(*value),
        Value::Int64(value) => exact((*value).into()),
        Value::Uint64(value) => exact((*value).into()),
        _ => None,
    }
}

fn micros(value: &Value) -> Option<i64> {
    if let Value::Timestamp(time) = value { Some(time.as_microsecond()) } else { None }
}

fn boolean(value: &Value) -> Option<bool> {
    if let Value::Bool(value) = value { Some(*value) } else { None }
}

fn word(value: &Value) -> Option<&str> {
    if let Value::Keyword(word) = value { Some(word) } else { None }
}

fn words(value: &Value) -> Option<&[String]> {
    if let Value::KeywordList(words) = value { Some(words) } else { None }
}
