//! The keys under which candidates are counted when they are capped by the value of an attribute.

use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;

use super::words::Words;
use crate::base::id::NodeId;
use crate::index::{AttributeKind, Index, SectionKind};

/// Lists of up to this many items are deduplicated by comparing all pairs, longer ones by sorting.
const SHORT_LIST: usize = 32;

/// Looks up the values of one column as integer keys. Equal values have equal keys.
#[derive(Clone, Copy, Debug)]
pub struct ValueKeys<'a> {
    /// One bit per row, the least significant first.
    validity: &'a [u8],
    values: Keys<'a>,
    /// Keys by dictionary code, if the keys must match those of another index.
    words: Option<&'a [u64]>,
}

#[derive(Clone, Copy, Debug)]
enum Keys<'a> {
    /// Dictionary codes.
    Words(&'a [u32]),
    /// Dictionary codes of all lists, and the position in them where the list of each row starts.
    Lists(&'a [u32], &'a [u64]),
    Integers(&'a [u64]),
    Bools(&'a [u8]),
}

impl<'a> ValueKeys<'a> {
    /// Returns `None` for a type whose values are rarely equal.
    pub(super) fn of(index: &'a Index, kind: AttributeKind, ordinal: u32) -> Option<Self> {
        let values = SectionKind::AttributeValues;
        let values = match kind {
            AttributeKind::Keyword => Keys::Words(index.column(values, ordinal)),
            AttributeKind::KeywordList => {
                Keys::Lists(index.column(values, ordinal), index.column(SectionKind::AttributeLists, ordinal))
            }
            AttributeKind::Int64 | AttributeKind::Uint64 => Keys::Integers(index.column(values, ordinal)),
            AttributeKind::Bool => Keys::Bools(index.column(values, ordinal)),
            AttributeKind::Double | AttributeKind::Timestamp => return None,
        };
        let validity = index.column(SectionKind::AttributeValidity, ordinal);
        Some(Self { validity, values, words: None })
    }

    /// Replaces the keys of words: `words` has one key per dictionary code.
    pub fn with_words(self, words: &'a [u64]) -> Self {
        Self { words: Some(words), ..self }
    }

    /// Appends the distinct keys of the values of a video: none for null, several for a list.
    #[inline]
    pub fn append(&self, node: NodeId, keys: &mut Vec<u64>) {
        let row = node.index();
        if self.validity.get(row / 8).is_none_or(|bits| bits >> (row % 8) & 1 == 0) {
            return;
        }
        let first = keys.len();
        match self.values {
            Keys::Words(codes) => keys.extend(codes.get(row).map(|code| u64::from(*code))),
            Keys::Lists(codes, starts) => append_list(codes, starts, row, keys),
            Keys::Integers(values) => keys.extend(values.get(row)),
            Keys::Bools(values) => keys.extend(values.get(row).map(|value| u64::from(*value != 0))),
        }
        if let (Some(words), Keys::Words(_) | Keys::Lists(..)) = (self.words, self.values) {
            let keys = keys[first..].iter_mut();
            keys.for_each(|key| *key = words.get(*key as usize).copied().unwrap_or(*key));
        }
    }
}

/// Returns one key per word of a dictionary. A word that `base` has gets the key it has there; any other word gets a
/// key that no word of `base` has.
pub fn keys_of_words(words: &Words<'_>, base: &Words<'_>) -> Vec<u64> {
    let key = |word: usize| {
        let text = words.text(word).unwrap_or_default();
        // Above every code, and equal in all dictionaries with this word.
        let hash = || 1 << 63 | FxBuildHasher.hash_one(text.as_bytes()) >> 1;
        base.find(text).map_or_else(hash, u64::from)
    };
    (0..words.len()).map(key).collect()
}

fn append_list(codes: &[u32], starts: &[u64], row: usize, keys: &mut Vec<u64>) {
    let range = starts.get(row).zip(starts.get(row + 1)).map(|(start, end)| *start as usize..*end as usize);
    let list = range.and_then(|range| codes.get(range)).unwrap_or_default();
    let first = keys.len();
    if list.len() <= SHORT_LIST {
        for key in list.iter().map(|code| u64::from(*code)) {
            if !keys[first..].contains(&key) {
                keys.push(key);
            }
        }
        return;
    }
    keys.extend(list.iter().map(|code| u64::from(*code)));
    keys[first..].sort_unstable();
    let mut kept = first;
    for at in first..keys.len() {
        if kept == first || keys[kept - 1] != keys[at] {
            keys[kept] = keys[at];
            kept += 1;
        }
    }
    keys.truncate(kept);
}
