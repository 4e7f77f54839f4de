//! Zero-copy lookup of ids in a serialized 64-bit Roaring bitmap whose buckets contain a single id each.

use crate::kernel::prefetch;
use crate::serialized_bitmap::{SINGLETON_PREFIX_BYTES, SerializedBitmap};

/// Bytes of a singleton bucket: 4 for the upper half of the id, 18 for the 32-bit bitmap of its lower half.
const BYTES: usize = 22;
/// Buckets per slot, on average where ids are hashes.
const BUCKETS_PER_SLOT: usize = 2;
/// A lookup compares this many buckets at the end of a slot. Most slots have no more.
const WINDOW: usize = 4;
/// Buckets per block of [`SerializedIds::of`], which first checks a block and then records where its slots end: each
/// of the two loops fits the registers.
const CHECK_BLOCK: usize = 64;
/// Prefetch distance of [`SerializedIds::of`], in buckets.
const PREFETCH_AHEAD: usize = 2 * CHECK_BLOCK;

/// The leading buckets of a serialized 64-bit Roaring bitmap, as far as each contains a single id: all buckets, or nearly
/// all, where ids are hashes.
///
/// A request looks up a few hundred of ten thousand ids, so most buckets are not read again after they were checked.
/// Therefore ids are not copied. The range of upper halves is divided into equal slots, and only the position where
/// the buckets of each slot end is recorded. A slot with more than [`WINDOW`] buckets is searched by halves, which
/// bounds the cost of ids chosen to share a slot.
#[derive(Clone, Debug)]
pub(super) struct SerializedIds<'a> {
    /// Upper halves ascend.
    buckets: &'a [[u8; BYTES]],
    /// The upper half of the first bucket.
    least: u32,
    /// log₂ of the number of upper halves per slot.
    shift: u32,
    /// For each slot one more than the position of its last bucket; 0 for an empty slot. Upper halves past the last
    /// slot belong to the last slot.
    ends: Vec<u32>,
}

impl<'a> SerializedIds<'a> {
    /// Returns the singleton buckets at the start of `bytes`, at most `most` of them, and the bytes after them.
    pub(super) fn of(bytes: &'a [u8], most: usize) -> (Self, &'a [u8]) {
        let (buckets, _) = bytes.as_chunks();
        let buckets = &buckets[..most.min(buckets.len())];
        let [least, greatest] = [buckets.first(), buckets.last()].map(|bucket| bucket.map_or(0, upper));
        let slots = (buckets.len() / BUCKETS_PER_SLOT + 1).next_power_of_two();
        // The last chunk is no bucket if bytes are damaged or some buckets are not singletons. That only changes the
        // width of slots.
        let bits = u32::BITS - greatest.saturating_sub(least).leading_zeros();
        // A single slot for the whole range would need a shift by 32 bits, which a u32 does not allow.
        let shift = bits.saturating_sub(slots.trailing_zeros()).min(u32::BITS - 1);
        let mut ends = vec![0; slots];
        let (mut len, mut expected) = (0, 0);
        for block in buckets.chunks(CHECK_BLOCK) {
            let [ahead, end] =
                [PREFETCH_AHEAD, PREFETCH_AHEAD + CHECK_BLOCK].map(|next| (len + next).min(buckets.len()));
            prefetch(&buckets[ahead..end]);
            let valid = leading(block, expected);
            for (bucket, end) in block[..valid].iter().zip(len as u32 + 1..) {
                ends[slot(upper(bucket) - least, shift, slots)] = end;
            }
            len += valid;
            expected = block[..valid].last().map_or(expected, |last| u64::from(upper(last)) + 1);
            if valid < block.len() {
                break;
            }
        }
        (Self { buckets: &buckets[..len], least, shift, ends }, &bytes[len * BYTES..])
    }

    /// Prefetches the memory that [`SerializedIds::contains`] reads for `id`.
    #[inline]
    pub(super) fn prefetch(&self, id: u64) {
        let window = self.window(self.end((id >> u32::BITS) as u32)).as_flattened();
        // First, middle and last byte: these cover every cache line of the window without a branch on their number.
        for at in [0, window.len() / 2, window.len().saturating_sub(1)] {
            prefetch(&window[at..window.len().min(at + 1)]);
        }
    }

    /// One more than the position of the last bucket in the slot of an upper half; 0 for an empty slot.
    #[inline]
    fn end(&self, upper: u32) -> usize {
        let Some(above) = upper.checked_sub(self.least) else { return 0 };
        self.ends[slot(above, self.shift, self.ends.len())] as usize
    }

    /// The last [`WINDOW`] buckets before `end`, or the first [`WINDOW`] buckets if fewer precede `end`, or all buckets if
    /// there are fewer in total. The constant length avoids a branch on the number of buckets in a slot.
    #[inline]
    fn window(&self, end: usize) -> &'a [[u8; BYTES]] {
        let from = &self.buckets[end.saturating_sub(WINDOW)..];
        from.first_chunk::<WINDOW>().map_or(from, |window| window)
    }

    /// The number of ids.
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// The ids, ascending.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        let id = |bucket| Some(u64::from(upper(bucket)) << 32 | u64::from(lower(bucket)?));
        self.buckets.iter().filter_map(id)
    }

    /// The smallest upper half allowed in the bucket after these.
    pub(super) fn next_upper(&self) -> u64 {
        self.buckets.last().map_or(0, |last| u64::from(upper(last)) + 1)
    }

    /// Whether `id` is in the set.
    #[inline]
    pub(super) fn contains(&self, id: u64) -> bool {
        let wanted = (id >> u32::BITS) as u32;
        let end = self.end(wanted);
        let window = self.window(end);
        // Most lookups find nothing, and up to the `&&` there is no branch that could be mispredicted.
        let in_window = window.iter().fold(false, |found, bucket| found | (upper(bucket) == wanted));
        let may_be_before = (end > WINDOW) & window.first().is_some_and(|first| upper(first) > wanted);
        (in_window | may_be_before) && Self::search(&self.buckets[..end], wanted, id as u32)
    }

    #[cold]
    fn search(buckets: &[[u8; BYTES]], wanted: u32, value: u32) -> bool {
        // Nearly always in the window, which is in the cache by now.
        if let Some(bucket) = buckets.iter().rev().take(WINDOW).find(|bucket| upper(bucket) == wanted) {
            return lower(bucket) == Some(value);
        }
        buckets.binary_search_by_key(&wanted, upper).is_ok_and(|at| lower(&buckets[at]) == Some(value))
    }
}

/// The number of leading buckets that are singletons and whose upper halves ascend from `expected` on.
fn leading(buckets: &[[u8; BYTES]], expected: u64) -> usize {
    // The fast path checks the whole block even if an early bucket fails: no branch depends on the data.
    if SerializedBitmap::are_singletons(buckets.iter().map(prefix)) && ascend(buckets, expected) {
        return buckets.len();
    }
    let mut next = expected;
    let is_valid = |bucket: &&[u8; BYTES]| {
        let is_valid = u64::from(upper(bucket)) >= next && lower(bucket).is_some();
        next = u64::from(upper(bucket)) + 1;
        is_valid
    };
    buckets.iter().take_while(is_valid).count()
}

/// Whether the upper halves ascend strictly from `expected` on. No branch depends on the data.
fn ascend(buckets: &[[u8; BYTES]], expected: u64) -> bool {
    // Every difference to the next upper half must be negative. The AND of all of them has the sign bit only then.
    let (mut before, mut common) = (expected as i64 - 1, -1);
    for bucket in buckets {
        let upper = i64::from(upper(bucket));
        common &= before - upper;
        before = upper;
    }
    common < 0
}

/// The first bytes of the 32-bit bitmap of a bucket.
#[inline]
fn prefix(bucket: &[u8; BYTES]) -> &[u8; SINGLETON_PREFIX_BYTES] {
    bucket[4..].first_chunk().expect("a bucket has 22 bytes")
}

/// The slot of the upper half that is `above` above the least one; of `slots`, monotonic in `above`.
#[inline]
fn slot(above: u32, shift: u32, slots: usize) -> usize {
    ((above >> shift) as usize).min(slots - 1)
}

/// The upper half of the id of a bucket.
#[inline]
fn upper(bucket: &[u8; BYTES]) -> u32 {
    u32::from_le_bytes([bucket[0], bucket[1], bucket[2], bucket[3]])
}

/// The lower half of the id of a bucket; `None` unless it is a singleton.
#[inline]
fn lower(bucket: &[u8; BYTES]) -> Option<u32> {
    SerializedBitmap::singleton_value(&bucket[4..]).map(|(lower, _)| lower)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use roaring::RoaringTreemap;

    use super::*;

    /// The serialized buckets of `ids`, without the leading bucket count.
    fn written(ids: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        ids.into_iter().collect::<RoaringTreemap>().serialize_into(&mut bytes).unwrap();
        bytes.split_off(8)
    }

    /// Upper halves (hashes, consecutive numbers, both ends of the range), each with a lower half.
    fn singletons() -> impl Strategy<Value = BTreeMap<u32, u32>> {
        let upper = prop_oneof![any::<u32>(), 0u32..200, (u32::MAX - 200)..=u32::MAX];
        prop::collection::btree_map(upper, any::<u32>(), 0..400)
    }

    fn id((upper, lower): (&u32, &u32)) -> u64 {
        u64::from(*upper) << 32 | u64::from(*lower)
    }

    proptest! {
        #[test]
        fn has_the_ids_until_there_are_two_in_a_bucket(
            ids in singletons(),
            other in any::<prop::sample::Index>(),
            absent in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let mut all: Vec<u64> = ids.iter().map(id).collect();
            let until = other.index(all.len() + 1);
            if let Some(id) = all.get(until).copied() {
                all.push(id ^ 1);
            }
            let bytes = written(all.iter().copied());
            let (found, rest) = SerializedIds::of(&bytes, usize::MAX);
            prop_assert_eq!(found.len(), until);
            prop_assert_eq!(found.ids().collect::<Vec<_>>(), &all[..until]);
            prop_assert_eq!(rest, &bytes[until * BYTES..]);
            prop_assert_eq!(found.next_upper(), all[..until].last().map_or(0, |last| (last >> 32) + 1));
            let near = all.iter().flat_map(|id| [*id, id ^ 1, id ^ (1 << 32), id.wrapping_add(1), id.wrapping_sub(1 << 32)]);
            for id in near.chain(absent) {
                prop_assert_eq!(found.contains(id), all[..until].contains(&id), "{}", id);
            }
        }
    }

    #[test]
    fn takes_at_most_the_given_number_of_buckets() {
        let bytes = written((0..10).map(|upper| upper << 32));
        let (found, rest) = SerializedIds::of(&bytes, 7);
        assert_eq!((found.len(), rest.len()), (7, 3 * BYTES));
        assert!(found.contains(6 << 32) && !found.contains(7 << 32));
    }

    #[test]
    fn ends_where_buckets_do_not_ascend() {
        let bytes = [written([5 << 32, 6 << 32]), written([6 << 32, 9 << 32])].concat();
        let (found, rest) = SerializedIds::of(&bytes, usize::MAX);
        assert_eq!((found.len(), rest.len(), found.next_upper()), (2, 2 * BYTES, 7));
        assert!(found.contains(6 << 32) && !found.contains(9 << 32));
    }

    #[test]
    fn finds_the_ids_at_both_ends_of_the_range() {
        for all in [vec![0, u64::MAX], vec![5, 1 << 63, u64::MAX], vec![0, 1 << 32, 1 << 63, u64::MAX]] {
            let bytes = written(all.iter().copied());
            let (found, rest) = SerializedIds::of(&bytes, usize::MAX);
            assert_eq!((found.len(), rest.len()), (all.len(), 0));
            assert!(
                all.iter().all(|id| found.contains(*id)
                    && !found.contains(id ^ 2)
                    && !found.contains(id ^ (1 << 50)))
            );
        }
    }

    #[test]
    fn finds_ids_that_all_share_one_slot() {
        let all: Vec<u64> = (0..1_000).map(|upper| upper << 32 | 5).chain([u64::MAX]).collect();
        let bytes = written(all.iter().copied());
        let (found, _) = SerializedIds::of(&bytes, usize::MAX);
        assert_eq!(found.ends.iter().filter(|end| **end > 0).count(), 2);
        assert!(all.iter().all(|id| found.contains(*id) && !found.contains(id ^ 2)));
    }
}
