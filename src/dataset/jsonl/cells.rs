//! The values of one attribute, whose type is known only when all of them are.
//!
//! What flows in: values of JSON in row order. What flows out: a column of the narrowest type that has them all. Nothing here
//! knows of lines or of other columns.

use serde_json::Value;

use crate::dataset::column::{ColumnValues, KeywordLists, Keywords, Numbers};

/// The values of an attribute until now, in the narrowest type that has them all.
#[derive(Default)]
pub(super) enum Cells {
    #[default]
    Nulls,
    Bool(Numbers<bool>),
    Int(Numbers<i64>),
    Uint(Numbers<u64>),
    Double(Numbers<f64>),
    Text(Keywords),
    List(KeywordLists),
}

/// Why a value cannot be one of its column.
pub(super) enum Refused {
    Type { expected: &'static str },
    Unsupported,
}

impl Cells {
    fn len(&self) -> usize {
        match self {
            Self::Nulls => 0,
            Self::Bool(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Uint(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::List(values) => values.len(),
        }
    }

    /// Sets the value of `row`. Rows without a value before it are null.
    pub(super) fn push(&mut self, row: usize, value: Value) -> Result<(), Refused> {
        if value.is_null() {
            return Ok(());
        }
        self.widen(&value)?;
        self.push_nulls(row - self.len());
        match (self, value) {
            (Self::Bool(values), Value::Bool(value)) => values.push(Some(value)),
            (Self::Int(values), Value::Number(number)) => values.push(number.as_i64()),
            (Self::Uint(values), Value::Number(number)) => values.push(number.as_u64()),
            (Self::Double(values), Value::Number(number)) => values.push(number.as_f64()),
            (Self::Text(values), Value::String(text)) => values.push(Some(&text)),
            (Self::List(lists), Value::Array(items)) => {
                for item in items {
                    match item {
                        Value::String(word) => lists.push_word(&word),
                        Value::Number(number) if !number.is_f64() => lists.push_word(&number.to_string()),
                        Value::Null => {}
                        _ => return Err(Refused::Unsupported),
                    }
                }
                lists.end_list(true);
            }
            (cells, _) => return Err(Refused::Type { expected: cells.kind() }),
        }
        Ok(())
    }

    /// Makes the type wide enough for `value`, if there is such a type.
    fn widen(&mut self, value: &Value) -> Result<(), Refused> {
        let is_double = value.is_f64();
        let is_unsigned = value.is_u64() && !value.is_i64();
        let widened = match (&*self, value) {
            (Self::Nulls, Value::Bool(_)) => Self::Bool(Numbers::default()),
            (Self::Nulls, Value::Number(_)) if is_double => Self::Double(Numbers::default()),
            (Self::Nulls, Value::Number(_)) if is_unsigned => Self::Uint(Numbers::default()),
            (Self::Nulls, Value::Number(_)) => Self::Int(Numbers::default()),
            (Self::Nulls, Value::String(_)) => Self::Text(Keywords::default()),
            (Self::Nulls, Value::Array(_)) => Self::List(KeywordLists::default()),
            (_, Value::Object(_)) => return Err(Refused::Unsupported),
            (Self::Int(values), Value::Number(_)) if is_double => {
                Self::Double(values.iter().map(|value| value.map(|value| value as f64)).collect())
            }
            (Self::Uint(values), Value::Number(_)) if is_double => {
                Self::Double(values.iter().map(|value| value.map(|value| value as f64)).collect())
            }
            (Self::Int(values), Value::Number(_)) if is_unsigned => {
                if values.iter().flatten().any(|value| value < 0) {
                    return Err(Refused::Type { expected: "an integer below 2^63, since one is negative," });
                }
                Self::Uint(values.iter().map(|value| value.map(|value| value as u64)).collect())
            }
            (Self::Uint(_), Value::Number(number)) if number.as_i64().is_some_and(|value| value < 0) => {
                return Err(Refused::Type {
                    expected: "an integer of at least 0, since one is above 2^63 - 1,",
                });
            }
            _ => return Ok(()),
        };
        *self = widened;
        Ok(())
    }

    fn push_nulls(&mut self, count: usize) {
        for _ in 0..count {
            match self {
                Self::Nulls => {}
                Self::Bool(values) => values.push(None),
                Self::Int(values) => values.push(None),
                Self::Uint(values) => values.push(None),
                Self::Double(values) => values.push(None),
                Self::Text(values) => values.push(None),
                Self::List(values) => values.end_list(false),
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Nulls => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Uint(_) | Self::Double(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
        }
    }

    pub(super) fn finish(mut self, rows: usize) -> ColumnValues {
        self.push_nulls(rows.saturating_sub(self.len()));
        match self {
            // As a Parquet column without values.
            Self::Nulls => {
                let mut values = ColumnValues::Keyword(Keywords::default());
                values.push_nulls(rows);
                values
            }
            Self::Bool(values) => ColumnValues::Bool(values),
            Self::Int(values) => ColumnValues::Int64(values),
            Self::Uint(values) => ColumnValues::Uint64(values),
            Self::Double(values) => ColumnValues::Double(values),
            Self::Text(values) => {
                times(&values).map_or(ColumnValues::Keyword(values), ColumnValues::Timestamp)
            }
            Self::List(values) => ColumnValues::KeywordList(values),
        }
    }
}

/// The words as times in microseconds since 1970, if each one is a time.
fn times(words: &Keywords) -> Option<Numbers<i64>> {
    if words.validity().nulls() == words.len() {
        return None;
    }
    let time = |word: Option<&str>| match word {
        Some(word) => word.parse::<jiff::Timestamp>().ok().map(|time| Some(time.as_microsecond())),
        None => Some(None),
    };
    words.iter().map(time).collect()
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction or an exponent",
        Value::Number(number) if number.as_i64().is_some_and(|value| value < 0) => "a negative number",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(items) => match items.iter().find(|item| !item.is_null()) {
            Some(Value::String(_)) | None => "a list",
            Some(Value::Number(number)) if !number.is_f64() => "a list of integers",
            Some(_) => "a list of other items than text and integers",
        },
        Value::Object(_) => "an object",
    }
}
