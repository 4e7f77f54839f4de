//! The column of ids, and attributes: values in the types that an index stores.
//!
//! What flows in: the column of each row group in turn. What flows out: ids, or values appended to an attribute
//! column. Integers narrower than 64 bits and f16 and f32 widen, dates and timestamps become microseconds, integers in
//! lists become words, and nulls inside lists are dropped. A time without a time zone is taken as UTC.

use ColumnReader::{
    BoolColumnReader as Bools, ByteArrayColumnReader as Bytes, DoubleColumnReader as Doubles,
    FixedLenByteArrayColumnReader as Fixed, FloatColumnReader as Floats, Int32ColumnReader as Int32s,
    Int64ColumnReader as Int64s, Int96ColumnReader as Int96s,
};
use parquet::basic::TimeUnit;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, Int96};

use super::embeddings::half;
use super::records::{Chunk, Item};
use super::schema::Element;
use crate::base::id::VideoId;
use crate::base::instant::{Instant, OutOfRange};
use crate::dataset::column::{ColumnValues, KeywordLists, Keywords, Numbers};
use crate::dataset::error::DatasetError;
use crate::dataset::ids::{Ids, push_text};

/// The Julian day number of 1970-01-01.
const JULIAN_EPOCH: i128 = 2_440_588;

/// Ids without rows, of the type that those of `element` are read as.
pub(super) fn empty_ids(element: Element) -> Ids {
    match element {
        Element::Signed(_) | Element::Unsigned(_) => Ids::Numbers(Vec::new()),
        _ => Ids::Text(Keywords::default()),
    }
}

/// Appends the ids of a row group.
///
/// # Errors
/// For a null, a negative id, and text that is empty, long or not UTF-8, with its row.
pub(super) fn append_ids(chunk: Chunk<'_>, reader: ColumnReader, ids: &mut Ids) -> Result<(), DatasetError> {
    let element = chunk.leaf.element;
    let number = |row, id: Option<i64>| {
        let found = id.ok_or_else(|| no_id(&chunk, row))?;
        if matches!(element, Element::Signed(_)) && found < 0 {
            return Err(DatasetError::NegativeId { path: chunk.path.to_owned(), row, found });
        }
        Ok(VideoId(found as u64))
    };
    match (reader, ids) {
        (Int64s(reader), Ids::Numbers(ids)) => chunk.for_each_value(reader, |row, id| {
            ids.push(number(row, id.copied())?);
            Ok(())
        }),
        (Int32s(reader), Ids::Numbers(ids)) => chunk.for_each_value(reader, |row, id| {
            ids.push(number(row, id.map(|id| widen(*id, element)))?);
            Ok(())
        }),
        (Bytes(reader), Ids::Text(ids)) => chunk.for_each_value(reader, |row, id| {
            let id = id.ok_or_else(|| no_id(&chunk, row))?;
            push_text(chunk.path, row, text(&chunk, row, id)?, ids)
        }),
        (Fixed(reader), Ids::Text(ids)) => chunk.for_each_value(reader, |row, id| {
            let id = id.ok_or_else(|| no_id(&chunk, row))?;
            push_text(chunk.path, row, &uuid(&chunk, id.data())?, ids)
        }),
        _ => Err(mismatch(&chunk)),
    }
}

fn no_id(chunk: &Chunk<'_>, row: usize) -> DatasetError {
    DatasetError::NullValue { path: chunk.path.to_owned(), name: chunk.name.to_owned(), row }
}

/// The text of a UUID, lower case with hyphens.
fn uuid(chunk: &Chunk<'_>, bytes: &[u8]) -> Result<String, DatasetError> {
    chunk.expansion.charge(36)?;
    let bytes = bytes.try_into().map_err(|_| mismatch(chunk))?;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

/// Appends the values of a row group to `values`, which is of the type of the column.
///
/// # Errors
/// For pages that cannot be decoded, text that is not UTF-8, and a time that is no [`Instant`], with its row.
pub(super) fn append_values(
    chunk: Chunk<'_>,
    reader: ColumnReader,
    values: &mut ColumnValues,
) -> Result<(), DatasetError> {
    let element = chunk.leaf.element;
    match (reader, values) {
        (reader, values) if element == Element::Null => append_nulls(chunk, reader, values),
        (Bytes(reader), ColumnValues::Keyword(values)) => chunk.for_each_value(reader, |row, value| {
            values.push(value.map(|value| text(&chunk, row, value)).transpose()?);
            Ok(())
        }),
        (Fixed(reader), ColumnValues::Keyword(values)) => chunk.for_each_value(reader, |_, value| {
            let text = value.map(|value| uuid(&chunk, value.data())).transpose()?;
            values.push(text.as_deref());
            Ok(())
        }),
        (Bools(reader), ColumnValues::Bool(values)) => numbers(chunk, reader, values, |value| Some(*value)),
        (Int32s(reader), ColumnValues::Int64(values)) => {
            numbers(chunk, reader, values, |value| Some(widen(*value, element)))
        }
        (Int64s(reader), ColumnValues::Int64(values)) => numbers(chunk, reader, values, |value| Some(*value)),
        (Int64s(reader), ColumnValues::Uint64(values)) => {
            numbers(chunk, reader, values, |value| Some(*value as u64))
        }
        (Int32s(reader), ColumnValues::Timestamp(values)) => {
            times(chunk, reader, values, DAYS, |day| i128::from(*day))
        }
        (Int64s(reader), ColumnValues::Timestamp(values)) => {
            let Element::Timestamp { unit } = element else { return Err(mismatch(&chunk)) };
            times(chunk, reader, values, unit_of(unit), |time| i128::from(*time))
        }
        (Int96s(reader), ColumnValues::Timestamp(values)) => {
            times(chunk, reader, values, NANOS, nanos_of_int96)
        }
        (Floats(reader), ColumnValues::Double(values)) => {
            numbers(chunk, reader, values, |value| Some(f64::from(*value)))
        }
        (Doubles(reader), ColumnValues::Double(values)) => {
            numbers(chunk, reader, values, |value| Some(*value))
        }
        (Fixed(reader), ColumnValues::Double(values)) => {
            numbers(chunk, reader, values, |value| Some(half(value.data()).to_f64()))
        }
        (reader, ColumnValues::KeywordList(lists)) => append_lists(chunk, reader, lists),
        _ => Err(mismatch(&chunk)),
    }
}

/// Appends numbers, null where the value is null or `convert` returns `None`.
fn numbers<T: DataType, V: Copy + Default>(
    chunk: Chunk<'_>,
    reader: ColumnReaderImpl<T>,
    values: &mut Numbers<V>,
    convert: impl Fn(&T::T) -> Option<V>,
) -> Result<(), DatasetError> {
    chunk.for_each_value(reader, |_, value| {
        values.push(value.and_then(&convert));
        Ok(())
    })
}

/// Appends times. `units` converts one to a number of units since 1970.
fn times<T: DataType>(
    chunk: Chunk<'_>,
    reader: ColumnReaderImpl<T>,
    values: &mut Numbers<i64>,
    unit: Unit,
    units: impl Fn(&T::T) -> i128,
) -> Result<(), DatasetError> {
    chunk.for_each_value(reader, |row, value| {
        let Some(found) = value.map(&units) else {
            values.push(None);
            return Ok(());
        };
        let instant = Instant::from_nanosecond(found * unit.nanos).map_err(|_| DatasetError::Time {
            path: chunk.path.to_owned(),
            name: chunk.name.to_owned(),
            row,
            source: OutOfRange { found, unit: unit.name },
        })?;
        values.push(Some(instant.as_microsecond()));
        Ok(())
    })
}

/// Appends the rows of a column of type [`Element::Null`]: nulls, or lists of nothing.
fn append_nulls(
    chunk: Chunk<'_>,
    reader: ColumnReader,
    values: &mut ColumnValues,
) -> Result<(), DatasetError> {
    match reader {
        Bools(reader) => nulls(chunk, reader, values),
        Int32s(reader) => nulls(chunk, reader, values),
        Int64s(reader) => nulls(chunk, reader, values),
        Int96s(reader) => nulls(chunk, reader, values),
        Floats(reader) => nulls(chunk, reader, values),
        Doubles(reader) => nulls(chunk, reader, values),
        Bytes(reader) => nulls(chunk, reader, values),
        Fixed(reader) => nulls(chunk, reader, values),
    }
}

fn nulls<T: DataType>(
    chunk: Chunk<'_>,
    reader: ColumnReaderImpl<T>,
    values: &mut ColumnValues,
) -> Result<(), DatasetError> {
    if let ColumnValues::KeywordList(lists) = values {
        return chunk.for_each_item(reader, |_, item| {
            if let Item::End { is_valid } = item {
                lists.end_list(is_valid);
            }
            Ok(())
        });
    }
    chunk.for_each_value(reader, |_, _| {
        values.push_nulls(1);
        Ok(())
    })
}

fn append_lists(
    chunk: Chunk<'_>,
    reader: ColumnReader,
    lists: &mut KeywordLists,
) -> Result<(), DatasetError> {
    let element = chunk.leaf.element;
    match reader {
        Bytes(reader) => chunk.for_each_item(reader, |row, item| {
            match item {
                Item::Value(value) => lists.push_word(text(&chunk, row, value)?),
                Item::End { is_valid } => lists.end_list(is_valid),
            }
            Ok(())
        }),
        Int32s(reader) => chunk.for_each_item(reader, |_, item| {
            match item {
                Item::Value(value) => lists.push_word(&widen(*value, element).to_string()),
                Item::End { is_valid } => lists.end_list(is_valid),
            }
            Ok(())
        }),
        Int64s(reader) => chunk.for_each_item(reader, |_, item| {
            match item {
                Item::Value(value) if element == Element::Unsigned(64) => {
                    lists.push_word(&(*value as u64).to_string());
                }
                Item::Value(value) => lists.push_word(&value.to_string()),
                Item::End { is_valid } => lists.end_list(is_valid),
            }
            Ok(())
        }),
        _ => Err(mismatch(&chunk)),
    }
}

/// A narrow integer is stored in the low bits of 32.
fn widen(value: i32, element: Element) -> i64 {
    match element {
        Element::Signed(8) => i64::from(value as i8),
        Element::Signed(16) => i64::from(value as i16),
        Element::Unsigned(8) => i64::from(value as u8),
        Element::Unsigned(16) => i64::from(value as u16),
        Element::Unsigned(32) => i64::from(value as u32),
        _ => i64::from(value),
    }
}

/// A unit of time.
#[derive(Clone, Copy)]
struct Unit {
    nanos: i128,
    name: &'static str,
}

const DAYS: Unit = Unit { nanos: 86_400_000_000_000, name: "days" };
const NANOS: Unit = Unit { nanos: 1, name: "nanoseconds" };

fn unit_of(unit: TimeUnit) -> Unit {
    match unit {
        TimeUnit::MILLIS => Unit { nanos: 1_000_000, name: "milliseconds" },
        TimeUnit::MICROS => Unit { nanos: 1_000, name: "microseconds" },
        TimeUnit::NANOS => NANOS,
    }
}

/// Nanoseconds since 1970. The conversion of the parquet crate wraps outside of the years 1677 to 2262.
fn nanos_of_int96(time: &Int96) -> i128 {
    let &[low, high, day] = time.data() else { unreachable!("INT96 has three words") };
    let nanos = (u64::from(high) << 32 | u64::from(low)) as i64;
    (i128::from(day as i32) - JULIAN_EPOCH) * DAYS.nanos + i128::from(nanos)
}

/// The text of a value, which is about to be copied.
fn text<'v>(chunk: &Chunk<'_>, row: usize, value: &'v ByteArray) -> Result<&'v str, DatasetError> {
    chunk.expansion.charge(value.len() as u64)?;
    std::str::from_utf8(value.data())
        .map_err(|error| chunk.corrupt(format!("row {row}: expected UTF-8 text, found {error}")))
}

fn mismatch(chunk: &Chunk<'_>) -> DatasetError {
    chunk.corrupt("the pages are not of the type of the column".to_owned())
}
