//! The column of embeddings: lists of f32, f16, f64, i8 or u8, all of one length, without nulls.
//!
//! What flows in: the column of each row group in turn. What flows out: components in one row-major vector. The
//! parquet crate decodes f32 into that vector directly; levels are only compared, so that rows are never copied.
//! f64 becomes f32; i8 and u8 become f16, which holds each of them exactly.

use half::f16;
use parquet::column::reader::ColumnReader;
use parquet::data_type::{DataType, DoubleType, FloatType, Int32Type};

use super::records::{BATCH_ROWS, Batches, Chunk};
use super::schema::Element;
use crate::dataset::components::Floats;
use crate::dataset::error::DatasetError;
use crate::dataset::limits::check_dim;
use crate::dataset::scalar::{Narrowed, exceeds};
use crate::dataset::table::Matrix;

/// Rows of types other than f32 that are decoded at a time. The parquet crate returns each f16 in 32 bytes, which is
/// 2 MiB at 1,024 dimensions.
const CONVERTED_BATCH_ROWS: usize = 64;

/// How much memory to reserve once the dimension is known.
///
/// The row count is what the file announces, but embeddings hardly compress: no more is reserved than the length of
/// the file makes plausible.
#[derive(Clone, Copy)]
pub(super) struct Reserve {
    pub rows: usize,
    pub bytes: usize,
}

impl Reserve {
    fn components<T>(self, dim: usize) -> usize {
        self.rows.saturating_mul(dim).min(self.bytes / size_of::<T>())
    }
}

/// Embeddings of the row groups read until now.
pub(super) struct EmbeddingColumn {
    element: Element,
    reserve: Reserve,
    dim: Option<usize>,
    components: Floats,
    flushed: u64,
}

impl EmbeddingColumn {
    /// A column without rows, of lists of `element`, of which [`is_embedding`] is true.
    ///
    /// [`is_embedding`]: super::schema::is_embedding
    pub(super) fn new(element: Element, reserve: Reserve) -> Self {
        let components = match element {
            Element::F32 | Element::F64 => Floats::F32(Vec::new()),
            _ => Floats::F16(Vec::new()),
        };
        Self { element, reserve, dim: None, components, flushed: 0 }
    }

    /// Appends the rows of a row group.
    ///
    /// # Errors
    /// For a null, with its row, for a row of another length than the first, and for a number that is larger than any
    /// `f32`.
    pub(super) fn append(&mut self, chunk: Chunk<'_>, reader: ColumnReader) -> Result<(), DatasetError> {
        let Self { element, reserve, dim, components, flushed } = self;
        match (components, reader) {
            (Floats::F32(components), ColumnReader::FloatColumnReader(reader)) => {
                let mut first_row = chunk.first_row;
                let mut batches = Batches::<FloatType>::new(chunk, reader, BATCH_ROWS);
                while batches.read(components)? {
                    let found = check_rows(&batches, &chunk, first_row, *dim)?;
                    if dim.replace(found).is_none() {
                        let room = reserve.components::<f32>(found);
                        components.reserve_exact(room.saturating_sub(components.len()));
                    }
                    first_row += batches.rows;
                }
                Ok(())
            }
            (Floats::F32(components), ColumnReader::DoubleColumnReader(reader)) => {
                let batches = Batches::<DoubleType>::new(chunk, reader, CONVERTED_BATCH_ROWS);
                convert(batches, *reserve, dim, components, |row, column, number| {
                    let Narrowed { value, is_flushed } =
                        Narrowed::new(*number).ok_or_else(|| exceeds(chunk.path, row, column, *number))?;
                    *flushed += u64::from(is_flushed);
                    Ok(value)
                })
            }
            (Floats::F16(components), ColumnReader::FixedLenByteArrayColumnReader(reader)) => {
                let batches = Batches::new(chunk, reader, CONVERTED_BATCH_ROWS);
                convert(batches, *reserve, dim, components, |_, _, number| Ok(half(number.data())))
            }
            (Floats::F16(components), ColumnReader::Int32ColumnReader(reader)) => {
                let batches = Batches::<Int32Type>::new(chunk, reader, CONVERTED_BATCH_ROWS);
                let is_signed = matches!(element, Element::Signed(_));
                // A narrow integer is stored in the low bits of 32.
                convert(batches, *reserve, dim, components, |_, _, number| {
                    Ok(if is_signed { f16::from(*number as i8) } else { f16::from(*number as u8) })
                })
            }
            _ => Err(chunk.corrupt("the pages are not of the type of the column".to_owned())),
        }
    }

    /// The rows, if there are any.
    pub(super) fn finish(self) -> Option<Matrix> {
        Some(Matrix { dim: self.dim?, values: self.components, flushed: self.flushed })
    }
}

/// Appends converted components. `component` is called with the row, the column and the number.
fn convert<T: DataType, C>(
    mut batches: Batches<'_, T>,
    reserve: Reserve,
    dim: &mut Option<usize>,
    components: &mut Vec<C>,
    mut component: impl FnMut(usize, usize, &T::T) -> Result<C, DatasetError>,
) -> Result<(), DatasetError> {
    let chunk = *batches.chunk();
    let mut first_row = chunk.first_row;
    let mut numbers = Vec::new();
    while batches.read(&mut numbers)? {
        let found = check_rows(&batches, &chunk, first_row, *dim)?;
        if dim.replace(found).is_none() {
            components.reserve_exact(reserve.components::<C>(found));
        }
        for (at, number) in numbers.iter().enumerate() {
            components.push(component(first_row + at / found, at % found, number)?);
        }
        numbers.clear();
        first_row += batches.rows;
    }
    Ok(())
}

/// Little-endian; NaN for bytes that are not two, which a file of 2-byte values does not have.
pub(super) fn half(bytes: &[u8]) -> f16 {
    bytes.try_into().map_or(f16::NAN, f16::from_le_bytes)
}

/// Returns the dimension of the rows of a batch, which begins with row `first_row` of the file: `dim`, or that of its
/// first row if `dim` is not known yet.
fn check_rows<T: DataType>(
    batch: &Batches<'_, T>,
    chunk: &Chunk<'_>,
    first_row: usize,
    dim: Option<usize>,
) -> Result<usize, DatasetError> {
    let (definition, repetition) = (batch.definition.as_slice(), batch.repetition.as_slice());
    if let Some(dim) = dim
        && is_regular(definition, repetition, chunk.leaf.definition, dim)
    {
        return Ok(dim);
    }
    let path = || chunk.path.to_owned();
    let empty_list = chunk.leaf.empty_list.unwrap_or_default();
    let starts = (0..repetition.len()).filter(|at| repetition[*at] == 0);
    let ends = starts.clone().skip(1).chain([repetition.len()]);
    let lists: Vec<(usize, usize)> = starts.zip(ends).collect();
    if let Some(row) = lists.iter().position(|(start, _)| definition[*start] < empty_list) {
        return Err(DatasetError::NullValue {
            path: path(),
            name: chunk.name.to_owned(),
            row: first_row + row,
        });
    }
    // An empty list has a level, too.
    let length =
        |(start, end): &(usize, usize)| if definition[*start] == empty_list { 0 } else { end - start };
    let expected = match dim {
        Some(dim) => dim,
        None => check_dim(chunk.path, lists.first().map_or(0, length) as u64)?,
    };
    if let Some(row) = lists.iter().position(|list| length(list) != expected) {
        let found = length(&lists[row]);
        return Err(DatasetError::RaggedRow { path: path(), row: first_row + row, expected, found });
    }
    if let Some(at) = definition.iter().position(|level| *level != chunk.leaf.definition) {
        let (row, column) = (first_row + at / expected, at % expected);
        return Err(DatasetError::NullComponent { path: path(), row, column });
    }
    Ok(expected)
}

/// Whether all values are present and a row begins at every multiple of `dim` and nowhere else. Without a branch per
/// level, so that it compiles to SIMD.
fn is_regular(definition: &[i16], repetition: &[i16], value: i16, dim: usize) -> bool {
    let all = |levels: &[i16], wanted: i16| levels.iter().fold(true, |all, level| all & (*level == wanted));
    all(definition, value)
        && repetition.len().is_multiple_of(dim)
        && repetition.chunks_exact(dim).all(|row| row[0] == 0 && all(&row[1..], 1))
}
