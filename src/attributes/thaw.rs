//! Turns sections of the frozen index back into attribute columns.

use super::column::Columns;
use super::words::Words;
use crate::dataset::{ColumnValues, KeywordLists, Keywords, Numbers};
use crate::index::{AttributeKind, IndexError, SectionKind};

/// Returns a column of type `kind` without rows.
pub fn empty_column(kind: AttributeKind) -> ColumnValues {
    match kind {
        AttributeKind::Keyword => ColumnValues::Keyword(Keywords::default()),
        AttributeKind::KeywordList => ColumnValues::KeywordList(KeywordLists::default()),
        AttributeKind::Int64 => ColumnValues::Int64(Numbers::default()),
        AttributeKind::Uint64 => ColumnValues::Uint64(Numbers::default()),
        AttributeKind::Double => ColumnValues::Double(Numbers::default()),
        AttributeKind::Bool => ColumnValues::Bool(Numbers::default()),
        AttributeKind::Timestamp => ColumnValues::Timestamp(Numbers::default()),
    }
}

impl Columns<'_> {
    /// Appends the values of `nodes`, in that order, to `values`, which is of the type of the column.
    ///
    /// # Errors
    /// [`IndexError::BadEntry`] where a damaged file has a word that cannot be read.
    ///
    /// # Panics
    /// If there is no such column or node, or `values` is of another type.
    pub fn append_to(
        &self,
        column: usize,
        nodes: &[u32],
        values: &mut ColumnValues,
    ) -> Result<(), IndexError> {
        let thawing = Thawing { columns: self, column, nodes };
        match (self.schema()[column].kind, values) {
            (AttributeKind::Int64, ColumnValues::Int64(values))
            | (AttributeKind::Timestamp, ColumnValues::Timestamp(values)) => thawing.numbers(values),
            (AttributeKind::Uint64, ColumnValues::Uint64(values)) => thawing.numbers(values),
            (AttributeKind::Double, ColumnValues::Double(values)) => thawing.numbers(values),
            (AttributeKind::Bool, ColumnValues::Bool(values)) => thawing.bools(values),
            (AttributeKind::Keyword, ColumnValues::Keyword(values)) => thawing.keywords(values)?,
            (AttributeKind::KeywordList, ColumnValues::KeywordList(values)) => thawing.lists(values)?,
            (kind, _) => panic!("values of another type than {kind:?}"),
        }
        Ok(())
    }
}

struct Thawing<'a> {
    columns: &'a Columns<'a>,
    column: usize,
    nodes: &'a [u32],
}

impl<'a> Thawing<'a> {
    /// The rows, and whether each has a value.
    fn rows(&self) -> impl Iterator<Item = (usize, bool)> {
        let rows = self.nodes.iter().map(|node| *node as usize);
        rows.map(|row| (row, !self.columns.is_null(self.column, row)))
    }

    fn numbers<T: bytemuck::Pod + Default>(&self, out: &mut Numbers<T>) {
        let values: &[T] = self.section(SectionKind::AttributeValues);
        self.rows().for_each(|(row, is_valid)| out.push(is_valid.then(|| values[row])));
    }

    fn bools(&self, out: &mut Numbers<bool>) {
        let values: &[u8] = self.section(SectionKind::AttributeValues);
        self.rows().for_each(|(row, is_valid)| out.push(is_valid.then(|| values[row] != 0)));
    }

    fn keywords(&self, out: &mut Keywords) -> Result<(), IndexError> {
        let codes: &[u32] = self.section(SectionKind::AttributeValues);
        let words = Words::of(self.columns.index, self.column as u32);
        for (row, is_valid) in self.rows() {
            // The code of a null refers to no word.
            let word = is_valid.then(|| words.text(codes[row] as usize).ok_or_else(|| self.unreadable(row)));
            out.push(word.transpose()?);
        }
        Ok(())
    }

    fn lists(&self, out: &mut KeywordLists) -> Result<(), IndexError> {
        let codes: &[u32] = self.section(SectionKind::AttributeValues);
        let words = Words::of(self.columns.index, self.column as u32);
        for (row, is_valid) in self.rows() {
            if is_valid {
                let range = self.columns.range(SectionKind::AttributeLists, self.column as u32, row);
                let list = range.and_then(|range| codes.get(range)).ok_or_else(|| self.unreadable(row))?;
                for code in list {
                    out.push_word(words.text(*code as usize).ok_or_else(|| self.unreadable(row))?);
                }
            }
            out.end_list(is_valid);
        }
        Ok(())
    }

    fn section<T: bytemuck::Pod>(&self, kind: SectionKind) -> &'a [T] {
        self.columns.index.column(kind, self.column as u32)
    }

    fn unreadable(&self, row: usize) -> IndexError {
        let name = &self.columns.schema()[self.column].name;
        let problem = format!("column {name:?}: the value cannot be read");
        IndexError::bad_entry(self.columns.index.path(), SectionKind::AttributeValues, row, problem)
    }
}
