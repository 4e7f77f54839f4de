//! The column `embedding`: lists of f32 or f16, all of one length, without nulls.
//!
//! What flows in: the column of each row group in turn. What flows out: components in one row-major vector. The
//! parquet crate decodes f32 into that vector directly; levels are only compared, so that rows are never copied.

use half::f16;
use parquet::column::reader::ColumnReader;
use parquet::data_type::FloatType;

use super::records::{BATCH_ROWS, Batches, Chunk};
use super::schema::Element;
use super::table::Decoded;
use crate::dataset::error::DatasetError;
use crate::dataset::limits::check_dim;

/// The name of the column.
pub(super) const EMBEDDING: &str = "embedding";

/// Rows of f16 decoded at a time: the parquet crate returns each component in 32 bytes, which is 2 MiB at 1,024
/// dimensions.
const HALF_BATCH_ROWS: usize = 64;

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
    reserve: Reserve,
    dim: Option<usize>,
    components: Components,
}

enum Components {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl EmbeddingColumn {
    /// A column without rows, of lists of `element`; `None` if components of that type are not read.
    pub(super) fn new(element: Element, reserve: Reserve) -> Option<Self> {
        let components = match element {
            Element::F32 => Components::F32(Vec::new()),
            Element::F16 => Components::F16(Vec::new()),
            _ => return None,
        };
        Some(Self { reserve, dim: None, components })
    }

    /// Appends the rows of a row group.
    ///
    /// # Errors
    /// For a null, with its row, and for a row of another length than the first.
    pub(super) fn append(&mut self, chunk: Chunk<'_>, reader: ColumnReader) -> Result<(), DatasetError> {
        let (reserve, mut first_row) = (self.reserve, chunk.first_row);
        match (&mut self.components, reader) {
            (Components::F32(components), ColumnReader::FloatColumnReader(reader)) => {
                let mut batches = Batches::<FloatType>::new(chunk, reader, BATCH_ROWS);
                while batches.read(components)? {
                    let dim = check_rows(&batches, &chunk, first_row, self.dim)?;
                    if self.dim.replace(dim).is_none() {
                        components
                            .reserve_exact(reserve.components::<f32>(dim).saturating_sub(components.len()));
                    }
                    first_row += batches.rows;
                }
            }
            (Components::F16(components), ColumnReader::FixedLenByteArrayColumnReader(reader)) => {
                let mut batches = Batches::new(chunk, reader, HALF_BATCH_ROWS);
                let mut values = Vec::new();
                while batches.read(&mut values)? {
                    let dim = check_rows(&batches, &chunk, first_row, self.dim)?;
                    if self.dim.replace(dim).is_none() {
                        components.reserve_exact(reserve.components::<f16>(dim));
                    }
                    components.extend(values.drain(..).map(|value| half(value.data())));
                    first_row += batches.rows;
                }
            }
            _ => return Err(chunk.corrupt("the pages are not of the type of the column".to_owned())),
        }
        Ok(())
    }

    /// The rows, if there are any.
    pub(super) fn finish(self) -> Option<Decoded> {
        let dim = self.dim?;
        Some(match self.components {
            Components::F32(values) => Decoded::F32 { dim, values },
            Components::F16(values) => Decoded::F16 { dim, values },
        })
    }
}

/// Little-endian; NaN for bytes that are not two, which a file of 2-byte values does not have.
pub(super) fn half(bytes: &[u8]) -> f16 {
    bytes.try_into().map_or(f16::NAN, f16::from_le_bytes)
}

/// Returns the dimension of the rows of a batch, which begins with row `first_row` of the file: `dim`, or that of its
/// first row if `dim` is not known yet.
fn check_rows<T: parquet::data_type::DataType>(
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
        return Err(DatasetError::NullValue { path: path(), name: EMBEDDING, row: first_row + row });
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
