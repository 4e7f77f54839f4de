//! Attribute columns of an open index: typed values, read directly from the mapped file.

use super::invert::marks_of;
use super::keys::ValueKeys;
use super::levels::{self, Levels};
use super::numbers::Numbers;
use super::sorted::{Scalar, Sorted};
use super::value::Value;
use super::words::{Postings, Words, slots_of};
use crate::base::id::NodeId;
use crate::base::instant::Instant;
use crate::index::{
    AttributeKind, AttributeSchema, FILTER_VERSION, Index, IndexError, LEVELS_VERSION, SectionKind,
    WORD_SLOTS_VERSION,
};
use crate::node_set::NodeSet;

/// Most bytes of the words of one list, far above what a request can write.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// The attribute columns of one index.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    pub(super) index: &'a Index,
}

impl<'a> Columns<'a> {
    /// Checks that every column has its sections, that their lengths match the number of rows, and that no list and no word
    /// overlaps another: values that searches return are bounded by what the file holds.
    ///
    /// # Errors
    /// [`IndexError::MissingSection`], [`IndexError::WrongSectionLength`] or [`IndexError::BadEntry`].
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
            if schema.kind == AttributeKind::KeywordList {
                expect_ascending(index, SectionKind::AttributeLists, ordinal)?;
            }
            if matches!(schema.kind, AttributeKind::Keyword | AttributeKind::KeywordList) {
                let found = index.section_length(SectionKind::AttributeWordOffsets, ordinal)?;
                let expected = found.next_multiple_of(8).max(8);
                index.expect_bytes(SectionKind::AttributeWordOffsets, ordinal, expected)?;
                let words = last_of(index, SectionKind::AttributeWordOffsets, ordinal);
                index.expect_bytes(SectionKind::AttributeWords, ordinal, words)?;
                expect_ascending(index, SectionKind::AttributeWordOffsets, ordinal)?;
                let slots = index.section_length(SectionKind::AttributeWordSlots, ordinal);
                if index.format_version() >= WORD_SLOTS_VERSION || slots.is_ok() {
                    let expected = slots_of((expected / 8 - 1) as usize) as u64 * 4;
                    index.expect_bytes(SectionKind::AttributeWordSlots, ordinal, expected)?;
                }
            }
            if schema.kind == AttributeKind::KeywordList {
                expect_bounded_lists(index, ordinal)?;
            }
            if index.format_version() >= FILTER_VERSION {
                expect_inverted(index, schema.kind, ordinal)?;
            }
            if index.format_version() >= LEVELS_VERSION && schema.kind.has_levels() {
                index.section_length(SectionKind::Levels, 0)?;
                let found = index.section_length(SectionKind::AttributeLevelValues, ordinal)?;
                let expected = found.next_multiple_of(8).clamp(8, 8 * (levels::MOST as u64 + 1));
                index.expect_bytes(SectionKind::AttributeLevelValues, ordinal, expected)?;
            }
        }
        Ok(Self { index })
    }

    /// Returns the columns of an index that [`Columns::open`] has accepted before.
    pub fn of(index: &'a Index) -> Self {
        Self { index }
    }

    /// Returns names and types, by ordinal.
    pub fn schema(&self) -> &'a [AttributeSchema] {
        &self.index.metadata().attributes
    }

    /// Returns the ordinal of a column; `None` if there is no such column.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.schema().iter().position(|column| column.name == name)
    }

    /// Returns the value of one column for one video; `None` if it is null.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn value(&self, column: usize, node: NodeId) -> Option<Value> {
        if self.is_null(column, node.index()) { None } else { self.stored(column, node.index()) }
    }

    /// Returns the numbers or times of the nodes; `None` for a column of another type.
    pub fn numbers(&self, column: usize) -> Option<Numbers<'a>> {
        Numbers::of(self.index, self.kind(column)?, column as u32)
    }

    /// Returns the index that contains the columns.
    pub fn index(&self) -> &'a Index {
        self.index
    }

    /// Returns whether the nodes of a value can be looked up. False for a generation of an older format: its
    /// [`Columns::words`], [`Columns::bools`] and [`Columns::sorted`] have no nodes.
    pub fn are_inverted(&self) -> bool {
        self.index.format_version() >= FILTER_VERSION
    }

    /// Returns the dictionary and the nodes of each word; `None` for a column without words.
    pub fn words(&self, column: usize) -> Option<Words<'a>> {
        matches!(self.kind(column)?, AttributeKind::Keyword | AttributeKind::KeywordList)
            .then(|| Words::of(self.index, column as u32))
    }

    /// Returns the nodes with false as word 0, and with true as word 1; `None` for a column of another type.
    pub fn bools(&self, column: usize) -> Option<Postings<'a>> {
        (self.kind(column)? == AttributeKind::Bool).then(|| Postings::of(self.index, column as u32))
    }

    /// Returns the nodes sorted by number or time; `None` for a column of another type.
    pub fn sorted(&self, column: usize) -> Option<Sorted<'a>> {
        Sorted::of(self.index, self.kind(column)?, column as u32)
    }

    /// Returns the numbers or times in one byte per node; `None` for a column of another type, and for a generation of an older
    /// format.
    pub fn levels(&self, column: usize) -> Option<Levels<'a>> {
        Levels::of(self.index, column)
    }

    /// Returns the nodes whose time is `earliest` or later; `None` for a column without times. Scans all times if the
    /// columns are not inverted.
    pub fn since(&self, column: usize, earliest: Instant) -> Option<NodeSet> {
        let sorted = self.sorted(column).filter(|_| self.kind(column) == Some(AttributeKind::Timestamp))?;
        let earliest = earliest.as_nanosecond();
        let is_before = |time: i64| i128::from(time) * 1000 < earliest;
        let mut nodes = NodeSet::none(self.index.len());
        if self.are_inverted() {
            let before = |time| matches!(time, Scalar::Micros(time) if is_before(time));
            sorted.fill(sorted.position(before)..sorted.len(), &mut nodes);
        } else {
            let times: &[i64] = self.index.column(SectionKind::AttributeValues, column as u32);
            self.fill_with_valued(column, &mut nodes);
            times
                .iter()
                .zip(0..)
                .filter(|(time, _)| is_before(**time))
                .for_each(|(_, node)| nodes.remove(node));
        }
        Some(nodes)
    }

    /// Sets `set` to the nodes that have a value, replacing its contents.
    ///
    /// # Panics
    /// If the set is not sized for the nodes of the index.
    pub fn fill_with_valued(&self, column: usize, set: &mut NodeSet) {
        assert_eq!(set.nodes(), self.index.len(), "expected a set for the nodes of this index");
        let validity: &[u8] = self.index.column(SectionKind::AttributeValidity, column as u32);
        let (whole, rest) = validity.as_chunks::<4>();
        let words = set.words_mut();
        words.iter_mut().zip(whole).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
        if let Some(last) = words.get_mut(whole.len()) {
            *last = rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        set.trim();
    }

    /// Returns the values as keys to count by; `None` for a column of doubles or times.
    pub fn value_keys(&self, column: usize) -> Option<ValueKeys<'a>> {
        ValueKeys::of(self.index, self.kind(column)?, column as u32)
    }

    fn kind(&self, column: usize) -> Option<AttributeKind> {
        self.schema().get(column).map(|schema| schema.kind)
    }

    pub(super) fn is_null(&self, column: usize, row: usize) -> bool {
        let validity: &[u8] = self.index.column(SectionKind::AttributeValidity, column as u32);
        validity.get(row / 8).is_none_or(|bits| bits & (1 << (row % 8)) == 0)
    }

    pub(super) fn stored(&self, column: usize, row: usize) -> Option<Value> {
        let ordinal = column as u32;
        let values = SectionKind::AttributeValues;
        Some(match self.schema()[column].kind {
            AttributeKind::Int64 => Value::Int64(*self.index.column(values, ordinal).get(row)?),
            AttributeKind::Uint64 => Value::Uint64(*self.index.column(values, ordinal).get(row)?),
            AttributeKind::Double => Value::Double(*self.index.column(values, ordinal).get(row)?),
            AttributeKind::Bool => Value::Bool(*self.index.column::<u8>(values, ordinal).get(row)? != 0),
            AttributeKind::Timestamp => {
                let micros: i64 = *self.index.column(values, ordinal).get(row)?;
                Value::Timestamp(Instant::from_microsecond(micros).ok()?)
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

    pub(super) fn range(
        &self,
        offsets: SectionKind,
        ordinal: u32,
        entry: usize,
    ) -> Option<std::ops::Range<usize>> {
        let offsets: &[u64] = self.index.column(offsets, ordinal);
        Some(usize::try_from(*offsets.get(entry)?).ok()?..usize::try_from(*offsets.get(entry + 1)?).ok()?)
    }
}

/// Checks the lengths of the sections that [`super::invert`] made.
fn expect_inverted(index: &Index, kind: AttributeKind, ordinal: u32) -> Result<(), IndexError> {
    let rows = index.len() as u64;
    let offsets = match kind {
        AttributeKind::Keyword | AttributeKind::KeywordList => {
            index.section_length(SectionKind::AttributeWordOffsets, ordinal)?
        }
        AttributeKind::Bool => 3 * 8,
        AttributeKind::Int64 | AttributeKind::Uint64 | AttributeKind::Double | AttributeKind::Timestamp => {
            let found = index.section_length(SectionKind::AttributeOrder, ordinal)?;
            let expected = found.next_multiple_of(4).min(rows * 4);
            index.expect_bytes(SectionKind::AttributeOrder, ordinal, expected)?;
            let marks = marks_of(index.format_version()) as u64 * rows.div_ceil(32) * 4;
            return index.expect_bytes(SectionKind::AttributeMarks, ordinal, marks);
        }
    };
    index.expect_bytes(SectionKind::AttributePostingOffsets, ordinal, offsets)?;
    let postings = last_of(index, SectionKind::AttributePostingOffsets, ordinal);
    index.expect_bytes(SectionKind::AttributePostings, ordinal, postings)
}

/// Checks that offsets ascend. Their last one is the length of what they lead to.
fn expect_ascending(index: &Index, offsets: SectionKind, ordinal: u32) -> Result<(), IndexError> {
    let found: &[u64] = index.column(offsets, ordinal);
    match found.windows(2).position(|pair| pair[0] > pair[1]) {
        None => Ok(()),
        Some(at) => {
            let problem = format!("expected {} or more, found {}", found[at], found[at + 1]);
            Err(IndexError::bad_entry(index.path(), offsets, at + 1, problem))
        }
    }
}

/// Checks that the words of no list have more than [`MAX_LIST_BYTES`] together. A list may repeat a word that the file has
/// once.
fn expect_bounded_lists(index: &Index, ordinal: u32) -> Result<(), IndexError> {
    let lists: &[u64] = index.column(SectionKind::AttributeLists, ordinal);
    let words: &[u64] = index.column(SectionKind::AttributeWordOffsets, ordinal);
    let longest =
        |offsets: &[u64]| offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    if longest(lists).saturating_mul(longest(words)) <= MAX_LIST_BYTES {
        return Ok(());
    }
    let codes: &[u32] = index.column(SectionKind::AttributeValues, ordinal);
    let bytes_of = |code: &u32| {
        let word = words.get(*code as usize..).and_then(|from| from.first_chunk::<2>());
        word.map_or(0, |[start, end]| end - start)
    };
    for (row, pair) in lists.windows(2).enumerate() {
        let list = codes.get(pair[0] as usize..pair[1] as usize).unwrap_or_default();
        let bytes = list.iter().map(bytes_of).fold(0, u64::saturating_add);
        if bytes > MAX_LIST_BYTES {
            let problem = format!("expected a list of at most {MAX_LIST_BYTES} bytes, found {bytes}");
            return Err(IndexError::bad_entry(index.path(), SectionKind::AttributeLists, row, problem));
        }
    }
    Ok(())
}

fn last_of(index: &Index, kind: SectionKind, ordinal: u32) -> u64 {
    index.column::<u64>(kind, ordinal).last().copied().unwrap_or_default()
}
