//! Arrays and columns become videos, and videos become columns.

use std::collections::BTreeMap;

use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use prost_types::Timestamp;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use shortlist::{AttributeColumn, ColumnValues};
use shortlist_client::proto::attribute_value::Value;
use shortlist_client::proto::lookup::State;
use shortlist_client::proto::{AttributeValue, GetResponse, KeywordList, Vector, Video};

use super::answers::value;
use super::messages::vector;
use crate::columns::{Column, object};
use crate::error::Fault;
use crate::ids::Ids;

/// The embeddings of one model, which has a name if there are several.
pub(super) type Embeddings<'py> = (Option<String>, PyReadonlyArray2<'py, f32>);

/// One video per row. The package checked the lengths.
///
/// # Errors
/// If an array is not contiguous, or a column has a value that is not of its kind.
pub(super) fn videos(
    ids: &Ids<'_>,
    embeddings: &[Embeddings<'_>],
    columns: Vec<Column<'_>>,
    expires_at: Option<&PyReadonlyArray1<'_, i64>>,
    embedding_model: Option<String>,
) -> PyResult<Vec<Video>> {
    let columns = columns.into_iter().map(Column::read).collect::<PyResult<Vec<_>>>()?;
    let mut parts = Vec::with_capacity(embeddings.len());
    for (model, vectors) in embeddings {
        parts.push((model, vectors.shape()[1], vectors.as_slice()?));
    }
    let (numbers, texts) = ids.parts(0..ids.len())?;
    let expires_at = expires_at.map(|times| times.as_slice()).transpose()?;
    let video = |row: usize| {
        let attribute = |column: &AttributeColumn| {
            let value = Some(attribute(&column.values, row)?);
            Some((column.name.clone(), AttributeValue { value }))
        };
        let mut vectors = parts
            .iter()
            .map(|(model, dim, components)| (model, Vector::packed(&components[row * dim..(row + 1) * dim])));
        let (single, several) = match &parts[..] {
            [(None, ..)] => (vectors.next().map(|(_, vector)| vector), BTreeMap::new()),
            _ => (
                None,
                vectors.map(|(model, vector)| ((*model).clone().unwrap_or_default(), vector)).collect(),
            ),
        };
        Video {
            video_id: numbers.get(row).copied().unwrap_or_default(),
            text_id: texts.get(row).cloned().unwrap_or_default(),
            vector: single,
            vectors: several,
            attributes: columns.iter().filter_map(attribute).collect(),
            // NaT is the least number.
            expires_at: expires_at.map(|times| times[row]).filter(|at| *at != i64::MIN).map(timestamp),
            embedding_model: embedding_model.clone().unwrap_or_default(),
        }
    };
    if columns.iter().any(|column| column.values.len() != ids.len()) {
        return Err(Fault::invalid("attributes", "expected one value per video").into());
    }
    Ok((0..ids.len()).map(video).collect())
}

fn attribute(values: &ColumnValues, row: usize) -> Option<Value> {
    Some(match values {
        ColumnValues::Keyword(words) => Value::Keyword(words.get(row)?.to_owned()),
        ColumnValues::KeywordList(lists) => {
            Value::KeywordList(KeywordList { values: lists.get(row)?.map(str::to_owned).collect() })
        }
        ColumnValues::Int64(numbers) => Value::Int64(numbers.get(row)?),
        ColumnValues::Uint64(numbers) => Value::Uint64(numbers.get(row)?),
        ColumnValues::Double(numbers) => Value::Double(numbers.get(row)?),
        ColumnValues::Bool(numbers) => Value::Bool(numbers.get(row)?),
        ColumnValues::Timestamp(times) => Value::Timestamp(timestamp(times.get(row)?)),
    })
}

fn timestamp(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or_default() * 1000;
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// A dict per video: id, state, and of those that were found attributes, vector and expiry in microseconds.
pub(super) fn looked_up<'py>(py: Python<'py>, answer: GetResponse) -> PyResult<Bound<'py, PyAny>> {
    let videos = PyList::empty(py);
    for lookup in answer.results {
        let dict = PyDict::new(py);
        dict.set_item("video_id", lookup.video_id)?;
        dict.set_item("text_id", Some(&lookup.text_id).filter(|text| !text.is_empty()))?;
        let state = match lookup.state() {
            State::Found => "found",
            State::TakenDown => "taken_down",
            State::Unknown | State::Unspecified => "unknown",
        };
        dict.set_item("state", state)?;
        let video = lookup.video.unwrap_or_default();
        let attributes = PyDict::new(py);
        for (name, attribute) in video.attributes {
            if let Some(found) = attribute.value {
                attributes.set_item(name, object(py, &value(found))?)?;
            }
        }
        dict.set_item("attributes", attributes)?;
        dict.set_item("vector", video.vector.map(|found| PyArray1::from_vec(py, vector(found))))?;
        let micros = |at: Timestamp| at.seconds.saturating_mul(1_000_000) + i64::from(at.nanos) / 1000;
        dict.set_item("expires_at", video.expires_at.map(micros))?;
        videos.append(dict)?;
    }
    Ok(videos.into_any())
}
