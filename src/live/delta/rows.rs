//! Videos become the catalog of a part: as they were upserted, or as older parts have them.
//!
//! An upsert is checked here against what an index holds, before anything is made of it.

use std::path::Path;

use half::f16;
use jiff::Timestamp;

use crate::attributes::{Columns, Value, empty_column};
use crate::base::element::{Dtype, Element};
use crate::base::id::{NodeId, VideoId};
use crate::base::metric::Metric;
use crate::dataset::{AttributeColumn, ColumnValues, Dataset, EXPIRES_AT, Embeddings, NEVER};
use crate::index::{AttributeKind, AttributeSchema, Index, IndexError, SectionKind};
use crate::live::log::mutation::Upsert;
use crate::node_set::NodeSet;

/// Why an upsert cannot become a video of an index.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpsertError {
    /// The embedding is of another dimension.
    #[error("embedding: expected {expected} components, found {found}")]
    Dimension {
        /// Of the index.
        expected: usize,
        /// Of the embedding.
        found: usize,
    },
    /// A component is no number, or too large for the type that the index has.
    #[error("embedding, component {component}: expected a finite {dtype}, found {found}")]
    NotFinite {
        /// Which one, from 0.
        component: usize,
        /// The type that the index has.
        dtype: Dtype,
        /// The component.
        found: f32,
    },
    /// The embedding has no direction, which the cosine needs.
    #[error("embedding: expected a non-zero vector under cosine, found only zeros as {dtype}")]
    Zero {
        /// The type that the index has.
        dtype: Dtype,
    },
    /// The index has no such attribute.
    #[error("attribute {attribute:?}: expected one of {expected:?}")]
    UnknownAttribute {
        /// Its name.
        attribute: String,
        /// The names that the index has.
        expected: Vec<String>,
    },
    /// An attribute has two values.
    #[error("attribute {attribute:?}: expected one value, found another")]
    DuplicateAttribute {
        /// Its name.
        attribute: String,
    },
    /// A value is not of the type of its column, nor one that is the same there.
    #[error("attribute {attribute:?}: expected {expected}, found {found}")]
    AttributeType {
        /// Its name.
        attribute: String,
        /// What the column takes.
        expected: &'static str,
        /// The type of the value, and the value.
        found: String,
    },
    /// The attribute that says when a video expires says otherwise than the upsert.
    #[error("attribute {EXPIRES_AT:?}: expected {expected} as the upsert has it, found {found}")]
    Expiry {
        /// Of the upsert.
        expected: Timestamp,
        /// Of the attribute.
        found: Timestamp,
    },
}

/// Why videos cannot become a catalog.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// An index has at least one.
    #[error("expected at least one video, found none")]
    NoVideos,
    /// More than one index can hold.
    #[error("expected at most {most} videos, found {found}")]
    TooManyVideos {
        /// What an index holds.
        most: usize,
        /// All together.
        found: usize,
    },
    /// One of them cannot be in the index.
    #[error("video {video_id}: {source}")]
    Upsert {
        /// Which.
        video_id: VideoId,
        /// What is wrong.
        r#source: UpsertError,
    },
    /// Segments that do not belong together.
    #[error("{part}: expected embeddings of {expected}, found {found}")]
    OtherEmbeddings {
        /// The path or name of the part.
        part: String,
        /// Of the first part.
        expected: String,
        /// Of this one.
        found: String,
    },
    /// A part is damaged.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Whether an index of `dim` components of type `dtype` takes the embedding.
///
/// # Errors
/// [`UpsertError`] for another dimension, a component that is not finite in that type, and under cosine zeros.
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

/// Whether an index with these columns takes the attributes: each is known, named once, and of its type.
///
/// An integer is taken for a number of another type that has exactly that value.
///
/// # Errors
/// [`UpsertError`] for the first that is not so.
pub fn check_attributes(upsert: &Upsert, schema: &[AttributeSchema]) -> Result<(), UpsertError> {
    expiry(upsert, schema).and(for_each_value(upsert, schema, |_, _| {}))
}

/// A catalog of `upserts`, each of another video, with the columns of `schema`; what is not given is null.
///
/// A column [`EXPIRES_AT`] of times is when videos expire: the upsert and its attribute each stand in for the other.
///
/// # Errors
/// [`RowsError`] for an upsert that [`check_embedding`] or [`check_attributes`] refuses; zeros are not looked for.
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
        expiries.push(expiry(upsert, schema).map_err(refused)?.map_or(NEVER, Timestamp::as_microsecond));
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

/// A catalog of the videos of each part that are in its set, part after part, with the columns of `schema`: null
/// where a part has no column of that name and type.
///
/// A video is in the set of one part at most.
///
/// # Errors
/// [`RowsError`] for parts that do not belong together or are damaged.
///
/// # Panics
/// If a set is not of the nodes of its part.
pub fn gather(parts: &[(&Index, &NodeSet)], schema: &[AttributeSchema]) -> Result<Dataset, RowsError> {
    let Some((first, _)) = parts.first() else { return Err(RowsError::NoVideos) };
    let kind_of = |index: &Index| format!("{} {}", index.dim(), index.metadata().dtype);
    for (index, alive) in parts {
        assert_eq!(alive.nodes(), index.len(), "a set of other nodes");
        let (expected, found) = (kind_of(first), kind_of(index));
        if expected != found {
            let part = index.path().display().to_string();
            return Err(RowsError::OtherEmbeddings { part, expected, found });
        }
    }
    let rows: usize = parts.iter().map(|(_, alive)| alive.count()).sum();
    check_count(rows)?;
    let parts: Vec<(&Index, Vec<u32>)> =
        parts.iter().map(|(index, alive)| (*index, alive.iter().collect())).collect();
    let mut ids = Vec::with_capacity(rows);
    let mut expiries = Vec::with_capacity(rows);
    for (index, nodes) in &parts {
        let of_nodes = nodes.iter().map(|node| *node as usize);
        ids.extend(of_nodes.clone().map(|node| index.video_ids()[node]));
        match index.expiries() {
            Some(times) => expiries.extend(of_nodes.map(|node| times[node])),
            None => expiries.extend(of_nodes.map(|_| NEVER)),
        }
    }
    let attributes = schema.iter().map(|column| gather_column(&parts, column)).collect::<Result<_, _>>()?;
    let name = Path::new("gathered videos");
    let embeddings = match first.metadata().dtype {
        Dtype::F32 => Embeddings::in_memory(name, first.dim(), gather_vectors::<f32>(&parts, rows)),
        Dtype::F16 => Embeddings::in_memory(name, first.dim(), gather_vectors::<f16>(&parts, rows)),
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

fn gather_vectors<T: Element>(parts: &[(&Index, Vec<u32>)], rows: usize) -> Vec<T> {
    let dim = parts[0].0.dim();
    let mut gathered = Vec::with_capacity(rows * dim);
    for (index, nodes) in parts {
        let vectors: &[T] = index.column(SectionKind::Vectors, 0);
        // Most nodes are beside others.
        for run in nodes.chunk_by(|node, next| node + 1 == *next) {
            let first = run[0] as usize * dim;
            gathered.extend_from_slice(&vectors[first..first + run.len() * dim]);
        }
    }
    gathered
}

fn gather_column(
    parts: &[(&Index, Vec<u32>)],
    schema: &AttributeSchema,
) -> Result<AttributeColumn, RowsError> {
    let mut values = empty_column(schema.kind);
    for (index, nodes) in parts {
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

/// Tells `each` of every value and its column, if all of them are right until then.
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
        // At most as many were before as there are columns.
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

/// Whether the column is when videos expire.
fn is_expiry(schema: &AttributeSchema) -> bool {
    schema.name == EXPIRES_AT && schema.kind == AttributeKind::Timestamp
}

/// When the video expires, by the upsert or its attribute.
fn expiry(upsert: &Upsert, schema: &[AttributeSchema]) -> Result<Option<Timestamp>, UpsertError> {
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

/// A column of `values`, each of which fits `kind`.
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

fn fits(value: &Value, kind: AttributeKind) -> bool {
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
    // Every 64-bit integer is near a double, and that one exactly an i128.
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
