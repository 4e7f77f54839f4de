//! The nodes of a column sorted by number or time, as stored in the file.

use std::ops::Range;

use super::invert::{marked, marks_of};
use crate::index::{AttributeKind, Index, SectionKind};
use crate::node_set::NodeSet;

/// The nodes of one column of numbers or times, sorted by value. Nodes with null or NaN are omitted.
///
/// With a damaged file, lookups may return wrong nodes, but only nodes of the index.
#[derive(Clone, Copy, Debug)]
pub struct Sorted<'a> {
    values: Values<'a>,
    order: &'a [u32],
    /// `[mark_count × words of a set]`: bitmaps of prefixes of `order`.
    marks: &'a [u32],
    mark_count: usize,
}

/// One number or time, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// Signed 64-bit.
    Int64(i64),
    /// Unsigned 64-bit.
    Uint64(u64),
    /// Double precision; never NaN.
    Double(f64),
    /// Microseconds since 1970-01-01 00:00 UTC.
    Micros(i64),
}

#[derive(Clone, Copy, Debug)]
enum Values<'a> {
    Int64(&'a [i64]),
    Uint64(&'a [u64]),
    Double(&'a [f64]),
    Micros(&'a [i64]),
}

impl<'a> Sorted<'a> {
    /// Returns `None` for a column of another type.
    pub(super) fn of(index: &'a Index, kind: AttributeKind, ordinal: u32) -> Option<Self> {
        let values = SectionKind::AttributeValues;
        let values = match kind {
            AttributeKind::Int64 => Values::Int64(index.column(values, ordinal)),
            AttributeKind::Uint64 => Values::Uint64(index.column(values, ordinal)),
            AttributeKind::Double => Values::Double(index.column(values, ordinal)),
            AttributeKind::Timestamp => Values::Micros(index.column(values, ordinal)),
            AttributeKind::Bool | AttributeKind::Keyword | AttributeKind::KeywordList => return None,
        };
        let order = index.column(SectionKind::AttributeOrder, ordinal);
        let marks = index.column(SectionKind::AttributeMarks, ordinal);
        Some(Self { values, order, marks, mark_count: marks_of(index.format_version()) })
    }

    /// Returns whether both belong to the same column.
    pub fn is_same(&self, other: &Sorted<'_>) -> bool {
        std::ptr::eq(self.order, other.order)
    }

    /// Returns the number of nodes in the order.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns whether no video has a number or time.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Returns the position of the first value for which `before` is false. `before` must be true for a prefix of the
    /// sorted values and false for all others.
    pub fn position(&self, mut before: impl FnMut(Scalar) -> bool) -> usize {
        self.order.partition_point(|node| self.value(*node).is_some_and(&mut before))
    }

    /// Sets `set` to the nodes at these positions of the order, replacing its contents.
    pub fn fill(&self, positions: Range<usize>, set: &mut NodeSet) {
        let start = positions.start.min(self.len());
        let end = positions.end.clamp(start, self.len());
        let (low, high) = (self.nearest_prefix(start), self.nearest_prefix(end));
        let (low_end, high_end) = (self.prefix_end(low), self.prefix_end(high));
        let words = set.words_mut();
        if low == high {
            words.fill(0);
            insert(words, &self.order[start..end]);
        } else {
            match (self.prefix(low, words.len()), self.prefix(high, words.len())) {
                (None, Some(high)) => words.copy_from_slice(high),
                (Some(low), Some(high)) => {
                    words
                        .iter_mut()
                        .zip(high.iter().zip(low))
                        .for_each(|(word, (high, low))| *word = high & !low);
                }
                (_, None) => words.fill(0),
            }
            // Each correction covers at most half of the distance to the next prefix, so they do not overlap.
            insert(words, &self.order[start..low_end.max(start)]);
            clear(words, &self.order[low_end..start.max(low_end)]);
            insert(words, &self.order[high_end..end.max(high_end)]);
            clear(words, &self.order[end..high_end.max(end)]);
        }
        set.trim();
    }

    fn value(&self, node: u32) -> Option<Scalar> {
        let row = node as usize;
        Some(match self.values {
            Values::Int64(values) => Scalar::Int64(*values.get(row)?),
            Values::Uint64(values) => Scalar::Uint64(*values.get(row)?),
            Values::Double(values) => Scalar::Double(*values.get(row)?),
            Values::Micros(values) => Scalar::Micros(*values.get(row)?),
        })
    }

    /// Returns the prefix that ends nearest to a position. Prefix 0 is empty; prefix j has the nodes of mark j − 1.
    fn nearest_prefix(&self, position: usize) -> usize {
        let near = position * self.mark_count / self.len().max(1);
        let distance = |prefix: &usize| self.prefix_end(*prefix).abs_diff(position);
        (near..=self.mark_count.min(near + 1)).min_by_key(distance).unwrap_or(self.mark_count)
    }

    /// Returns the bitmap of a prefix; `None` for the empty prefix, or if the file has too few words.
    fn prefix(&self, prefix: usize, words: usize) -> Option<&'a [u32]> {
        let start = prefix.checked_sub(1)? * words;
        self.marks.get(start..start + words)
    }

    /// Returns the number of nodes in a prefix.
    fn prefix_end(&self, prefix: usize) -> usize {
        prefix.checked_sub(1).map_or(0, |mark| marked(mark, self.mark_count, self.len()))
    }
}

fn insert(words: &mut [u32], nodes: &[u32]) {
    for node in nodes {
        if let Some(word) = words.get_mut(*node as usize / 32) {
            *word |= 1 << (node % 32);
        }
    }
}

fn clear(words: &mut [u32], nodes: &[u32]) {
    for node in nodes {
        if let Some(word) = words.get_mut(*node as usize / 32) {
            *word &= !(1 << (node % 32));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::invert::{inverted, marks, sorted};
    use super::*;
    use crate::index::{FILTER_VERSION, FORMAT_VERSION};

    proptest! {
        #[test]
        fn fills_a_set_with_the_nodes_of_any_positions(
            values in prop::collection::vec(prop::option::weighted(0.9, 0u64..40), 1..700),
            positions in prop::collection::vec((0usize..800, 0usize..800), 20),
            version in prop::sample::select(vec![FILTER_VERSION, FORMAT_VERSION]),
        ) {
            let order: &[u32] = &sorted(&values);
            let [_, (_, found_marks)] = inverted(order, values.len());
            let mark_count = marks_of(version);
            let marks = marks(order, values.len(), mark_count);
            if version == FORMAT_VERSION {
                prop_assert_eq!(bytemuck::pod_collect_to_vec::<u8, u32>(&found_marks), marks.clone());
            }
            let stored: Vec<u64> = values.iter().map(|value| value.unwrap_or_default()).collect();
            let sorted = Sorted { values: Values::Uint64(&stored), order, marks: &marks, mark_count };
            let by_value = |pair: &[u32]| {
                let [first, second] = [pair[0], pair[1]].map(|node| (values[node as usize], node));
                first < second
            };
            prop_assert!(order.windows(2).all(by_value));
            prop_assert_eq!(sorted.len(), values.iter().flatten().count());
            for bound in 0..41 {
                let below = values.iter().flatten().filter(|value| **value < bound).count();
                let position = sorted.position(|value| matches!(value, Scalar::Uint64(value) if value < bound));
                prop_assert_eq!(position, below);
            }
            let mut set = NodeSet::all(values.len());
            let whole = [(0, sorted.len()), (0, 0), (sorted.len(), sorted.len())];
            for (start, end) in positions.into_iter().chain(whole) {
                sorted.fill(start..end, &mut set);
                let mut expected = NodeSet::none(values.len());
                let within = start.min(order.len())..end.clamp(start.min(order.len()), order.len());
                order[within].iter().for_each(|node| expected.insert(*node));
                prop_assert_eq!(&set, &expected, "{}..{}", start, end);
            }
        }
    }
}
