//! What a video counts under when candidates are counted by the value of an attribute.

use crate::id::NodeId;
use crate::index::{AttributeKind, Index, SectionKind};

/// Up to so many items are compared all with all, and more of them sorted.
const SHORT_LIST: usize = 32;

/// The values of one column as numbers that are equal where the values are, bound once to look up many nodes.
#[derive(Clone, Copy, Debug)]
pub struct ValueKeys<'a> {
    /// One bit per row, the least significant first.
    validity: &'a [u8],
    values: Keys<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Keys<'a> {
    /// Dictionary codes.
    Words(&'a [u32]),
    /// Dictionary codes, and where the list of each row starts among them.
    Lists(&'a [u32], &'a [u64]),
    Integers(&'a [u64]),
    Bools(&'a [u8]),
}

impl<'a> ValueKeys<'a> {
    /// `None` for a type whose values are rarely equal.
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
        Some(Self { validity: index.column(SectionKind::AttributeValidity, ordinal), values })
    }

    /// Appends the keys of the values that a video has, each once: none for null, several for a list.
    #[inline]
    pub fn append(&self, node: NodeId, keys: &mut Vec<u64>) {
        let row = node.index();
        if self.validity.get(row / 8).is_none_or(|bits| bits >> (row % 8) & 1 == 0) {
            return;
        }
        match self.values {
            Keys::Words(codes) => keys.extend(codes.get(row).map(|code| u64::from(*code))),
            Keys::Lists(codes, starts) => append_list(codes, starts, row, keys),
            Keys::Integers(values) => keys.extend(values.get(row)),
            Keys::Bools(values) => keys.extend(values.get(row).map(|value| u64::from(*value != 0))),
        }
    }
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
