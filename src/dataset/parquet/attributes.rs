//! The column `video_id`, and attributes: values in the types that an index stores.
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
use crate::dataset::column::{ColumnValues, KeywordLists, Numbers};
use crate::dataset::error::DatasetError;

/// The name of the column of ids.
pub(super) const ID: &str = "video_id";

/// The Julian day number of 1970-01-01.
const JULIAN_EPOCH: i128 = 2_440_588;

/// Appends the ids of a row group.
///
/// # Errors
/// For a null and for a negative id, with its row.
pub(super) fn append_ids(
    chunk: Chunk<'_>,
    reader: ColumnReader,
    ids: &mut Vec<VideoId>,
) -> Result<(), DatasetError> {
    let Int64s(reader) = reader else { return Err(mismatch(&chunk)) };
    let path = || chunk.path.to_owned();
    chunk.for_each_value(reader, |row, id| {
        let found = *id.ok_or_else(|| DatasetError::NullValue { path: path(), name: ID, row })?;
        if chunk.leaf.element == Element::Signed(64) && found < 0 {
            return Err(DatasetError::NegativeId { path: path(), row, found });
        }
        ids.push(VideoId(found as u64));
        Ok(())
    })
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
