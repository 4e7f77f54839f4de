//! Attribute columns, in both directions.

use numpy::{Element, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use shortlist::{AttributeColumn, AttributeKind, ColumnValues, KeywordLists, Numbers, Value};

use crate::error::Fault;

/// One attribute column: name, kind, values and, for numbers, which of them are there.
#[derive(FromPyObject)]
pub(crate) struct Column<'py>(String, String, Bound<'py, PyAny>, Option<PyReadonlyArray1<'py, bool>>);

impl Column<'_> {
    /// The column as the library takes it.
    ///
    /// # Errors
    /// If the package sent values of another type than their kind says.
    pub(crate) fn read(self) -> PyResult<AttributeColumn> {
        let Self(name, kind, values, valid) = self;
        let valid = valid.as_ref().map(|valid| valid.as_slice()).transpose()?;
        let values = match kind.as_str() {
            "keyword" => {
                let words = values.cast::<PyList>()?;
                let mut column = shortlist::Keywords::default();
                for word in words {
                    column.push(text(&word)?.as_deref());
                }
                ColumnValues::Keyword(column)
            }
            "keyword_list" => {
                let mut column = KeywordLists::default();
                for list in values.cast::<PyList>()? {
                    let words = list.extract::<Option<Vec<String>>>()?;
                    column.push(words);
                }
                ColumnValues::KeywordList(column)
            }
            "int64" => ColumnValues::Int64(numbers(&values, valid)?),
            "uint64" => ColumnValues::Uint64(numbers(&values, valid)?),
            "double" => ColumnValues::Double(numbers(&values, valid)?),
            "bool" => ColumnValues::Bool(numbers(&values, valid)?),
            "timestamp" => ColumnValues::Timestamp(numbers(&values, valid)?),
            other => return Err(Fault::invalid("attributes", format!("unknown kind {other:?}")).into()),
        };
        Ok(AttributeColumn { name, values })
    }
}

fn text(word: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if word.is_none() { Ok(None) } else { Ok(Some(word.cast::<PyString>()?.to_string_lossy().into_owned())) }
}

fn numbers<T: Element + Copy + Default>(
    values: &Bound<'_, PyAny>,
    valid: Option<&[bool]>,
) -> PyResult<Numbers<T>> {
    let values: PyReadonlyArray1<'_, T> = values.extract()?;
    let values = values.as_slice()?;
    let value = |(row, value): (usize, &T)| valid.is_none_or(|valid| valid[row]).then_some(*value);
    Ok(values.iter().enumerate().map(value).collect())
}

/// The returned attributes of an answer. Each becomes Python objects when it is asked for.
#[pyclass(frozen, module = "shortlist._native")]
pub(crate) struct Columns {
    columns: Vec<Returned>,
}

struct Returned {
    name: String,
    kind: AttributeKind,
    /// `[rows × k]`; `None` where the value is null, and after the last candidate of a row.
    values: Vec<Option<Value>>,
}

impl Columns {
    /// Columns of `len` nulls.
    pub(crate) fn of(schema: impl Iterator<Item = (String, AttributeKind)>, len: usize) -> Self {
        let columns = schema.map(|(name, kind)| Returned { name, kind, values: vec![None; len] });
        Self { columns: columns.collect() }
    }

    /// Sets the values of the candidate at `position`.
    pub(crate) fn set(&mut self, position: usize, values: Vec<(String, Value)>) {
        for (name, value) in values {
            if let Some(column) = self.columns.iter_mut().find(|column| column.name == name) {
                column.values[position] = Some(value);
            }
        }
    }
}

type Shown<'py> = (&'static str, Bound<'py, PyAny>, Bound<'py, PyArray1<bool>>);

#[pymethods]
impl Columns {
    /// The names.
    fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// Kind, values and which of them are there: a list of objects, or an array of numbers.
    fn column<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Shown<'py>>> {
        let Some(Returned { kind, values, .. }) = self.columns.iter().find(|column| column.name == name)
        else {
            return Ok(None);
        };
        let valid = PyArray1::from_iter(py, values.iter().map(Option::is_some));
        let array = match kind {
            AttributeKind::Keyword => {
                let word = |value: &'_ Option<Value>| match value {
                    Some(Value::Keyword(word)) => Some(PyString::new(py, word)),
                    _ => None,
                };
                PyList::new(py, values.iter().map(word))?.into_any()
            }
            AttributeKind::KeywordList => {
                let words = |value: &'_ Option<Value>| match value {
                    Some(Value::KeywordList(words)) => Some(words.clone()),
                    _ => None,
                };
                PyList::new(py, values.iter().map(words))?.into_any()
            }
            AttributeKind::Int64 => array(py, values, |value| match value {
                Value::Int64(value) => Some(*value),
                _ => None,
            }),
            AttributeKind::Uint64 => array(py, values, |value| match value {
                Value::Uint64(value) => Some(*value),
                _ => None,
            }),
            AttributeKind::Double => array(py, values, |value| match value {
                Value::Double(value) => Some(*value),
                _ => None,
            }),
            AttributeKind::Bool => array(py, values, |value| match value {
                Value::Bool(value) => Some(*value),
                _ => None,
            }),
            AttributeKind::Timestamp => array(py, values, |value| match value {
                Value::Timestamp(instant) => Some(instant.as_microsecond()),
                _ => None,
            }),
        };
        Ok(Some((kind.name(), array, valid)))
    }
}

/// Numbers, with the default of their type in place of nulls.
fn array<'py, T: Element + Default>(
    py: Python<'py>,
    values: &[Option<Value>],
    number: impl Fn(&Value) -> Option<T>,
) -> Bound<'py, PyAny> {
    let numbers = values.iter().map(|value| value.as_ref().and_then(&number).unwrap_or_default());
    PyArray1::from_iter(py, numbers).into_any()
}

/// One value; a time is a `numpy.datetime64`.
pub(crate) fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Keyword(word) => PyString::new(py, word).into_any(),
        Value::KeywordList(words) => PyList::new(py, words)?.into_any(),
        Value::Int64(number) => number.into_pyobject(py)?.into_any(),
        Value::Uint64(number) => number.into_pyobject(py)?.into_any(),
        Value::Double(number) => number.into_pyobject(py)?.into_any(),
        Value::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
        Value::Timestamp(at) => numpy_time(py, at.as_microsecond())?,
    })
}

fn numpy_time(py: Python<'_>, micros: i64) -> PyResult<Bound<'_, PyAny>> {
    py.import("numpy")?.call_method1("datetime64", (micros, "us"))
}
