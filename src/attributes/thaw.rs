//! Sections of the frozen index become Arrow columns again.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, LargeListArray, LargeStringArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int64Type, TimestampMicrosecondType, UInt64Type};

use super::column::Columns;
use super::freeze::{list_item, stored_type};
use super::words::Words;
use crate::index::{AttributeKind, IndexError, SectionKind};

impl Columns<'_> {
    /// The values of `nodes`, in that order and in the type that [`super::stored_type`] names.
    ///
    /// # Errors
    /// [`IndexError::BadEntry`] where a damaged file has a word that cannot be read.
    ///
    /// # Panics
    /// If there is no such column or node.
    pub fn to_arrow(&self, column: usize, nodes: &[u32]) -> Result<ArrayRef, IndexError> {
        let thawing = Thawing { columns: self, column, nodes };
        Ok(match self.schema()[column].kind {
            AttributeKind::Int64 => thawing.numbers::<Int64Type>(),
            AttributeKind::Uint64 => thawing.numbers::<UInt64Type>(),
            AttributeKind::Double => thawing.numbers::<Float64Type>(),
            AttributeKind::Timestamp => thawing.numbers::<TimestampMicrosecondType>(),
            AttributeKind::Bool => thawing.bools(),
            AttributeKind::Keyword => thawing.keywords()?,
            AttributeKind::KeywordList => thawing.lists()?,
        })
    }
}

struct Thawing<'a> {
    columns: &'a Columns<'a>,
    column: usize,
    nodes: &'a [u32],
}

impl<'a> Thawing<'a> {
    fn numbers<T: ArrowPrimitiveType<Native: bytemuck::Pod>>(&self) -> ArrayRef {
        let values: &[T::Native] = self.section(SectionKind::AttributeValues);
        let values: Vec<T::Native> = self.nodes.iter().map(|node| values[*node as usize]).collect();
        let stored = stored_type(self.columns.schema()[self.column].kind);
        Arc::new(PrimitiveArray::<T>::new(values.into(), self.nulls()).with_data_type(stored))
    }

    fn bools(&self) -> ArrayRef {
        let values: &[u8] = self.section(SectionKind::AttributeValues);
        let is_true = |at: usize| values[self.nodes[at] as usize] != 0;
        Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(self.nodes.len(), is_true), self.nulls()))
    }

    fn keywords(&self) -> Result<ArrayRef, IndexError> {
        let codes: &[u32] = self.section(SectionKind::AttributeValues);
        let mut text = Text::new(self.nodes.len());
        let words = Words::of(self.columns.index, self.column as u32);
        for node in self.nodes {
            let row = *node as usize;
            // What a null has for a code stands for nothing.
            let word = if self.columns.is_null(self.column, row) {
                Some(&[][..])
            } else {
                words.bytes(codes[row] as usize)
            };
            text.push(word.ok_or_else(|| self.unreadable(row))?);
        }
        Ok(Arc::new(self.strings(text, self.nulls())?))
    }

    fn lists(&self) -> Result<ArrayRef, IndexError> {
        let codes: &[u32] = self.section(SectionKind::AttributeValues);
        let mut starts = Vec::with_capacity(self.nodes.len() + 1);
        starts.push(0);
        let mut text = Text::new(self.nodes.len());
        let words = Words::of(self.columns.index, self.column as u32);
        for node in self.nodes {
            let row = *node as usize;
            if !self.columns.is_null(self.column, row) {
                let range = self.columns.range(SectionKind::AttributeLists, self.column as u32, row);
                let list = range.and_then(|range| codes.get(range)).ok_or_else(|| self.unreadable(row))?;
                for code in list {
                    text.push(words.bytes(*code as usize).ok_or_else(|| self.unreadable(row))?);
                }
            }
            starts.push(text.len());
        }
        let items = Arc::new(self.strings(text, None)?);
        let starts = OffsetBuffer::new(starts.into());
        Ok(Arc::new(LargeListArray::new(list_item(), starts, items, self.nulls())))
    }

    fn strings(&self, text: Text, nulls: Option<NullBuffer>) -> Result<LargeStringArray, IndexError> {
        let ends = OffsetBuffer::new(text.ends.into());
        LargeStringArray::try_new(ends, text.bytes.into(), nulls)
            .map_err(|error| self.bad(SectionKind::AttributeWords, 0, error.to_string()))
    }

    fn nulls(&self) -> Option<NullBuffer> {
        let is_valid = |at: usize| !self.columns.is_null(self.column, self.nodes[at] as usize);
        let nulls = NullBuffer::new(BooleanBuffer::collect_bool(self.nodes.len(), is_valid));
        Some(nulls).filter(|nulls| nulls.null_count() > 0)
    }

    fn section<T: bytemuck::Pod>(&self, kind: SectionKind) -> &'a [T] {
        self.columns.index.column(kind, self.column as u32)
    }

    fn unreadable(&self, row: usize) -> IndexError {
        self.bad(SectionKind::AttributeValues, row, "the value cannot be read".to_owned())
    }

    fn bad(&self, section: SectionKind, entry: usize, problem: String) -> IndexError {
        let name = &self.columns.schema()[self.column].name;
        IndexError::bad_entry(
            self.columns.index.path(),
            section,
            entry,
            format!("column {name:?}: {problem}"),
        )
    }
}

/// Words one after another.
struct Text {
    bytes: Vec<u8>,
    /// 0, and where each word ends.
    ends: Vec<i64>,
}

impl Text {
    fn new(words: usize) -> Self {
        let mut ends = Vec::with_capacity(words + 1);
        ends.push(0);
        Self { bytes: Vec::new(), ends }
    }

    fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len() as i64);
    }

    /// How many words there are.
    fn len(&self) -> i64 {
        self.ends.len() as i64 - 1
    }
}
