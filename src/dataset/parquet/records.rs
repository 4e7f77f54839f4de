//! The rows of one column of one row group, read in batches.
//!
//! What flows in: a column reader of the parquet crate. What flows out: the value of each row, or the items of the
//! list of each row. Nothing here knows what values mean.
//!
//! The row count comes from the file. It decides when to stop, and reserves nothing.

use std::path::Path;

use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::DataType;
use parquet::errors::ParquetError;

use super::expansion::Expansion;
use super::schema::Leaf;
use crate::dataset::error::DatasetError;

/// Rows decoded at a time: 4 MiB of f32 at 1,024 dimensions.
pub(super) const BATCH_ROWS: usize = 1_024;

/// One column of one row group.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub path: &'a Path,
    /// The name of the column.
    pub name: &'a str,
    pub leaf: Leaf,
    /// The row of the file that the row group begins with.
    pub first_row: usize,
    /// The number of rows that the row group announces.
    pub rows: usize,
    /// The budget of the file.
    pub expansion: &'a Expansion<'a>,
}

impl Chunk<'_> {
    pub(super) fn broken(&self, source: ParquetError) -> DatasetError {
        DatasetError::Parquet { path: self.path.to_owned(), source }
    }

    pub(super) fn corrupt(&self, problem: String) -> DatasetError {
        DatasetError::Corrupt {
            path: self.path.to_owned(),
            reason: format!("column {:?}: {problem}", self.name),
        }
    }

    /// Calls `each` with every value in row order, `None` for null, of a column without lists.
    pub(super) fn for_each_value<T: DataType>(
        &self,
        reader: ColumnReaderImpl<T>,
        mut each: impl FnMut(usize, Option<&T::T>) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let mut batches = Batches::new(*self, reader, BATCH_ROWS);
        let mut values = Vec::new();
        let mut row = self.first_row;
        while batches.read(&mut values)? {
            if self.leaf.definition == 0 {
                for value in values.drain(..) {
                    each(row, Some(&value))?;
                    row += 1;
                }
                continue;
            }
            let mut present = values.iter();
            for level in &batches.definition {
                let value = if *level == self.leaf.definition { present.next() } else { None };
                each(row, value)?;
                row += 1;
            }
            values.clear();
        }
        Ok(())
    }

    /// Calls `each` with the items of every list that are not null, and with the end of every list, in row order.
    pub(super) fn for_each_item<T: DataType>(
        &self,
        reader: ColumnReaderImpl<T>,
        mut each: impl FnMut(usize, Item<'_, T::T>) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let empty_list = self.leaf.empty_list.unwrap_or_default();
        let mut batches = Batches::new(*self, reader, BATCH_ROWS);
        let mut values = Vec::new();
        let mut row = self.first_row;
        while batches.read(&mut values)? {
            let mut present = values.iter();
            // A batch begins with the begin of a list and ends with the end of one.
            let mut is_valid = None;
            for (definition, repetition) in batches.definition.iter().zip(&batches.repetition) {
                if *repetition == 0 {
                    if let Some(is_valid) = is_valid {
                        each(row, Item::End { is_valid })?;
                        row += 1;
                    }
                    is_valid = Some(*definition >= empty_list);
                }
                if *definition == self.leaf.definition
                    && let Some(value) = present.next()
                {
                    each(row, Item::Value(value))?;
                }
            }
            if let Some(is_valid) = is_valid {
                each(row, Item::End { is_valid })?;
                row += 1;
            }
            values.clear();
        }
        Ok(())
    }
}

/// An item of a list, or its end.
pub(super) enum Item<'a, T> {
    Value(&'a T),
    End { is_valid: bool },
}

/// Reads the rows of a chunk, a batch at a time.
pub(super) struct Batches<'a, T: DataType> {
    chunk: Chunk<'a>,
    reader: ColumnReaderImpl<T>,
    batch_rows: usize,
    /// Rows read before this batch and in it.
    read: usize,
    /// Rows in this batch.
    pub rows: usize,
    /// `[levels]` of this batch; empty if the column has no nulls.
    pub definition: Vec<i16>,
    /// `[levels]` of this batch; empty if the column has no lists.
    pub repetition: Vec<i16>,
}

impl<'a, T: DataType> Batches<'a, T> {
    pub(super) fn new(chunk: Chunk<'a>, reader: ColumnReaderImpl<T>, batch_rows: usize) -> Self {
        let (definition, repetition) = (Vec::new(), Vec::new());
        Self { chunk, reader, batch_rows, read: 0, rows: 0, definition, repetition }
    }

    /// The chunk that is read.
    pub(super) fn chunk(&self) -> &Chunk<'a> {
        &self.chunk
    }

    /// Reads the next batch, and appends its values that are not null to `values`. Returns `false` after the last row.
    ///
    /// # Errors
    /// If the column cannot be decoded, or has fewer or more rows than its row group announces.
    pub(super) fn read(&mut self, values: &mut Vec<T::T>) -> Result<bool, DatasetError> {
        let expected = self.chunk.rows;
        self.definition.clear();
        self.repetition.clear();
        // One row more than announced shows that the column ends there.
        let wanted = self.batch_rows.min(expected - self.read).max(1);
        let (definition, repetition) = (Some(&mut self.definition), Some(&mut self.repetition));
        let (rows, _, levels) = self
            .reader
            .read_records(wanted, definition, repetition, values)
            .map_err(|error| self.chunk.broken(error))?;
        if self.chunk.leaf.empty_list.is_some() {
            let lists = self.repetition.iter().filter(|level| **level == 0).count();
            if lists != rows || levels > 0 && self.repetition[0] != 0 {
                return Err(self.chunk.corrupt(format!("expected {rows} lists, found {lists}")));
            }
        }
        self.rows = rows;
        self.read += rows;
        if self.read > expected || rows == 0 && self.read < expected {
            let found = if rows == 0 { self.read.to_string() } else { "more".to_owned() };
            return Err(self
                .chunk
                .corrupt(format!("expected {expected} rows in a row group, found {found}")));
        }
        Ok(rows > 0)
    }
}
