//! Typed attribute columns in memory: one value or null per row.
//!
//! What flows in: values in row order, from a file, a request or an open index. What flows out: the same values by
//! row. Nothing here knows of files or of the sections of an index.
//!
//! ```text
//! Numbers       values  [rows] T                  validity  one bit per row
//! Keywords      text  all words, one after another    ends  [rows] where each ends     validity
//! KeywordLists  words of all lists, as above          ends  [rows] where each list ends, in words     validity
//! ```

use std::ops::Range;

/// One attribute of every video.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeColumn {
    /// The name of the attribute: of the Parquet column, if it was read from a file.
    pub name: String,
    /// `[rows]`, nulls included.
    pub values: ColumnValues,
}

/// The values of one attribute in the type that an index stores.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnValues {
    /// Text.
    Keyword(Keywords),
    /// Lists of text.
    KeywordList(KeywordLists),
    /// Signed integers.
    Int64(Numbers<i64>),
    /// Unsigned integers.
    Uint64(Numbers<u64>),
    /// Floating-point numbers.
    Double(Numbers<f64>),
    /// Booleans.
    Bool(Numbers<bool>),
    /// Times in microseconds since 1970-01-01 00:00 UTC.
    Timestamp(Numbers<i64>),
}

impl ColumnValues {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Keyword(values) => values.len(),
            Self::KeywordList(values) => values.len(),
            Self::Int64(values) | Self::Timestamp(values) => values.len(),
            Self::Uint64(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `count` rows without a value.
    pub fn push_nulls(&mut self, count: usize) {
        match self {
            Self::Keyword(values) => (0..count).for_each(|_| values.push(None)),
            Self::KeywordList(values) => (0..count).for_each(|_| values.end_list(false)),
            Self::Int64(values) | Self::Timestamp(values) => (0..count).for_each(|_| values.push(None)),
            Self::Uint64(values) => (0..count).for_each(|_| values.push(None)),
            Self::Double(values) => (0..count).for_each(|_| values.push(None)),
            Self::Bool(values) => (0..count).for_each(|_| values.push(None)),
        }
    }

    /// Appends the rows of `other`, if they are of the same type or either has only nulls.
    pub(super) fn append(&mut self, mut other: Self) -> Result<(), Mismatch> {
        if self.is_null() {
            let nulls = std::mem::replace(self, other.empty()).len();
            self.push_nulls(nulls);
        } else if other.is_null() {
            let nulls = std::mem::replace(&mut other, self.empty()).len();
            other.push_nulls(nulls);
        }
        match (self, other) {
            (Self::Keyword(values), Self::Keyword(other)) => {
                other.iter().for_each(|value| values.push(value));
            }
            (Self::KeywordList(values), Self::KeywordList(other)) => {
                (0..other.len()).for_each(|row| values.push(other.get(row)));
            }
            (Self::Int64(values), Self::Int64(other)) | (Self::Timestamp(values), Self::Timestamp(other)) => {
                other.iter().for_each(|value| values.push(value));
            }
            (Self::Uint64(values), Self::Uint64(other)) => other.iter().for_each(|value| values.push(value)),
            (Self::Double(values), Self::Double(other)) => other.iter().for_each(|value| values.push(value)),
            (Self::Bool(values), Self::Bool(other)) => other.iter().for_each(|value| values.push(value)),
            (values, other) => return Err(Mismatch { expected: values.kind(), found: other.kind() }),
        }
        Ok(())
    }

    fn empty(&self) -> Self {
        match self {
            Self::Keyword(_) => Self::Keyword(Keywords::default()),
            Self::KeywordList(_) => Self::KeywordList(KeywordLists::default()),
            Self::Int64(_) => Self::Int64(Numbers::default()),
            Self::Uint64(_) => Self::Uint64(Numbers::default()),
            Self::Double(_) => Self::Double(Numbers::default()),
            Self::Bool(_) => Self::Bool(Numbers::default()),
            Self::Timestamp(_) => Self::Timestamp(Numbers::default()),
        }
    }

    fn is_null(&self) -> bool {
        self.validity().nulls() == self.len()
    }

    fn validity(&self) -> &Validity {
        match self {
            Self::Keyword(values) => values.validity(),
            Self::KeywordList(values) => values.validity(),
            Self::Int64(values) | Self::Timestamp(values) => values.validity(),
            Self::Uint64(values) => values.validity(),
            Self::Double(values) => values.validity(),
            Self::Bool(values) => values.validity(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Keyword(_) => "text",
            Self::KeywordList(_) => "lists of text",
            Self::Int64(_) => "integers",
            Self::Uint64(_) => "unsigned integers",
            Self::Double(_) => "floating-point numbers",
            Self::Bool(_) => "booleans",
            Self::Timestamp(_) => "times",
        }
    }
}

/// Columns of two types.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub expected: &'static str,
    pub found: &'static str,
}

/// One bit per row: whether the row has a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The bit of row `r` is bit `r % 8` of byte `r / 8`. Bits after the last row are 0.
    bits: Vec<u8>,
    rows: usize,
    nulls: usize,
}

impl Validity {
    fn push(&mut self, is_valid: bool) {
        if self.rows.is_multiple_of(8) {
            self.bits.push(0);
        }
        self.bits[self.rows / 8] |= u8::from(is_valid) << (self.rows % 8);
        self.rows += 1;
        self.nulls += usize::from(!is_valid);
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The number of rows without a value.
    pub fn nulls(&self) -> usize {
        self.nulls
    }

    /// Whether row `row` has a value.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    pub fn is_valid(&self, row: usize) -> bool {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        self.bits[row / 8] & 1 << (row % 8) != 0
    }
}

/// Numbers or booleans, one or null per row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers<T> {
    /// `[rows]`; the default of `T` where the value is null.
    values: Vec<T>,
    validity: Validity,
}

impl<T: Copy + Default> Numbers<T> {
    /// Appends a row.
    pub fn push(&mut self, value: Option<T>) {
        self.values.push(value.unwrap_or_default());
        self.validity.push(value.is_some());
    }

    /// The value of row `row`; `None` where it is null.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    pub fn get(&self, row: usize) -> Option<T> {
        self.validity.is_valid(row).then(|| self.values[row])
    }

    /// The values in row order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<T>> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Which rows have a value.
    pub fn validity(&self) -> &Validity {
        &self.validity
    }
}

impl<T: Copy + Default> FromIterator<Option<T>> for Numbers<T> {
    fn from_iter<I: IntoIterator<Item = Option<T>>>(values: I) -> Self {
        let mut numbers = Self { values: Vec::new(), validity: Validity::default() };
        values.into_iter().for_each(|value| numbers.push(value));
        numbers
    }
}

/// Strings, stored one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Words {
    text: String,
    /// Where each word ends in `text`.
    ends: Vec<usize>,
}

impl Words {
    fn push(&mut self, word: &str) {
        self.text.push_str(word);
        self.ends.push(self.text.len());
    }

    fn get(&self, word: usize) -> &str {
        &self.text[range(&self.ends, word)]
    }
}

/// Entry `at` of entries that end at `ends`.
fn range(ends: &[usize], at: usize) -> Range<usize> {
    at.checked_sub(1).map_or(0, |before| ends[before])..ends[at]
}

/// Text, one word or null per row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keywords {
    /// `[rows]`; empty where the value is null.
    words: Words,
    validity: Validity,
}

impl Keywords {
    /// Appends a row.
    pub fn push(&mut self, word: Option<&str>) {
        self.words.push(word.unwrap_or_default());
        self.validity.push(word.is_some());
    }

    /// The word of row `row`; `None` where it is null.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    pub fn get(&self, row: usize) -> Option<&str> {
        self.validity.is_valid(row).then(|| self.words.get(row))
    }

    /// The words in row order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.words.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which rows have a value.
    pub fn validity(&self) -> &Validity {
        &self.validity
    }
}

impl<S: AsRef<str>> FromIterator<Option<S>> for Keywords {
    fn from_iter<I: IntoIterator<Item = Option<S>>>(words: I) -> Self {
        let mut keywords = Self::default();
        words.into_iter().for_each(|word| keywords.push(word.as_ref().map(AsRef::as_ref)));
        keywords
    }
}

/// Lists of text, one list or null per row. No word of a list is null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeywordLists {
    /// Of all lists, in row order.
    words: Words,
    /// `[rows]`: the number of words up to the end of each list.
    ends: Vec<usize>,
    validity: Validity,
}

impl KeywordLists {
    /// Appends a row.
    pub fn push<S: AsRef<str>>(&mut self, list: Option<impl IntoIterator<Item = S>>) {
        let is_valid = list.is_some();
        list.into_iter().flatten().for_each(|word| self.push_word(word.as_ref()));
        self.end_list(is_valid);
    }

    /// Appends a word to the list that [`Self::end_list`] ends.
    pub(crate) fn push_word(&mut self, word: &str) {
        self.words.push(word);
    }

    /// Appends a row: a list of the words pushed since the row before, or null, of no words.
    pub(crate) fn end_list(&mut self, is_valid: bool) {
        self.ends.push(self.words.ends.len());
        self.validity.push(is_valid);
    }

    /// The words of row `row`; `None` where the list is null.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    pub fn get(&self, row: usize) -> Option<impl ExactSizeIterator<Item = &str>> {
        let words = range(&self.ends, row);
        self.validity.is_valid(row).then(|| words.map(|word| self.words.get(word)))
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Which rows have a list.
    pub fn validity(&self) -> &Validity {
        &self.validity
    }
}

impl<S: AsRef<str>, L: IntoIterator<Item = S>> FromIterator<Option<L>> for KeywordLists {
    fn from_iter<I: IntoIterator<Item = Option<L>>>(lists: I) -> Self {
        let mut keywords = Self::default();
        lists.into_iter().for_each(|list| keywords.push(list));
        keywords
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn columns_return_what_was_pushed(
            numbers in prop::collection::vec(any::<Option<i64>>(), 0..40),
            words in prop::collection::vec(any::<Option<String>>(), 0..40),
            lists in prop::collection::vec(prop::option::of(prop::collection::vec("[aü]{0,3}", 0..4)), 0..40),
        ) {
            let column: Numbers<i64> = numbers.iter().copied().collect();
            prop_assert_eq!(column.validity().nulls(), numbers.iter().filter(|value| value.is_none()).count());
            prop_assert_eq!(column.iter().collect::<Vec<_>>(), numbers);

            let column: Keywords = words.iter().map(Option::as_ref).collect();
            let found: Vec<_> = column.iter().map(|word| word.map(str::to_owned)).collect();
            prop_assert_eq!(found, words);

            let column: KeywordLists = lists.iter().map(Option::as_ref).collect();
            let list = |row| column.get(row).map(|words| words.map(str::to_owned).collect::<Vec<_>>());
            prop_assert_eq!((0..column.len()).map(list).collect::<Vec<_>>(), lists);
        }
    }

    #[test]
    fn nulls_are_appended_to_every_type() {
        let mut columns = [
            ColumnValues::Keyword([Some("a")].into_iter().collect()),
            ColumnValues::KeywordList([Some(["a", "b"])].into_iter().collect()),
            ColumnValues::Int64([Some(1)].into_iter().collect()),
            ColumnValues::Uint64([Some(1)].into_iter().collect()),
            ColumnValues::Double([Some(1.0)].into_iter().collect()),
            ColumnValues::Bool([Some(true)].into_iter().collect()),
            ColumnValues::Timestamp([Some(1)].into_iter().collect()),
        ];
        for column in &mut columns {
            column.push_nulls(9);
            assert_eq!(column.len(), 10);
        }
        let ColumnValues::KeywordList(lists) = &columns[1] else { panic!("expected lists") };
        assert_eq!(lists.get(0).map(|words| words.collect::<Vec<_>>()), Some(vec!["a", "b"]));
        assert!(lists.get(9).is_none());
    }
}
