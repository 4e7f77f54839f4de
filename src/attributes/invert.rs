//! Inverted columns: the nodes of every word, and the nodes sorted by number.

use rayon::prelude::*;

use super::bytes::bytes_of;
use super::posting::serialize;
use crate::base::parallel;
use crate::index::{FORMAT_VERSION, MARKS_VERSION, SectionKind};

/// Words per task of serialization: most words of a column of titles have one node each.
const WORDS_AT_A_TIME: usize = 1024;

/// Returns, for each word of `0..words`, the nodes with that word. `of_nodes`: pairs of node and word, nodes
/// ascending.
pub(super) fn postings(
    words: usize,
    of_nodes: impl Iterator<Item = (u32, u32)> + Clone,
) -> [(SectionKind, Vec<u8>); 2] {
    let mut starts = vec![0usize; words + 1];
    of_nodes.clone().for_each(|(_, word)| starts[word as usize + 1] += 1);
    for word in 0..words {
        starts[word + 1] += starts[word];
    }
    let mut nodes = vec![0u32; starts[words]];
    let mut ends = starts[..words].to_vec();
    for (node, word) in of_nodes {
        let (start, end) = (starts[word as usize], &mut ends[word as usize]);
        // A list may have a word twice.
        if *end == start || nodes[*end - 1] != node {
            nodes[*end] = node;
            *end += 1;
        }
    }
    let groups: Vec<&[u32]> = starts.iter().zip(&ends).map(|(start, end)| &nodes[*start..*end]).collect();
    let chunks = parallel::map_chunks(&groups, WORDS_AT_A_TIME, 1, |_, groups| serialized(groups));
    let mut offsets = Vec::with_capacity(words + 1);
    offsets.push(0u64);
    let mut bitmaps = Vec::with_capacity(chunks.iter().map(|(bytes, _)| bytes.len()).sum());
    for (bytes, ends) in chunks {
        offsets.extend(ends.iter().map(|end| (bitmaps.len() + end) as u64));
        bitmaps.extend(bytes);
    }
    [(SectionKind::AttributePostings, bitmaps), (SectionKind::AttributePostingOffsets, bytes_of(&offsets))]
}

/// Serializes the nodes of some words; returns the bytes, and where each word ends.
fn serialized(groups: &[&[u32]]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(groups.len());
    for nodes in groups {
        serialize(nodes, &mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// Returns the nodes sorted by `keys`, `[rows]`, without those that have no key.
pub(super) fn sorted(keys: &[Option<u64>]) -> Vec<u32> {
    let mut keyed: Vec<(u64, u32)> =
        keys.iter().zip(0..).filter_map(|(key, node)| Some(((*key)?, node))).collect();
    keyed.par_sort_unstable();
    keyed.into_iter().map(|(_, node)| node).collect()
}

/// Returns the sections of nodes in the order of their values, out of `rows`.
pub(super) fn inverted(order: &[u32], rows: usize) -> [(SectionKind, Vec<u8>); 2] {
    [
        (SectionKind::AttributeOrder, bytes_of(order)),
        (SectionKind::AttributeMarks, bytes_of(&marks(order, rows, marks_of(FORMAT_VERSION)))),
    ]
}

/// Returns the number of marks in an index: bitmaps of the first nodes by value. A range is the difference of two
/// marks, corrected at each end by at most half of the nodes between two neighboring marks.
pub(super) fn marks_of(format_version: u32) -> usize {
    if format_version < MARKS_VERSION { 32 } else { 64 }
}

/// Returns `[count × rows / 32, rounded up]`: a bitmap per mark, of its first [`marked`] nodes of `order`.
/// Nodes must be less than `rows`.
pub(super) fn marks(order: &[u32], rows: usize, count: usize) -> Vec<u32> {
    let mut mark = vec![0u32; rows.div_ceil(32)];
    let mut marks = Vec::with_capacity(count * mark.len());
    for bitmap in 0..count {
        let from = bitmap.checked_sub(1).map_or(0, |last| marked(last, count, order.len()));
        for node in &order[from..marked(bitmap, count, order.len())] {
            mark[*node as usize / 32] |= 1 << (node % 32);
        }
        marks.extend_from_slice(&mark);
    }
    marks
}

/// Returns the number of nodes in mark `mark` of `count`, of an order of `nodes` nodes.
pub(super) fn marked(mark: usize, count: usize, nodes: usize) -> usize {
    (mark + 1) * nodes / count
}

/// Returns a key that sorts as the value does.
pub(super) fn key_of_i64(value: i64) -> u64 {
    value as u64 ^ (1 << 63)
}

/// Returns a key that sorts as the value does; `None` for NaN. 0 and -0 have equal keys.
pub(super) fn key_of_f64(value: f64) -> Option<u64> {
    if value.is_nan() {
        return None;
    }
    // Adding 0 makes -0 a 0.
    let bits = (value + 0.0).to_bits();
    Some(if bits >> 63 == 0 { bits | 1 << 63 } else { !bits })
}
