//! An owned hash set of ids, fast to build and to look up.

/// Ids per bucket.
const SLOTS: usize = 4;
/// The length that marks a bucket with more than [`SLOTS`] ids.
const OVERFLOWED: u8 = SLOTS as u8 + 1;

/// A hash set of ids, built in 2 ns per id. A request looks thousands of ids up in it.
///
/// Buckets contain at most two ids on average. A lookup compares all slots of one bucket without a branch on their
/// positions. Ids that do not fit their bucket are kept in a sorted list and found by binary search, which bounds the
/// cost of ids chosen to collide by its logarithm.
#[derive(Clone, Debug)]
pub(super) struct IdSet {
    /// Empty slots contain an id that belongs to another bucket, so that it never matches.
    buckets: Vec<[u64; SLOTS]>,
    /// Number of ids in each bucket, or [`OVERFLOWED`].
    lens: Vec<u8>,
    /// Ids that did not fit their bucket, ascending.
    overflow: Vec<u64>,
    /// 64 − log₂ of the number of buckets.
    shift: u32,
}

impl IdSet {
    /// Returns the set of all ids in `lists`, which may be unsorted and have duplicates.
    pub(super) fn of(lists: [&[u64]; 2]) -> Self {
        let ids: usize = lists.iter().map(|list| list.len()).sum();
        let count = (ids / 2 + 1).next_power_of_two().max(4);
        let shift = u64::BITS - count.trailing_zeros();
        let (mut buckets, mut lens, mut overflow) = (vec![[0; SLOTS]; count], vec![0u8; count], Vec::new());
        // Slots are initialized to id 0, which belongs to bucket 0. Bucket 0 gets id u64::MAX instead, which belongs to
        // another bucket (the second of four).
        buckets[0] = [u64::MAX; SLOTS];
        for list in lists {
            for id in list {
                let bucket = bucket(*id, shift);
                let len = &mut lens[bucket];
                match buckets[bucket].get_mut(usize::from(*len)) {
                    Some(place) => {
                        *place = *id;
                        *len += 1;
                    }
                    None => {
                        *len = OVERFLOWED;
                        overflow.push(*id);
                    }
                }
            }
        }
        overflow.sort_unstable();
        Self { buckets, lens, overflow, shift }
    }

    /// Whether `id` is in the set.
    #[inline]
    pub(super) fn contains(&self, id: u64) -> bool {
        let bucket = bucket(id, self.shift);
        let found = self.buckets[bucket].iter().fold(false, |found, there| found | (*there == id));
        found || self.lens[bucket] == OVERFLOWED && self.overflow.binary_search(&id).is_ok()
    }
}

/// Fibonacci hashing: the upper bits of the product depend on all bits of the id, and consecutive ids spread evenly.
#[inline]
fn bucket(id: u64, shift: u32) -> usize {
    (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Hashes, consecutive numbers, and both ends of the range.
    fn ids() -> impl Strategy<Value = Vec<u64>> {
        let id = prop_oneof![any::<u64>(), 0u64..100, (u64::MAX - 3)..=u64::MAX];
        let shifted = (0u64..200, 0u32..64).prop_map(|(id, shift)| id << shift);
        prop::collection::vec(prop_oneof![id, shifted], 0..300)
    }

    proptest! {
        #[test]
        fn contains_what_it_was_made_of_and_nothing_else(ids in ids(), absent in ids(), at in any::<prop::sample::Index>()) {
            let expected: BTreeSet<u64> = ids.iter().copied().collect();
            let (some, others) = ids.split_at(at.index(ids.len() + 1));
            let set = IdSet::of([some, others]);
            for id in ids.iter().copied().chain(absent) {
                prop_assert_eq!(set.contains(id), expected.contains(&id), "{}", id);
            }
        }
    }

    #[test]
    fn finds_ids_that_all_collide() {
        // Multiples of the inverse of the hash factor have a small product, so all belong to the first bucket.
        let inverse = (0..6).fold(1u64, |inverse, _| {
            inverse.wrapping_mul(2u64.wrapping_sub(inverse.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        });
        let ids: Vec<u64> = (0..1_000).map(|product: u64| product.wrapping_mul(inverse)).collect();
        let set = IdSet::of([&ids, &[]]);
        assert_eq!(set.overflow.len(), 1_000 - SLOTS);
        assert!(ids.iter().all(|id| set.contains(*id)));
        assert!((1_000..2_000).all(|product: u64| !set.contains(product.wrapping_mul(inverse))));
    }
}
