//! Checks the parts of attribute sections that opening does not read: every value, and that the inverted sections,
//! which filters read, agree with the values.

use super::column::Columns;
use super::invert::{key_of_f64, key_of_i64, marks, marks_of};
use super::levels::Levels;
use super::posting::Posting;
use super::words::{Postings, Words};
use crate::index::{AttributeKind, IndexError, SectionKind};

impl Columns<'_> {
    /// Checks that every value can be read, that every dictionary ascends, and that the nodes of every word and
    /// the order of the numbers and times are those of the values.
    ///
    /// # Errors
    /// [`IndexError::BadEntry`] for the first violation.
    pub fn verify(&self) -> Result<(), IndexError> {
        for column in 0..self.schema().len() {
            let column = Column { columns: self, column };
            column.check_values()?;
            if let Some(words) = self.words(column.column) {
                column.check_dictionary(&words)?;
            }
            if self.are_inverted() {
                column.check_inverted()?;
            }
            if let Some(levels) = self.levels(column.column) {
                column.check_levels(&levels)?;
            }
        }
        Ok(())
    }
}

struct Column<'a> {
    columns: &'a Columns<'a>,
    column: usize,
}

impl<'a> Column<'a> {
    fn check_values(&self) -> Result<(), IndexError> {
        let unreadable = self.valued().find(|row| self.columns.stored(self.column, *row).is_none());
        let kind = self.kind();
        unreadable.map_or(Ok(()), |row| {
            self.bad(SectionKind::AttributeValues, row, format!("expected a readable {kind:?}"))
        })
    }

    fn check_dictionary(&self, words: &Words<'_>) -> Result<(), IndexError> {
        let mut last: Option<&[u8]> = None;
        for word in 0..words.len() {
            let text = words.bytes(word);
            if text.is_none() || last.is_some() && last >= text {
                let problem = "expected a word after the one before it".to_owned();
                return self.bad(SectionKind::AttributeWordOffsets, word, problem);
            }
            last = text;
        }
        let misplaced = words.check_slots();
        misplaced.map_or(Ok(()), |(slot, problem)| self.bad(SectionKind::AttributeWordSlots, slot, problem))
    }

    fn check_inverted(&self) -> Result<(), IndexError> {
        match self.kind() {
            AttributeKind::Keyword => {
                let codes: &[u32] = self.section(SectionKind::AttributeValues);
                self.check_postings(|row| codes.get(row).map(std::slice::from_ref))
            }
            AttributeKind::KeywordList => {
                let codes: &[u32] = self.section(SectionKind::AttributeValues);
                let list = |row| self.columns.range(SectionKind::AttributeLists, self.column as u32, row);
                self.check_postings(|row| codes.get(list(row)?))
            }
            AttributeKind::Bool => {
                let values: &[u8] = self.section(SectionKind::AttributeValues);
                self.check_postings(|row| Some(if *values.get(row)? == 0 { &[0] } else { &[1] }))
            }
            AttributeKind::Int64 | AttributeKind::Timestamp => {
                let values: &[i64] = self.section(SectionKind::AttributeValues);
                self.check_order(|row| values.get(row).map(|value| key_of_i64(*value)))
            }
            AttributeKind::Uint64 => {
                let values: &[u64] = self.section(SectionKind::AttributeValues);
                self.check_order(|row| values.get(row).copied())
            }
            AttributeKind::Double => {
                let values: &[f64] = self.section(SectionKind::AttributeValues);
                self.check_order(|row| values.get(row).and_then(|value| key_of_f64(*value)))
            }
        }
    }

    /// Checks that every node of a posting has the word, and that no node is missing.
    fn check_postings(&self, words_of: impl Fn(usize) -> Option<&'a [u32]>) -> Result<(), IndexError> {
        let postings = Postings::of(self.columns.index, self.column as u32);
        let offsets: &[u64] = self.section(SectionKind::AttributePostingOffsets);
        let words = offsets.len().saturating_sub(1);
        if let Some(start) = offsets.first().filter(|start| **start != 0) {
            let problem = format!("expected 0, found {start}");
            return self.bad(SectionKind::AttributePostingOffsets, 0, problem);
        }
        let mut found = 0;
        for word in 0..words {
            let Some(bytes) = postings.bytes(word) else {
                let problem = format!("expected {} or more, found {}", offsets[word], offsets[word + 1]);
                return self.bad(SectionKind::AttributePostingOffsets, word + 1, problem);
            };
            let bad = |problem: String| self.bad(SectionKind::AttributePostings, word, problem);
            let posting = match Posting::parse(bytes) {
                Ok(posting) => posting,
                Err(error) => return bad(error.to_string()),
            };
            let mut unexpected = None;
            posting.for_each(|node| {
                let row = node as usize;
                let has = !self.columns.is_null(self.column, row)
                    && words_of(row).is_some_and(|words| words.contains(&(word as u32)));
                if !has {
                    unexpected.get_or_insert(node);
                }
            });
            if let Some(node) = unexpected {
                return bad(format!("expected nodes that have the word, found {node}"));
            }
            found += posting.len();
        }
        let mut distinct = Vec::new();
        let expected: usize = self
            .valued()
            .map(|row| {
                distinct.clear();
                distinct.extend_from_slice(words_of(row).unwrap_or_default());
                distinct.sort_unstable();
                distinct.dedup();
                distinct.len()
            })
            .sum();
        if found != expected as u64 {
            let problem = format!("expected {expected} nodes of all words together, found {found}");
            return self.bad(SectionKind::AttributePostings, words, problem);
        }
        Ok(())
    }

    /// Checks that keys and nodes ascend, and that no node with a key is missing.
    fn check_order(&self, key: impl Fn(usize) -> Option<u64>) -> Result<(), IndexError> {
        let order: &[u32] = self.section(SectionKind::AttributeOrder);
        let key = |row: usize| if self.columns.is_null(self.column, row) { None } else { key(row) };
        let mut last = None;
        for (position, node) in order.iter().enumerate() {
            let Some(key) = key(*node as usize) else {
                let problem = format!("expected a node with a value, found {node}");
                return self.bad(SectionKind::AttributeOrder, position, problem);
            };
            if last.is_some_and(|last| last >= (key, *node)) {
                let problem = format!("expected ascending values and nodes, found node {node}");
                return self.bad(SectionKind::AttributeOrder, position, problem);
            }
            last = Some((key, *node));
        }
        let expected = self.valued().filter(|row| key(*row).is_some()).count();
        if order.len() != expected {
            let problem = format!("expected {expected} nodes, found {}", order.len());
            return self.bad(SectionKind::AttributeOrder, order.len(), problem);
        }
        let found: &[u32] = self.section(SectionKind::AttributeMarks);
        let index = self.columns.index;
        let expected = marks(order, index.len(), marks_of(index.format_version()));
        match found.iter().zip(&expected).position(|(found, expected)| found != expected) {
            None => Ok(()),
            Some(at) => {
                let problem = format!("expected {:08x}, found {:08x}", expected[at], found[at]);
                self.bad(SectionKind::AttributeMarks, at, problem)
            }
        }
    }

    /// Checks that each node with a value, and no other, has a level, that it has a value, and that both ascend together.
    fn check_levels(&self, levels: &Levels<'_>) -> Result<(), IndexError> {
        let values = levels.values();
        if let Some(at) = (1..values.len())
            .find(|at| values[at - 1].is_nan() || values[*at].is_nan() || values[at - 1] > values[*at])
        {
            let problem = format!("expected at least {}, found {}", values[at - 1], values[at]);
            return self.bad(SectionKind::AttributeLevelValues, at + 1, problem);
        }
        let order: &[u32] = self.section(SectionKind::AttributeOrder);
        let mut last = 1;
        for node in order {
            let found = levels.of_node(*node);
            if found < last || usize::from(found) > values.len() {
                let problem = format!("expected level {last} to {}, found {found}", values.len());
                return self.bad(SectionKind::Levels, *node as usize, problem);
            }
            last = found;
        }
        let rows = self.columns.index.len();
        let found = (0..rows as u32).filter(|node| levels.of_node(*node) != 0).count();
        if found != order.len() {
            let problem = format!("expected {} nodes with a level, found {found}", order.len());
            return self.bad(SectionKind::Levels, rows, problem);
        }
        Ok(())
    }

    fn valued(&self) -> impl Iterator<Item = usize> {
        (0..self.columns.index.len()).filter(|row| !self.columns.is_null(self.column, *row))
    }

    fn kind(&self) -> AttributeKind {
        self.columns.schema()[self.column].kind
    }

    fn section<T: bytemuck::Pod>(&self, kind: SectionKind) -> &'a [T] {
        self.columns.index.column(kind, self.column as u32)
    }

    fn bad(&self, section: SectionKind, entry: usize, problem: String) -> Result<(), IndexError> {
        let name = &self.columns.schema()[self.column].name;
        let problem = format!("column {name:?}: {problem}");
        Err(IndexError::bad_entry(self.columns.index.path(), section, entry, problem))
    }
}
