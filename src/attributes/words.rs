//! The dictionary of a column and the nodes of its words, as stored in the file.

use super::posting::Posting;
use crate::index::{Index, SectionKind};
use crate::node_set::NodeSet;

/// The dictionary of one column and the nodes of each of its words.
///
/// With a damaged file, lookups may return wrong nodes, but only nodes of the index.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    text: &'a [u8],
    text_offsets: &'a [u64],
    slots: &'a [u32],
    postings: Postings<'a>,
}

impl<'a> Words<'a> {
    pub(super) fn of(index: &'a Index, ordinal: u32) -> Self {
        Self {
            text: index.column(SectionKind::AttributeWords, ordinal),
            text_offsets: index.column(SectionKind::AttributeWordOffsets, ordinal),
            slots: index.column(SectionKind::AttributeWordSlots, ordinal),
            postings: Postings::of(index, ordinal),
        }
    }

    /// Returns the number of words.
    pub fn len(&self) -> usize {
        self.text_offsets.len().saturating_sub(1)
    }

    /// Returns whether no video has a word.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the code of a word; `None` if no video has it.
    pub fn find(&self, word: &str) -> Option<u32> {
        for slot in probes(word.as_bytes(), self.slots.len()) {
            let code = self.slots[slot].checked_sub(1)?;
            if self.bytes(code as usize) == Some(word.as_bytes()) {
                return Some(code);
            }
        }
        self.search(word)
    }

    /// Returns the code of a word by binary search: for a word without a slot, and for files of formats without
    /// slots.
    fn search(&self, word: &str) -> Option<u32> {
        let at = self.lower_bound(word);
        (self.bytes(at)? == word.as_bytes()).then_some(at as u32)
    }

    /// The number of words that come before `text`.
    fn lower_bound(&self, text: &str) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.bytes(middle).is_some_and(|bytes| bytes < text.as_bytes()) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Returns the text of word `word`; `None` if there is no such word, or the text of a damaged file is invalid.
    pub fn text(&self, word: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(word)?).ok()
    }

    /// Returns the words that begin with `prefix`, in their order, each with the number of nodes that have it.
    pub fn with_prefix(self, prefix: &str) -> impl Iterator<Item = (&'a str, u64)> {
        let prefix = prefix.to_owned();
        (self.lower_bound(&prefix)..self.len())
            .map_while(move |word| {
                self.text(word).filter(|text| text.starts_with(&prefix)).map(|text| (word, text))
            })
            .map(move |(word, text)| {
                let posting = self.postings.bytes(word).and_then(Posting::skim);
                (text, posting.map_or(0, |posting| posting.len()))
            })
    }

    /// Returns the nodes of each word, by its code.
    pub fn postings(&self) -> Postings<'a> {
        self.postings
    }

    /// Returns the first slot with a wrong value, and a description of the error.
    pub(super) fn check_slots(&self) -> Option<(usize, String)> {
        let words = (0..self.len()).map(|word| self.bytes(word).unwrap_or_default());
        let mut expected = vec![0; self.slots.len()];
        fill_slots(words, &mut expected);
        let at = expected.iter().zip(self.slots).position(|(expected, found)| expected != found)?;
        Some((at, format!("expected {}, found {}", expected[at], self.slots[at])))
    }

    pub(super) fn bytes(&self, word: usize) -> Option<&'a [u8]> {
        slice(self.text, self.text_offsets, word)
    }
}

/// Slots probed per word. The bound keeps lookups fast if words were chosen to collide.
const MAX_PROBES: usize = 8;

/// Returns the number of slots of a dictionary of `words` words: at least twice the number of words.
pub(super) fn slots_of(words: usize) -> usize {
    if words == 0 { 0 } else { (2 * words).next_power_of_two() }
}

/// Puts each word of a dictionary into the first empty slot of its probe sequence. A word without one gets no slot.
pub(super) fn fill_slots<'w>(words: impl Iterator<Item = &'w [u8]>, slots: &mut [u32]) {
    for (word, code) in words.zip(0..) {
        if let Some(slot) = probes(word, slots.len()).find(|slot| slots[*slot] == 0) {
            slots[slot] = code + 1;
        }
    }
}

/// Returns the probe sequence of a word: the slots it may be in. Empty if there are no slots.
fn probes(word: &[u8], slots: usize) -> impl Iterator<Item = usize> {
    // The upper bits of the product depend on all of the checksum.
    let hash = u64::from(crc32c::crc32c(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (0..MAX_PROBES.min(slots)).map(move |near| (hash as usize + near) & (slots - 1))
}

/// The nodes of each word of one column, or of false (0) and true (1) of a column of bools.
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
        // Skip the full check: it reads every bit, which takes longer than adding them. Nodes of a damaged file that
        // the index does not have are ignored or trimmed.
        if let Some(posting) = self.bytes(word as usize).and_then(Posting::skim) {
            posting.add_to(set.words_mut());
            set.trim();
        }
    }

    pub(super) fn bytes(&self, word: usize) -> Option<&'a [u8]> {
        slice(self.bitmaps, self.offsets, word)
    }
}

fn slice<'a>(bytes: &'a [u8], offsets: &[u64], entry: usize) -> Option<&'a [u8]> {
    let (start, end) = (*offsets.get(entry)?, *offsets.get(entry + 1)?);
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Dictionary and slots of words that ascend.
    fn dictionary(words: &[String]) -> (String, Vec<u64>, Vec<u32>) {
        let ends = words.iter().scan(0, |end, word| {
            *end += word.len() as u64;
            Some(*end)
        });
        let offsets = std::iter::once(0).chain(ends).collect();
        let mut slots = vec![0; slots_of(words.len())];
        fill_slots(words.iter().map(|word| word.as_bytes()), &mut slots);
        (words.concat(), offsets, slots)
    }

    fn words<'a>((text, text_offsets, slots): &'a (String, Vec<u64>, Vec<u32>)) -> Words<'a> {
        let postings = Postings { bitmaps: &[], offsets: &[] };
        Words { text: text.as_bytes(), text_offsets, slots, postings }
    }

    proptest! {
        #[test]
        fn words_with_a_prefix_are_those_that_begin_with_it(
            known in prop::collection::btree_set("[ab]{0,6}", 0..60),
            prefix in "[ab]{0,3}",
        ) {
            let known: Vec<String> = known.into_iter().collect();
            let dictionary = dictionary(&known);
            let found: Vec<&str> = words(&dictionary).with_prefix(&prefix).map(|(word, _)| word).collect();
            let expected: Vec<&String> = known.iter().filter(|word| word.starts_with(&prefix)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn finds_every_word_and_no_other(
            known in prop::collection::btree_set("[ab]{0,6}", 0..60),
            others in prop::collection::vec("[ab]{0,6}", 0..60),
        ) {
            let known: Vec<String> = known.into_iter().collect();
            let dictionary = dictionary(&known);
            let words = words(&dictionary);
            let without_slots = Words { slots: &[], ..words };
            for word in known.iter().chain(&others) {
                let expected = known.iter().position(|other| other == word).map(|code| code as u32);
                prop_assert_eq!(words.find(word), expected);
                prop_assert_eq!(without_slots.find(word), expected);
            }
            prop_assert_eq!(words.check_slots(), None);
        }
    }

    #[test]
    fn finds_words_that_have_no_slot() {
        let known: Vec<String> = (0..1 << 16).map(|word| format!("{word:05}")).collect();
        let dictionary = dictionary(&known);
        let placed = dictionary.2.iter().filter(|slot| **slot > 0).count();
        assert!(
            placed < known.len(),
            "half of the slots are full, somewhere more than {MAX_PROBES} in a row"
        );
        let words = words(&dictionary);
        assert!(known.iter().zip(0..).all(|(word, code)| words.find(word) == Some(code)));
        assert_eq!(words.find("65536"), None);
        assert_eq!(words.check_slots(), None);
    }
}
