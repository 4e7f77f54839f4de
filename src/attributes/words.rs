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

    /// The number of words.
    pub fn len(&self) -> usize {
        self.text_offsets.len().saturating_sub(1)
    }

    /// Whether no video has any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a word, if a video has it.
    pub fn find(&self, word: &str) -> Option<u32> {
        for slot in places(word.as_bytes(), self.slots.len()) {
            let code = self.slots[slot].checked_sub(1)?;
            if self.bytes(code as usize) == Some(word.as_bytes()) {
                return Some(code);
            }
        }
        self.search(word)
    }

    /// The number of a word, by halves: of one that found no place near its own, and in a file of before there were
    /// slots.
    fn search(&self, word: &str) -> Option<u32> {
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

    /// Returns the text of word `word`; `None` if there is no such word, or the text of a damaged file is invalid.
    pub fn text(&self, word: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(word)?).ok()
    }

    /// The nodes of each word, by its number.
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
        part(self.text, self.text_offsets, word)
    }
}

/// Slots probed per word. The bound keeps lookups fast if words were chosen to collide.
const MAX_PLACES: usize = 8;

/// Returns the number of slots of a dictionary of `words` words: at least twice the number of words.
pub(super) fn slots_of(words: usize) -> usize {
    if words == 0 { 0 } else { (2 * words).next_power_of_two() }
}

/// Puts each word of a dictionary into an empty slot near its own, if there is one.
pub(super) fn fill_slots<'w>(words: impl Iterator<Item = &'w [u8]>, slots: &mut [u32]) {
    for (word, code) in words.zip(0..) {
        if let Some(slot) = places(word, slots.len()).find(|slot| slots[*slot] == 0) {
            slots[slot] = code + 1;
        }
    }
}

/// Where a word may be, likeliest first; nowhere if there are no slots.
fn places(word: &[u8], slots: usize) -> impl Iterator<Item = usize> {
    // The upper bits of the product depend on all of the checksum.
    let hash = u64::from(crc32c::crc32c(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (0..MAX_PLACES.min(slots)).map(move |near| (hash as usize + near) & (slots - 1))
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
        // Most goes unchecked here: that reads every bit, which takes longer than to add them. What a damaged file has
        // beyond the nodes is passed over or taken out.
        if let Some(posting) = self.bytes(word as usize).and_then(Posting::skim) {
            posting.add_to(set.words_mut());
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
        fn finds_every_word_and_no_other(
            known in prop::collection::btree_set("[ab]{0,6}", 0..60),
            asked in prop::collection::vec("[ab]{0,6}", 0..60),
        ) {
            let known: Vec<String> = known.into_iter().collect();
            let dictionary = dictionary(&known);
            let words = words(&dictionary);
            let without_slots = Words { slots: &[], ..words };
            for word in known.iter().chain(&asked) {
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
            "half of the slots are full, somewhere more than {MAX_PLACES} in a row"
        );
        let words = words(&dictionary);
        assert!(known.iter().zip(0..).all(|(word, code)| words.find(word) == Some(code)));
        assert_eq!(words.find("65536"), None);
        assert_eq!(words.check_slots(), None);
    }
}
