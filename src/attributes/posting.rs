//! The nodes of one word, as serialized in the file: a portable Roaring bitmap, or the masks of blocks.
//!
//! ```text
//! "MASK" │ block u32, mask of its 64 nodes u64 │ the next block that has a node │ ...
//! ```
//!
//! Nodes with consecutive numbers have similar embeddings, and often the same topic. So most words of a column of
//! topics have some nodes in each of a few tens of blocks. A filter for hundreds of words adds their masks in a simple
//! loop; a bitmap has containers and runs of varying length, which cost branch mispredictions. All integers are
//! little-endian.

use roaring::RoaringBitmap;

use crate::kernel::WORD_BITS;
use crate::serialized_bitmap::{BitmapError, SerializedBitmap};

/// The first bytes of masks. No Roaring bitmap starts with them.
const COOKIE: [u8; 4] = *b"MASK";
/// Nodes per block.
const BLOCK_NODES: u32 = u64::BITS;
/// Blocks of all possible nodes: the last node of the last block is `u32::MAX`.
const MAX_BLOCKS: u32 = u32::MAX / BLOCK_NODES + 1;
/// Words of a [`NodeSet`](crate::node_set::NodeSet) per block.
const WORDS_PER_BLOCK: usize = BLOCK_NODES as usize / WORD_BITS;
/// Bytes of a block and its mask.
const RECORD: usize = 12;
/// Masks are used if they take at most this many times the bytes of the bitmap.
const MAX_MASK_RATIO: usize = 4;

/// The nodes of one word.
#[derive(Clone, Copy, Debug)]
pub(super) enum Posting<'a> {
    Bitmap(SerializedBitmap<'a>),
    Masks(&'a [[u8; RECORD]]),
}

/// An error in the bytes of a posting. `at` is a byte offset from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PostingError {
    #[error(transparent)]
    Bitmap(#[from] BitmapError),
    #[error("expected its end, found {found} more bytes")]
    TrailingBytes { found: usize },
    #[error("byte {at}: expected {RECORD} bytes of a block, found {found}")]
    Truncated { at: usize, found: usize },
    #[error("byte {at}: expected block {expected} or a later one, found {found}")]
    NotAscending { at: usize, expected: u64, found: u32 },
    #[error("byte {at}: expected a block below {MAX_BLOCKS} with a node, found {block} with {mask:#x}")]
    NoNodes { at: usize, block: u32, mask: u64 },
}

/// Appends `nodes`, which must ascend: as masks, unless a bitmap is faster or much smaller.
///
/// # Panics
/// If the nodes do not ascend.
pub(super) fn serialize(nodes: &[u32], bytes: &mut Vec<u8>) {
    let mut bitmap =
        RoaringBitmap::from_sorted_iter(nodes.iter().copied()).expect("the nodes of a word ascend");
    bitmap.optimize();
    let blocks = || nodes.chunk_by(|node, next| node / BLOCK_NODES == next / BLOCK_NODES);
    // Containers with a bit per node are already added a word at a time.
    let is_dense = bitmap.statistics().n_bitset_containers > 0;
    let mask_bytes = COOKIE.len() + RECORD * blocks().count();
    if is_dense || mask_bytes > MAX_MASK_RATIO * bitmap.serialized_size() {
        bitmap.serialize_into(bytes).expect("writing to a vector cannot fail");
        return;
    }
    bytes.extend(COOKIE);
    for nodes in blocks() {
        let mask = nodes.iter().fold(0u64, |mask, node| mask | 1 << (node % BLOCK_NODES));
        bytes.extend((nodes[0] / BLOCK_NODES).to_le_bytes());
        bytes.extend(mask.to_le_bytes());
    }
}

impl<'a> Posting<'a> {
    /// Parses and checks a posting, except that the index has its nodes.
    ///
    /// # Errors
    /// The first error in the bytes.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, PostingError> {
        let Some(records) = bytes.strip_prefix(&COOKIE) else {
            let (bitmap, rest) = SerializedBitmap::parse(bytes)?;
            return match rest {
                [] => Ok(Self::Bitmap(bitmap)),
                rest => Err(PostingError::TrailingBytes { found: rest.len() }),
            };
        };
        let (records, rest) = records.as_chunks();
        let mut expected = 0;
        for (record, at) in records.iter().zip((COOKIE.len()..).step_by(RECORD)) {
            let (block, mask) = block_and_mask(record);
            if u64::from(block) < expected {
                return Err(PostingError::NotAscending { at, expected, found: block });
            }
            if mask == 0 || block >= MAX_BLOCKS {
                return Err(PostingError::NoNodes { at, block, mask });
            }
            expected = u64::from(block) + 1;
        }
        if !rest.is_empty() {
            return Err(PostingError::Truncated { at: bytes.len() - rest.len(), found: rest.len() });
        }
        Ok(Self::Masks(records))
    }

    /// Parses a posting without the slow checks. Damaged bytes yield wrong nodes, and have no other effect. Returns
    /// `None` if the bytes are not a posting.
    pub(super) fn skim(bytes: &'a [u8]) -> Option<Self> {
        match bytes.strip_prefix(&COOKIE) {
            Some(records) => Some(Self::Masks(records.as_chunks().0)),
            None => SerializedBitmap::skim(bytes).ok().map(Self::Bitmap),
        }
    }

    /// Returns the number of nodes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bitmap(bitmap) => bitmap.len(),
            Self::Masks(records) => {
                records.iter().map(|record| u64::from(block_and_mask(record).1.count_ones())).sum()
            }
        }
    }

    /// Calls `each` with the nodes, ascending.
    pub(super) fn for_each(&self, mut each: impl FnMut(u32)) {
        match self {
            Self::Bitmap(bitmap) => bitmap.for_each(each),
            Self::Masks(records) => {
                for record in *records {
                    let (block, mut mask) = block_and_mask(record);
                    let Some(first) = block.checked_mul(BLOCK_NODES) else { return };
                    while mask != 0 {
                        each(first + mask.trailing_zeros());
                        mask &= mask - 1;
                    }
                }
            }
        }
    }

    /// Sets the bits of the nodes in the words of a set. Ignores nodes beyond its last word.
    pub(super) fn add_to(&self, words: &mut [u32]) {
        let records = match self {
            Self::Bitmap(bitmap) => return bitmap.add_to(words),
            Self::Masks(records) => records,
        };
        for record in *records {
            let (block, mask) = block_and_mask(record);
            let words = words.get_mut(WORDS_PER_BLOCK * block as usize..).unwrap_or_default();
            match words.first_chunk_mut::<WORDS_PER_BLOCK>() {
                Some([low, high]) => {
                    *low |= mask as u32;
                    *high |= (mask >> WORD_BITS) as u32;
                }
                // The last block may have one word.
                None => words.iter_mut().for_each(|low| *low |= mask as u32),
            }
        }
    }
}

#[inline(always)]
fn block_and_mask(record: &[u8; RECORD]) -> (u32, u64) {
    let [a, b, c, d, mask @ ..] = *record;
    (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(mask))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Scattered nodes, and runs of consecutive nodes.
    fn nodes() -> impl Strategy<Value = BTreeSet<u32>> {
        let scattered = prop::collection::vec(0..200_000u32, 0..20);
        let parts = prop::collection::vec((0..200_000u32, 1..100u32), 0..20);
        (scattered, parts).prop_map(|(scattered, parts)| {
            let parts = parts.into_iter().flat_map(|(first, count)| first..first + count);
            scattered.into_iter().chain(parts).collect()
        })
    }

    fn written(nodes: impl IntoIterator<Item = u32>) -> Vec<u8> {
        let mut bytes = Vec::new();
        serialize(&nodes.into_iter().collect::<Vec<_>>(), &mut bytes);
        bytes
    }

    fn is_masks(bytes: &[u8]) -> bool {
        matches!(Posting::skim(bytes), Some(Posting::Masks(_)))
    }

    proptest! {
        #[test]
        fn has_the_nodes_that_were_written(nodes in nodes(), words in 0..7_000usize) {
            let bytes = written(nodes.iter().copied());
            let posting = Posting::parse(&bytes).unwrap();
            prop_assert_eq!(posting.len(), nodes.len() as u64);
            let mut found = Vec::new();
            posting.for_each(|node| found.push(node));
            prop_assert!(found.iter().eq(&nodes));
            for posting in [posting, Posting::skim(&bytes).unwrap()] {
                let mut set = vec![0u32; words];
                posting.add_to(&mut set);
                let mut expected = vec![0u32; words];
                for node in nodes.range(..32 * words as u32) {
                    expected[*node as usize / 32] |= 1 << (node % 32);
                }
                prop_assert_eq!(&set, &expected);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_have_as_many_nodes_as_they_say(
            cookie in any::<bool>(),
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let bytes = if cookie { [&COOKIE[..], &bytes].concat() } else { bytes };
            let mut set = vec![0u32; 100];
            Posting::skim(&bytes).into_iter().for_each(|posting| posting.add_to(&mut set));
            if let Ok(posting) = Posting::parse(&bytes) {
                let mut found = 0;
                posting.for_each(|_| found += 1);
                prop_assert!(found <= posting.len());
            }
        }
    }

    #[test]
    fn masks_are_for_parts_of_blocks() {
        assert!(is_masks(&written((0..30).flat_map(|part| 1_000 * part..1_000 * part + 20))));
        // Half of all nodes, and one in a hundred.
        assert!(!is_masks(&written((0..200_000).step_by(2))));
        assert!(!is_masks(&written((0..200_000).step_by(100))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let record = |block: u32, mask: u64| [&block.to_le_bytes()[..], &mask.to_le_bytes()].concat();
        let wrong = |records: &[Vec<u8>]| {
            let bytes = [&COOKIE[..], &records.concat()].concat();
            Posting::parse(&bytes).unwrap_err().to_string()
        };
        assert_eq!(wrong(&[record(3, 1), record(3, 1)]), "byte 16: expected block 4 or a later one, found 3");
        assert_eq!(
            wrong(&[record(3, 1), record(4, 0)]),
            "byte 16: expected a block below 67108864 with a node, found 4 with 0x0"
        );
        assert_eq!(
            wrong(&[record(1 << 26, 6)]),
            "byte 4: expected a block below 67108864 with a node, found 67108864 with 0x6"
        );
        assert_eq!(wrong(&[record(3, 1), vec![1; 5]]), "byte 16: expected 12 bytes of a block, found 5");
        let longer = [written((0..200_000).step_by(2)), vec![0; 3]].concat();
        assert_eq!(Posting::parse(&longer).unwrap_err().to_string(), "expected its end, found 3 more bytes");
    }
}
