//! Turns attribute columns into sections of the frozen index.

use std::collections::HashMap;

use super::bytes::bytes_of;
use super::invert::{inverted, key_of_f64, key_of_i64, postings, sorted};
use super::levels::{self, FrozenLevels};
use super::words::{fill_slots, slots_of};
use crate::base::instant::Instant;
use crate::dataset::{AttributeColumn, ColumnValues, KeywordLists, Keywords, Numbers, Validity};
use crate::index::{AttributeKind, AttributeSchema, SectionKind};

/// Why a column cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum AttributeError {
    /// A value that the type of its column cannot represent.
    #[error("attribute {column:?}, row {row}: {problem}")]
    BadValue {
        /// The name of the column.
        column: String,
        /// The row, from 0.
        row: usize,
        /// Expected and found.
        problem: String,
    },
}

/// One column, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenColumn {
    /// Name and type.
    pub schema: AttributeSchema,
    /// The sections of the column.
    pub sections: Vec<(SectionKind, Vec<u8>)>,
    /// `[rows]`: the level of each number or time; `None` for another type.
    pub levels: Option<Vec<u8>>,
}

/// A column whose values can all be stored in an index.
#[derive(Clone, Debug)]
pub struct CheckedColumn<'a> {
    schema: AttributeSchema,
    values: &'a ColumnValues,
}

/// Checks that an index can store every value of a column.
///
/// # Errors
/// [`AttributeError`] for a type that no index stores, or a time outside the years -9999 to 9999.
pub fn check(column: &AttributeColumn) -> Result<CheckedColumn<'_>, AttributeError> {
    let (name, values) = (&column.name, &column.values);
    let kind = match values {
        ColumnValues::Keyword(_) => AttributeKind::Keyword,
        ColumnValues::KeywordList(_) => AttributeKind::KeywordList,
        ColumnValues::Int64(_) => AttributeKind::Int64,
        ColumnValues::Uint64(_) => AttributeKind::Uint64,
        ColumnValues::Double(_) => AttributeKind::Double,
        ColumnValues::Bool(_) => AttributeKind::Bool,
        ColumnValues::Timestamp(times) => {
            for (row, time) in times.iter().enumerate() {
                if let Some(Err(error)) = time.map(Instant::from_microsecond) {
                    let (column, problem) = (name.clone(), error.to_string());
                    return Err(AttributeError::BadValue { column, row, problem });
                }
            }
            AttributeKind::Timestamp
        }
    };
    Ok(CheckedColumn { schema: AttributeSchema { name: name.clone(), kind }, values })
}

impl CheckedColumn<'_> {
    /// Returns the sections of the column, with the values of `rows` in that order.
    ///
    /// # Panics
    /// If a row is not below the number of rows.
    pub fn freeze(&self, rows: &[u32]) -> FrozenColumn {
        let mut levels = None;
        let (validity, mut sections) = match self.values {
            ColumnValues::Keyword(values) => (values.validity(), freeze_keywords(values, rows)),
            ColumnValues::KeywordList(values) => (values.validity(), freeze_lists(values, rows)),
            ColumnValues::Int64(values) | ColumnValues::Timestamp(values) => {
                let are_times = matches!(self.values, ColumnValues::Timestamp(_));
                let key = |value| Some(key_of_i64(value));
                (
                    values.validity(),
                    freeze_numbers(values, rows, key, |value| value as f64, are_times, &mut levels),
                )
            }
            ColumnValues::Uint64(values) => (
                values.validity(),
                freeze_numbers(values, rows, Some, |value| value as f64, false, &mut levels),
            ),
            ColumnValues::Double(values) => (
                values.validity(),
                freeze_numbers(values, rows, key_of_f64, |value| value, false, &mut levels),
            ),
            ColumnValues::Bool(values) => (values.validity(), freeze_bools(values, rows)),
        };
        sections.insert(0, (SectionKind::AttributeValidity, bitmap(validity, rows)));
        FrozenColumn { schema: self.schema.clone(), sections, levels }
    }
}

/// The values of `rows`, in that order.
fn take<'a, T: Copy + Default>(
    values: &'a Numbers<T>,
    rows: &'a [u32],
) -> impl Iterator<Item = Option<T>> + Clone {
    rows.iter().map(|row| values.get(*row as usize))
}

fn freeze_numbers<T: bytemuck::Pod + Default>(
    values: &Numbers<T>,
    rows: &[u32],
    key: impl Fn(T) -> Option<u64>,
    number: impl Fn(T) -> f64,
    are_times: bool,
    levels: &mut Option<Vec<u8>>,
) -> Vec<(SectionKind, Vec<u8>)> {
    let keys: Vec<Option<u64>> = take(values, rows).map(|value| value.and_then(&key)).collect();
    let stored: Vec<T> = take(values, rows).map(Option::unwrap_or_default).collect();
    let mut sections = vec![(SectionKind::AttributeValues, bytes_of(&stored))];
    let order = sorted(&keys);
    sections.extend(inverted(&order, rows.len()));
    let number = |node: u32| number(stored[node as usize]);
    let FrozenLevels { of_nodes, values } = levels::freeze(rows.len(), &order, number, are_times);
    sections.push((SectionKind::AttributeLevelValues, bytes_of(&values)));
    *levels = Some(of_nodes);
    sections
}

fn freeze_bools(values: &Numbers<bool>, rows: &[u32]) -> Vec<(SectionKind, Vec<u8>)> {
    let bytes = take(values, rows).map(|value| u8::from(value.unwrap_or_default())).collect();
    let of_nodes = take(values, rows).zip(0..).filter_map(|(value, node)| Some((node, u32::from(value?))));
    let mut sections = vec![(SectionKind::AttributeValues, bytes)];
    sections.extend(postings(2, of_nodes));
    sections
}

fn freeze_keywords(values: &Keywords, rows: &[u32]) -> Vec<(SectionKind, Vec<u8>)> {
    let taken = || rows.iter().map(|row| values.get(*row as usize));
    let words = Dictionary::of(taken().flatten());
    let codes: Vec<Option<u32>> = taken().map(|word| word.map(|word| words.code(word))).collect();
    let stored: Vec<u32> = codes.iter().map(|code| code.unwrap_or_default()).collect();
    let of_nodes = codes.iter().zip(0..).filter_map(|(code, node)| Some((node, (*code)?)));
    let mut sections = vec![(SectionKind::AttributeValues, bytes_of(&stored))];
    sections.extend(postings(words.words.len(), of_nodes));
    sections.extend(words.into_sections());
    sections
}

fn freeze_lists(values: &KeywordLists, rows: &[u32]) -> Vec<(SectionKind, Vec<u8>)> {
    let taken = || rows.iter().map(|row| values.get(*row as usize));
    let words = Dictionary::of(taken().flatten().flatten());
    let mut codes: Vec<u32> = Vec::new();
    let mut starts: Vec<u64> = Vec::with_capacity(rows.len() + 1);
    starts.push(0);
    for list in taken() {
        codes.extend(list.into_iter().flatten().map(|word| words.code(word)));
        starts.push(codes.len() as u64);
    }
    let lists = starts.windows(2).map(|pair| &codes[pair[0] as usize..pair[1] as usize]).zip(0..);
    let of_nodes = lists.flat_map(|(list, node)| list.iter().map(move |code| (node, *code)));
    let mut sections = vec![
        (SectionKind::AttributeValues, bytes_of(&codes)),
        (SectionKind::AttributeLists, bytes_of(&starts)),
    ];
    sections.extend(postings(words.words.len(), of_nodes));
    sections.extend(words.into_sections());
    sections
}

/// The distinct words of a column in ascending order.
struct Dictionary<'a> {
    words: Vec<&'a str>,
    codes: HashMap<&'a str, u32>,
}

impl<'a> Dictionary<'a> {
    fn of(words: impl Iterator<Item = &'a str>) -> Self {
        let mut codes: HashMap<&str, u32> = words.map(|word| (word, 0)).collect();
        let mut words: Vec<&str> = codes.keys().copied().collect();
        words.sort_unstable();
        for (code, word) in words.iter().enumerate() {
            codes.insert(word, code as u32);
        }
        Self { words, codes }
    }

    fn code(&self, word: &str) -> u32 {
        self.codes[word]
    }

    fn into_sections(self) -> [(SectionKind, Vec<u8>); 3] {
        let mut slots = vec![0; slots_of(self.words.len())];
        fill_slots(self.words.iter().map(|word| word.as_bytes()), &mut slots);
        let mut offsets = Vec::with_capacity(self.words.len() + 1);
        let mut text = Vec::new();
        offsets.push(0u64);
        for word in self.words {
            text.extend_from_slice(word.as_bytes());
            offsets.push(text.len() as u64);
        }
        [
            (SectionKind::AttributeWordOffsets, bytes_of(&offsets)),
            (SectionKind::AttributeWords, text),
            (SectionKind::AttributeWordSlots, bytes_of(&slots)),
        ]
    }
}

/// One bit per row of `rows`, the least significant first: 1 where the row has a value.
fn bitmap(validity: &Validity, rows: &[u32]) -> Vec<u8> {
    let mut bits = vec![0u8; rows.len().div_ceil(8)];
    for (at, row) in rows.iter().enumerate() {
        bits[at / 8] |= u8::from(validity.is_valid(*row as usize)) << (at % 8);
    }
    bits
}
