//! Attribute columns of an open index: typed values straight from the mapped file.

use jiff::Timestamp;

use super::value::Value;
use crate::id::NodeId;
use crate::index::{AttributeKind, AttributeSchema, Index, IndexError, SectionKind};

/// The attribute columns of one index.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    index: &'a Index,
}

impl<'a> Columns<'a> {
    /// Checks that every column has its sections, each as long as the number of rows asks for.
    ///
    /// # Errors
    /// [`IndexError::MissingSection`] or [`IndexError::WrongSectionLength`].
    pub fn open(index: &'a Index) -> Result<Self, IndexError> {
        let rows = index.len() as u64;
        for (column, schema) in index.metadata().attributes.iter().enumerate() {
            let ordinal = column as u32;
            index.expect_bytes(SectionKind::AttributeValidity, ordinal, rows.div_ceil(8))?;
            let value_bytes = match schema.kind {
                AttributeKind::Int64
                | AttributeKind::Uint64
                | AttributeKind::Double
                | AttributeKind::Timestamp => rows * 8,
                AttributeKind::Bool => rows,
                AttributeKind::Keyword => rows * 4,
                AttributeKind::KeywordList => {
                    index.expect_bytes(SectionKind::AttributeLists, ordinal, (rows + 1) * 8)?;
                    last_of(index, SectionKind::AttributeLists, ordinal).saturating_mul(4)
                }
            };
            index.expect_bytes(SectionKind::AttributeValues, ordinal, value_bytes)?;
            if matches!(schema.kind, AttributeKind::Keyword | AttributeKind::KeywordList) {
                let found = index.section_length(SectionKind::AttributeWordOffsets, ordinal)?;
                let expected = found.next_multiple_of(8).max(8);
                index.expect_bytes(SectionKind::AttributeWordOffsets, ordinal, expected)?;
                let words = last_of(index, SectionKind::AttributeWordOffsets, ordinal);
                index.expect_bytes(SectionKind::AttributeWords, ordinal, words)?;
            }
        }
        Ok(Self { index })
    }

    /// The columns of an index that [`Columns::open`] has accepted before.
    pub fn of(index: &'a Index) -> Self {
        Self { index }
    }

    /// Names and types, by ordinal.
    pub fn schema(&self) -> &'a [AttributeSchema] {
        &self.index.metadata().attributes
    }

    /// The ordinal of a column.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.schema().iter().position(|column| column.name == name)
    }

    /// The value of one column for one video; `None` where it is null.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn value(&self, column: usize, node: NodeId) -> Option<Value> {
        if self.is_null(column, node.index()) { None } else { self.stored(column, node.index()) }
    }

    /// Checks that every value can be read.
    ///
    /// # Errors
    /// [`IndexError::BadEntry`] for the first that cannot.
    pub fn verify(&self) -> Result<(), IndexError> {
        for (column, schema) in self.schema().iter().enumerate() {
            for row in (0..self.index.len()).filter(|row| !self.is_null(column, *row)) {
                if self.stored(column, row).is_none() {
                    let problem = format!("column {:?} has no readable {:?} there", schema.name, schema.kind);
                    let section = SectionKind::AttributeValues;
                    return Err(IndexError::bad_entry(self.index.path(), section, row, problem));
                }
            }
        }
        Ok(())
    }

    fn is_null(&self, column: usize, row: usize) -> bool {
        let validity: &[u8] = self.index.column(SectionKind::AttributeValidity, column as u32);
        validity.get(row / 8).is_none_or(|bits| bits & (1 << (row % 8)) == 0)
    }

    fn stored(&self, column: usize, row: usize) -> Option<Value> {
        let ordinal = column as u32;
        let values = SectionKind::AttributeValues;
        Some(match self.schema()[column].kind {
            AttributeKind::Int64 => Value::Int64(*self.index.column(values, ordinal).get(row)?),
            AttributeKind::Uint64 => Value::Uint64(*self.index.column(values, ordinal).get(row)?),
            AttributeKind::Double => Value::Double(*self.index.column(values, ordinal).get(row)?),
            AttributeKind::Bool => Value::Bool(*self.index.column::<u8>(values, ordinal).get(row)? != 0),
            AttributeKind::Timestamp => {
                let micros: i64 = *self.index.column(values, ordinal).get(row)?;
                Value::Timestamp(Timestamp::from_microsecond(micros).ok()?)
            }
            AttributeKind::Keyword => {
                let code: u32 = *self.index.column(values, ordinal).get(row)?;
                Value::Keyword(self.word(ordinal, code)?.to_owned())
            }
            AttributeKind::KeywordList => {
                let codes: &[u32] = self.index.column(values, ordinal);
                let range = self.range(SectionKind::AttributeLists, ordinal, row)?;
                let words = codes.get(range)?.iter().map(|code| self.word(ordinal, *code).map(str::to_owned));
                Value::KeywordList(words.collect::<Option<_>>()?)
            }
        })
    }

    fn word(&self, ordinal: u32, code: u32) -> Option<&'a str> {
        let range = self.range(SectionKind::AttributeWordOffsets, ordinal, code as usize)?;
        let text: &'a [u8] = self.index.column(SectionKind::AttributeWords, ordinal);
        std::str::from_utf8(text.get(range)?).ok()
    }

    fn range(&self, offsets: SectionKind, ordinal: u32, entry: usize) -> Option<std::ops::Range<usize>> {
        let offsets: &[u64] = self.index.column(offsets, ordinal);
        Some(usize::try_from(*offsets.get(entry)?).ok()?..usize::try_from(*offsets.get(entry + 1)?).ok()?)
    }
}

fn last_of(index: &Index, kind: SectionKind, ordinal: u32) -> u64 {
    index.column::<u64>(kind, ordinal).last().copied().unwrap_or_default()
}
