//! Arrow columns become sections of the frozen index.

use std::collections::HashMap;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, LargeListArray, LargeStringArray,
    PrimitiveArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use jiff::Timestamp;

use super::invert::{key_of_f64, key_of_i64, order, postings};
use super::words::{fill_slots, slots_of};
use crate::dataset::AttributeColumn;
use crate::index::{AttributeKind, AttributeSchema, SectionKind};

/// Why a column cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AttributeError {
    /// A type without a place in the index.
    #[error(
        "attribute {column:?}: type {found} is not supported: expected text, a list of text or integers, \
         an integer, a floating-point number, a boolean, a date or a timestamp"
    )]
    UnsupportedType {
        /// The column.
        column: String,
        /// Its Arrow type.
        found: String,
    },
    /// A value does not fit the type of its column.
    #[error("attribute {column:?}, row {row}: {problem}")]
    BadValue {
        /// The column.
        column: String,
        /// The row.
        row: usize,
        /// What is wrong.
        problem: String,
    },
    /// Arrow could not convert the column.
    #[error("attribute {column:?}: {source}")]
    Conversion {
        /// The column.
        column: String,
        /// What it said.
        r#source: arrow::error::ArrowError,
    },
}

/// One column, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenColumn {
    /// Name and type.
    pub schema: AttributeSchema,
    /// The sections of the column.
    pub sections: Vec<(SectionKind, Vec<u8>)>,
}

/// A column whose values all have a place in the index.
#[derive(Clone, Debug)]
pub struct CheckedColumn {
    schema: AttributeSchema,
    /// In the type that `schema` is stored from.
    values: ArrayRef,
}

/// Checks one Arrow column and brings it into the type that is stored.
///
/// Integers narrower than 64 bits widen, `f32` and `f16` widen to double precision, dates and
/// timestamps become microseconds UTC (finer ones are cut), integers in lists become words, and nulls
/// inside lists are dropped.
///
/// # Errors
/// [`AttributeError`] for a type that has no place in the index or a time outside the years -9999 to 9999.
pub fn check(column: &AttributeColumn) -> Result<CheckedColumn, AttributeError> {
    let name = &column.name;
    let kind = kind_of(column.values.data_type()).ok_or_else(|| AttributeError::UnsupportedType {
        column: name.clone(),
        found: column.values.data_type().to_string(),
    })?;
    let values = cast(&column.values, &stored_type(kind))
        .map_err(|source| AttributeError::Conversion { column: name.clone(), source })?;
    if kind == AttributeKind::Timestamp {
        let times: &TimestampMicrosecondArray = values.as_primitive();
        for (row, value) in times.iter().enumerate() {
            if let Some(Err(error)) = value.map(Timestamp::from_microsecond) {
                let (column, problem) = (name.clone(), error.to_string());
                return Err(AttributeError::BadValue { column, row, problem });
            }
        }
    }
    Ok(CheckedColumn { schema: AttributeSchema { name: name.clone(), kind }, values })
}

/// The Arrow type that an attribute is stored from.
pub fn stored_type(kind: AttributeKind) -> DataType {
    match kind {
        AttributeKind::Keyword => DataType::LargeUtf8,
        AttributeKind::KeywordList => DataType::LargeList(list_item()),
        AttributeKind::Int64 => DataType::Int64,
        AttributeKind::Uint64 => DataType::UInt64,
        AttributeKind::Double => DataType::Float64,
        AttributeKind::Bool => DataType::Boolean,
        AttributeKind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
    }
}

/// What the lists are of that a list of words is stored from.
pub fn list_item() -> FieldRef {
    Field::new("item", DataType::LargeUtf8, true).into()
}

impl CheckedColumn {
    /// The sections of the column, with the values of `rows` in that order.
    ///
    /// # Errors
    /// If Arrow cannot reorder the values, because they outgrow its offsets.
    pub fn freeze(&self, rows: &[u32]) -> Result<FrozenColumn, AttributeError> {
        let values = take(&self.values, &UInt32Array::from(rows.to_vec()), None)
            .map_err(|source| AttributeError::Conversion { column: self.schema.name.clone(), source })?;
        let mut sections = match self.schema.kind {
            AttributeKind::Keyword => freeze_keywords(values.as_string::<i64>()),
            AttributeKind::KeywordList => freeze_lists(values.as_list::<i64>()),
            AttributeKind::Int64 => {
                freeze_numbers(values.as_primitive::<Int64Type>(), |value| Some(key_of_i64(value)))
            }
            AttributeKind::Uint64 => freeze_numbers(values.as_primitive::<UInt64Type>(), Some),
            AttributeKind::Double => freeze_numbers(values.as_primitive::<Float64Type>(), key_of_f64),
            AttributeKind::Timestamp => {
                let values = values.as_primitive::<TimestampMicrosecondType>();
                freeze_numbers(values, |value| Some(key_of_i64(value)))
            }
            AttributeKind::Bool => freeze_bools(values.as_boolean()),
        };
        sections.insert(0, (SectionKind::AttributeValidity, bitmap(values.nulls(), values.len())));
        Ok(FrozenColumn { schema: self.schema.clone(), sections })
    }
}

fn freeze_numbers<T: ArrowPrimitiveType<Native: bytemuck::Pod>>(
    values: &PrimitiveArray<T>,
    key: impl Fn(T::Native) -> Option<u64>,
) -> Vec<(SectionKind, Vec<u8>)> {
    let keys: Vec<Option<u64>> = values.iter().map(|value| value.and_then(&key)).collect();
    let mut sections = vec![(SectionKind::AttributeValues, bytes_of(values.values()))];
    sections.extend(order(&keys));
    sections
}

fn freeze_bools(values: &BooleanArray) -> Vec<(SectionKind, Vec<u8>)> {
    let bytes = values.values().iter().map(u8::from).collect();
    let of_nodes = values.iter().zip(0..).filter_map(|(value, node)| Some((node, u32::from(value?))));
    let mut sections = vec![(SectionKind::AttributeValues, bytes)];
    sections.extend(postings(2, of_nodes));
    sections
}

fn kind_of(data_type: &DataType) -> Option<AttributeKind> {
    use DataType::*;
    Some(match data_type {
        Utf8 | LargeUtf8 | Utf8View | Null => AttributeKind::Keyword,
        Dictionary(_, value) if kind_of(value) == Some(AttributeKind::Keyword) => AttributeKind::Keyword,
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => AttributeKind::Int64,
        UInt64 => AttributeKind::Uint64,
        Float16 | Float32 | Float64 => AttributeKind::Double,
        Boolean => AttributeKind::Bool,
        Date32 | Date64 | Timestamp(..) => AttributeKind::Timestamp,
        List(item) | LargeList(item) | FixedSizeList(item, _) => match kind_of(item.data_type())? {
            AttributeKind::Keyword | AttributeKind::Int64 | AttributeKind::Uint64 => {
                AttributeKind::KeywordList
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn freeze_keywords(values: &LargeStringArray) -> Vec<(SectionKind, Vec<u8>)> {
    let words = Dictionary::of(values.iter().flatten());
    let codes: Vec<u32> = values.iter().map(|word| word.map_or(0, |word| words.code(word))).collect();
    let of_nodes = codes
        .iter()
        .zip(0..)
        .filter(|(_, node)| values.is_valid(*node))
        .map(|(code, node)| (node as u32, *code));
    let mut sections = vec![(SectionKind::AttributeValues, bytes_of(&codes))];
    sections.extend(postings(words.words.len(), of_nodes));
    sections.extend(words.into_sections());
    sections
}

fn freeze_lists(values: &LargeListArray) -> Vec<(SectionKind, Vec<u8>)> {
    let items: &LargeStringArray = values.values().as_string();
    let words = Dictionary::of(items.iter().flatten());
    let mut codes: Vec<u32> = Vec::with_capacity(items.len());
    let mut starts: Vec<u64> = Vec::with_capacity(values.len() + 1);
    starts.push(0);
    for list in values.iter() {
        if let Some(list) = list {
            codes.extend(list.as_string::<i64>().iter().flatten().map(|word| words.code(word)));
        }
        starts.push(codes.len() as u64);
    }
    let lists = starts.windows(2).map(|pair| &codes[pair[0] as usize..pair[1] as usize]).zip(0..);
    let of_nodes = lists.flat_map(|(list, node)| list.iter().map(move |code| (node, *code)));
    let mut sections = vec![
        (SectionKind::AttributeValues, bytes_of(&codes)),
        (SectionKind::AttributeLists, bytes_of(&starts)),
    ];
    sections.extend(postings(words.words.len(), of_nodes));
    sections.extend(words.into_sections());
    sections
}

/// The distinct words of a column in ascending order.
struct Dictionary<'a> {
    words: Vec<&'a str>,
    codes: HashMap<&'a str, u32>,
}

impl<'a> Dictionary<'a> {
    fn of(words: impl Iterator<Item = &'a str>) -> Self {
        let mut codes: HashMap<&str, u32> = words.map(|word| (word, 0)).collect();
        let mut words: Vec<&str> = codes.keys().copied().collect();
        words.sort_unstable();
        for (code, word) in words.iter().enumerate() {
            codes.insert(word, code as u32);
        }
        Self { words, codes }
    }

    fn code(&self, word: &str) -> u32 {
        self.codes[word]
    }

    fn into_sections(self) -> [(SectionKind, Vec<u8>); 3] {
        let mut slots = vec![0; slots_of(self.words.len())];
        fill_slots(self.words.iter().map(|word| word.as_bytes()), &mut slots);
        let mut offsets = Vec::with_capacity(self.words.len() + 1);
        let mut text = Vec::new();
        offsets.push(0u64);
        for word in self.words {
            text.extend_from_slice(word.as_bytes());
            offsets.push(text.len() as u64);
        }
        [
            (SectionKind::AttributeWordOffsets, bytes_of(&offsets)),
            (SectionKind::AttributeWords, text),
            (SectionKind::AttributeWordSlots, bytes_of(&slots)),
        ]
    }
}

fn bitmap(validity: Option<&NullBuffer>, rows: usize) -> Vec<u8> {
    let mut bits = vec![0u8; rows.div_ceil(8)];
    for row in (0..rows).filter(|row| validity.is_none_or(|validity| validity.is_valid(*row))) {
        bits[row / 8] |= 1 << (row % 8);
    }
    bits
}

pub(super) fn bytes_of<T: bytemuck::Pod>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}
