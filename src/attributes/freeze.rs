//! Arrow columns become sections of the frozen index.

use std::collections::HashMap;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, LargeListArray, LargeStringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};
use jiff::Timestamp;

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
        source: arrow::error::ArrowError,
    },
}

/// One column, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenColumn {
    /// Name and type.
    pub schema: AttributeSchema,
    /// The sections of the column, in file order.
    pub sections: Vec<(SectionKind, Vec<u8>)>,
}

/// Turns one Arrow column into sections.
///
/// Integers narrower than 64 bits widen, `f32` and `f16` widen to double precision, dates and
/// timestamps become microseconds UTC (finer ones are cut), integers in lists become words, and nulls
/// inside lists are dropped.
///
/// # Errors
/// [`AttributeError`] for a type that has no place in the index or a time outside the years -9999 to 9999.
pub fn freeze(column: &AttributeColumn) -> Result<FrozenColumn, AttributeError> {
    let kind = kind_of(column.values.data_type()).ok_or_else(|| AttributeError::UnsupportedType {
        column: column.name.clone(),
        found: column.values.data_type().to_string(),
    })?;
    let convert = |to: &DataType| {
        cast(&column.values, to)
            .map_err(|source| AttributeError::Conversion { column: column.name.clone(), source })
    };
    let (validity, mut sections) = match kind {
        AttributeKind::Keyword => freeze_keywords(convert(&DataType::LargeUtf8)?.as_string::<i64>()),
        AttributeKind::KeywordList => {
            let item = Field::new("item", DataType::LargeUtf8, true);
            freeze_lists(convert(&DataType::LargeList(item.into()))?.as_list::<i64>())
        }
        AttributeKind::Int64 => {
            let values: ArrayRef = convert(&DataType::Int64)?;
            let values: &Int64Array = values.as_primitive();
            (values.nulls().cloned(), vec![(SectionKind::AttributeValues, bytes_of(values.values()))])
        }
        AttributeKind::Uint64 => {
            let values: ArrayRef = convert(&DataType::UInt64)?;
            let values: &UInt64Array = values.as_primitive();
            (values.nulls().cloned(), vec![(SectionKind::AttributeValues, bytes_of(values.values()))])
        }
        AttributeKind::Double => {
            let values: ArrayRef = convert(&DataType::Float64)?;
            let values: &Float64Array = values.as_primitive();
            (values.nulls().cloned(), vec![(SectionKind::AttributeValues, bytes_of(values.values()))])
        }
        AttributeKind::Bool => {
            let values: ArrayRef = convert(&DataType::Boolean)?;
            let values: &BooleanArray = values.as_boolean();
            let bytes = values.values().iter().map(u8::from).collect();
            (values.nulls().cloned(), vec![(SectionKind::AttributeValues, bytes)])
        }
        AttributeKind::Timestamp => {
            let values: ArrayRef =
                convert(&DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())))?;
            let values: &TimestampMicrosecondArray = values.as_primitive();
            for (row, value) in values.iter().enumerate() {
                if let Some(Err(error)) = value.map(Timestamp::from_microsecond) {
                    let (column, problem) = (column.name.clone(), error.to_string());
                    return Err(AttributeError::BadValue { column, row, problem });
                }
            }
            (values.nulls().cloned(), vec![(SectionKind::AttributeValues, bytes_of(values.values()))])
        }
    };
    let rows = column.values.len();
    sections.insert(0, (SectionKind::AttributeValidity, bitmap(validity.as_ref(), rows)));
    Ok(FrozenColumn { schema: AttributeSchema { name: column.name.clone(), kind }, sections })
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

type Frozen = (Option<NullBuffer>, Vec<(SectionKind, Vec<u8>)>);

fn freeze_keywords(values: &LargeStringArray) -> Frozen {
    let words = Dictionary::of(values.iter().flatten());
    let codes: Vec<u32> = values.iter().map(|word| word.map_or(0, |word| words.code(word))).collect();
    let mut sections = vec![(SectionKind::AttributeValues, bytes_of(&codes))];
    sections.extend(words.into_sections());
    (values.nulls().cloned(), sections)
}

fn freeze_lists(values: &LargeListArray) -> Frozen {
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
    let mut sections = vec![
        (SectionKind::AttributeValues, bytes_of(&codes)),
        (SectionKind::AttributeLists, bytes_of(&starts)),
    ];
    sections.extend(words.into_sections());
    (values.nulls().cloned(), sections)
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

    fn into_sections(self) -> [(SectionKind, Vec<u8>); 2] {
        let mut offsets = Vec::with_capacity(self.words.len() + 1);
        let mut text = Vec::new();
        offsets.push(0u64);
        for word in self.words {
            text.extend_from_slice(word.as_bytes());
            offsets.push(text.len() as u64);
        }
        [(SectionKind::AttributeWordOffsets, bytes_of(&offsets)), (SectionKind::AttributeWords, text)]
    }
}

fn bitmap(validity: Option<&NullBuffer>, rows: usize) -> Vec<u8> {
    let mut bits = vec![0u8; rows.div_ceil(8)];
    for row in (0..rows).filter(|row| validity.is_none_or(|validity| validity.is_valid(*row))) {
        bits[row / 8] |= 1 << (row % 8);
    }
    bits
}

fn bytes_of<T: bytemuck::Pod>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}
