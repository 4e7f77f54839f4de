//! The nodes of the words of a column, as they lie in the file.

use crate::graph::NodeSet;
use crate::index::{Index, SectionKind};
use crate::serialized_bitmap::SerializedBitmap;

/// The dictionary of one column and the nodes of each of its words.
///
/// A damaged file may give other nodes than those that have the word, but none that the index does not have.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    text: &'a [u8],
    text_offsets: &'a [u64],
    postings: Postings<'a>,
}

impl<'a> Words<'a> {
    pub(super) fn of(index: &'a Index, ordinal: u32) -> Self {
        Self {
            text: index.column(SectionKind::AttributeWords, ordinal),
            text_offsets: index.column(SectionKind::AttributeWordOffsets, ordinal),
            postings: Postings::of(index, ordinal),
        }
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.text_offsets.len().saturating_sub(1)
    }

    /// Whether no video has any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a word, if a video has it.
    pub fn find(&self, word: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.bytes(middle)?.cmp(word.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle as u32),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The nodes of each word, by its number.
    pub fn postings(&self) -> Postings<'a> {
        self.postings
    }

    pub(super) fn bytes(&self, word: usize) -> Option<&'a [u8]> {
        part(self.text, self.text_offsets, word)
    }
}

/// The nodes of each word of one column, or of false and true where it has bools.
#[derive(Clone, Copy, Debug)]
pub struct Postings<'a> {
    bitmaps: &'a [u8],
    offsets: &'a [u64],
}

impl<'a> Postings<'a> {
    pub(super) fn of(index: &'a Index, ordinal: u32) -> Self {
        Self {
            bitmaps: index.column(SectionKind::AttributePostings, ordinal),
            offsets: index.column(SectionKind::AttributePostingOffsets, ordinal),
        }
    }

    /// Adds the nodes of a word to `set`.
    pub fn add_to(&self, word: u32, set: &mut NodeSet) {
        // The containers go unchecked here: that reads every bit of them, which takes longer than to add them.
        // What a damaged one has beyond the nodes is passed over or taken out.
        if let Some(bitmap) = self.bytes(word as usize).and_then(|bytes| SerializedBitmap::skim(bytes).ok()) {
            bitmap.add_to(set.words_mut());
            set.trim();
        }
    }

    pub(super) fn bytes(&self, word: usize) -> Option<&'a [u8]> {
        part(self.bitmaps, self.offsets, word)
    }
}

fn part<'a>(bytes: &'a [u8], offsets: &[u64], entry: usize) -> Option<&'a [u8]> {
    let (start, end) = (*offsets.get(entry)?, *offsets.get(entry + 1)?);
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}
