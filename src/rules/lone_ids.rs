//! The ids of a 64-bit Roaring bitmap that are alone in their buckets, looked up in the bytes that came.

use crate::kernel::prefetch;
use crate::serialized_bitmap::{LONE_START_BYTES, SerializedBitmap};

/// The upper half of an id and the 32-bit bitmap of the lower one.
const BYTES: usize = 22;
/// Buckets to a part of the range, on average where ids are hashes.
const TO_A_PART: usize = 2;
/// The last buckets of a part, which are all looked at: most parts have no more.
const NEAR: usize = 4;
/// Buckets that are checked before it is noted where their parts end: each in a loop that fits the registers.
const CHECKED_AT_ONCE: usize = 64;
/// How far behind those the buckets are that are asked for meanwhile.
const AHEAD: usize = 2 * CHECKED_AT_ONCE;

/// The first buckets of a 64-bit Roaring bitmap, as far as each has one id alone: all of them, or nearly so, where ids
/// are hashes.
///
/// A request asks for a few hundred ids of ten thousand, so most buckets are never looked at after they were checked:
/// nothing is written down but where in the bytes each part of the range of upper halves ends. Many ids that were
/// chosen to lie in one part cost their logarithm.
#[derive(Clone, Debug)]
pub(super) struct LoneIds<'a> {
    /// Their upper halves ascend.
    buckets: &'a [[u8; BYTES]],
    /// The upper half of the first.
    least: u32,
    /// The binary logarithm of the upper halves to a part.
    shift: u32,
    /// One more than the position of the last bucket of each part, 0 where a part has none. The last part has
    /// whatever lies beyond, too.
    ends: Vec<u32>,
}

impl<'a> LoneIds<'a> {
    /// The buckets at the start of `bytes` that have one id each, at most `most` of them; gives what follows them, too.
    pub(super) fn of(bytes: &'a [u8], most: usize) -> (Self, &'a [u8]) {
        let (buckets, _) = bytes.as_chunks();
        let buckets = &buckets[..most.min(buckets.len())];
        let [least, greatest] = [buckets.first(), buckets.last()].map(|bucket| bucket.map_or(0, upper));
        let parts = (buckets.len() / TO_A_PART + 1).next_power_of_two();
        // The last may be none of them, if bytes are damaged or buckets not alone: then parts are of another size.
        let bits = u32::BITS - greatest.saturating_sub(least).leading_zeros();
        // No number is shifted by all of its bits, which a single part of the whole range would take.
        let shift = bits.saturating_sub(parts.trailing_zeros()).min(u32::BITS - 1);
        let mut ends = vec![0; parts];
        let (mut len, mut expected) = (0, 0);
        for some in buckets.chunks(CHECKED_AT_ONCE) {
            let [ahead, end] = [AHEAD, AHEAD + CHECKED_AT_ONCE].map(|next| (len + next).min(buckets.len()));
            prefetch(&buckets[ahead..end]);
            let right = leading(some, expected);
            for (bucket, end) in some[..right].iter().zip(len as u32 + 1..) {
                ends[part(upper(bucket) - least, shift, parts)] = end;
            }
            len += right;
            expected = some[..right].last().map_or(expected, |last| u64::from(upper(last)) + 1);
            if right < some.len() {
                break;
            }
        }
        (Self { buckets: &buckets[..len], least, shift, ends }, &bytes[len * BYTES..])
    }

    /// Asks the memory system for what [`LoneIds::contains`] would look at.
    #[inline]
    pub(super) fn prefetch(&self, id: u64) {
        let near = self.near(self.end((id >> u32::BITS) as u32)).as_flattened();
        // A line each, without a branch on how many lines they lie in.
        for at in [0, near.len() / 2, near.len().saturating_sub(1)] {
            prefetch(&near[at..near.len().min(at + 1)]);
        }
    }

    /// One more than the position of the last bucket of the part of an upper half; 0 where it has none.
    #[inline]
    fn end(&self, upper: u32) -> usize {
        let Some(above) = upper.checked_sub(self.least) else { return 0 };
        self.ends[part(above, self.shift, self.ends.len())] as usize
    }

    /// The last [`NEAR`] buckets before `end`, or the first where there are not so many: always as many, so that there
    /// is no branch on how many a part has. All, if they are fewer.
    #[inline]
    fn near(&self, end: usize) -> &'a [[u8; BYTES]] {
        let from = &self.buckets[end.saturating_sub(NEAR)..];
        from.first_chunk::<NEAR>().map_or(from, |near| near)
    }

    /// How many ids.
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// The least upper half that may follow.
    pub(super) fn next_upper(&self) -> u64 {
        self.buckets.last().map_or(0, |last| u64::from(upper(last)) + 1)
    }

    /// Whether `id` is among them.
    #[inline]
    pub(super) fn contains(&self, id: u64) -> bool {
        let wanted = (id >> u32::BITS) as u32;
        let end = self.end(wanted);
        let near = self.near(end);
        // Nearly always none of them is it, and there is no branch to guess wrong.
        let is_near = near.iter().fold(false, |found, bucket| found | (upper(bucket) == wanted));
        let may_be_before = (end > NEAR) & near.first().is_some_and(|first| upper(first) > wanted);
        (is_near | may_be_before) && Self::search(&self.buckets[..end], wanted, id as u32)
    }

    #[cold]
    fn search(buckets: &[[u8; BYTES]], wanted: u32, value: u32) -> bool {
        // It is among the last, nearly always, which have come from memory.
        if let Some(bucket) = buckets.iter().rev().take(NEAR).find(|bucket| upper(bucket) == wanted) {
            return lower(bucket) == Some(value);
        }
        buckets.binary_search_by_key(&wanted, upper).is_ok_and(|at| lower(&buckets[at]) == Some(value))
    }
}

/// How many buckets have one id each and ascend, from the upper half `expected` on.
fn leading(buckets: &[[u8; BYTES]], expected: u64) -> usize {
    // To the end even of what fails early: that has no branch to guess wrong.
    if SerializedBitmap::are_lone(buckets.iter().map(start)) && ascend(buckets, expected) {
        return buckets.len();
    }
    let mut next = expected;
    let is_right = |bucket: &&[u8; BYTES]| {
        let is_right = u64::from(upper(bucket)) >= next && lower(bucket).is_some();
        next = u64::from(upper(bucket)) + 1;
        is_right
    };
    buckets.iter().take_while(is_right).count()
}

/// Whether the upper halves ascend from `expected` on.
fn ascend(buckets: &[[u8; BYTES]], expected: u64) -> bool {
    // All differences have to be below zero, and so has to be what their bits have in common.
    let (mut before, mut common) = (expected as i64 - 1, -1);
    for bucket in buckets {
        let upper = i64::from(upper(bucket));
        common &= before - upper;
        before = upper;
    }
    common < 0
}

/// The start of the 32-bit bitmap.
#[inline]
fn start(bucket: &[u8; BYTES]) -> &[u8; LONE_START_BYTES] {
    bucket[4..].first_chunk().expect("a bucket has 22 bytes")
}

/// The part of an upper half so far above the least: the further, the later.
#[inline]
fn part(above: u32, shift: u32, parts: usize) -> usize {
    ((above >> shift) as usize).min(parts - 1)
}

#[inline]
fn upper(bucket: &[u8; BYTES]) -> u32 {
    u32::from_le_bytes([bucket[0], bucket[1], bucket[2], bucket[3]])
}

#[inline]
fn lower(bucket: &[u8; BYTES]) -> Option<u32> {
    SerializedBitmap::lone_value(&bucket[4..]).map(|(lower, _)| lower)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use roaring::RoaringTreemap;

    use super::*;

    /// The buckets of some ids, without their number in front.
    fn written(ids: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        ids.into_iter().collect::<RoaringTreemap>().serialize_into(&mut bytes).unwrap();
        bytes.split_off(8)
    }

    /// Upper halves of every kind, hashes, rows and both ends of the range, with a lower half each.
    fn lone() -> impl Strategy<Value = BTreeMap<u32, u32>> {
        let upper = prop_oneof![any::<u32>(), 0u32..200, (u32::MAX - 200)..=u32::MAX];
        prop::collection::btree_map(upper, any::<u32>(), 0..400)
    }

    fn id((upper, lower): (&u32, &u32)) -> u64 {
        u64::from(*upper) << 32 | u64::from(*lower)
    }

    proptest! {
        #[test]
        fn has_the_ids_until_there_are_two_in_a_bucket(
            ids in lone(),
            other in any::<prop::sample::Index>(),
            asked in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let mut all: Vec<u64> = ids.iter().map(id).collect();
            let until = other.index(all.len() + 1);
            if let Some(id) = all.get(until).copied() {
                all.push(id ^ 1);
            }
            let bytes = written(all.iter().copied());
            let (lone, rest) = LoneIds::of(&bytes, usize::MAX);
            prop_assert_eq!(lone.len(), until);
            prop_assert_eq!(rest, &bytes[until * BYTES..]);
            prop_assert_eq!(lone.next_upper(), all[..until].last().map_or(0, |last| (last >> 32) + 1));
            let near = all.iter().flat_map(|id| [*id, id ^ 1, id ^ (1 << 32), id.wrapping_add(1), id.wrapping_sub(1 << 32)]);
            for id in near.chain(asked) {
                prop_assert_eq!(lone.contains(id), all[..until].contains(&id), "{}", id);
            }
        }
    }

    #[test]
    fn takes_no_more_than_it_is_told_to() {
        let bytes = written((0..10).map(|upper| upper << 32));
        let (lone, rest) = LoneIds::of(&bytes, 7);
        assert_eq!((lone.len(), rest.len()), (7, 3 * BYTES));
        assert!(lone.contains(6 << 32) && !lone.contains(7 << 32));
    }

    #[test]
    fn ends_where_buckets_do_not_ascend() {
        let bytes = [written([5 << 32, 6 << 32]), written([6 << 32, 9 << 32])].concat();
        let (lone, rest) = LoneIds::of(&bytes, usize::MAX);
        assert_eq!((lone.len(), rest.len(), lone.next_upper()), (2, 2 * BYTES, 7));
        assert!(lone.contains(6 << 32) && !lone.contains(9 << 32));
    }

    #[test]
    fn finds_the_ids_at_both_ends_of_the_range() {
        for all in [vec![0, u64::MAX], vec![5, 1 << 63, u64::MAX], vec![0, 1 << 32, 1 << 63, u64::MAX]] {
            let bytes = written(all.iter().copied());
            let (lone, rest) = LoneIds::of(&bytes, usize::MAX);
            assert_eq!((lone.len(), rest.len()), (all.len(), 0));
            assert!(
                all.iter()
                    .all(|id| lone.contains(*id) && !lone.contains(id ^ 2) && !lone.contains(id ^ (1 << 50)))
            );
        }
    }

    #[test]
    fn finds_ids_that_all_lie_in_one_part() {
        let all: Vec<u64> = (0..1_000).map(|upper| upper << 32 | 5).chain([u64::MAX]).collect();
        let bytes = written(all.iter().copied());
        let (lone, _) = LoneIds::of(&bytes, usize::MAX);
        assert_eq!(lone.ends.iter().filter(|end| **end > 0).count(), 2);
        assert!(all.iter().all(|id| lone.contains(*id) && !lone.contains(id ^ 2)));
    }
}
