//! Ids of videos that candidates are looked up in.

/// How many ids a bucket has room for.
const ROOM: usize = 4;
/// Stands for the number of ids of a bucket that has no room for all of its own.
const OVERFLOWN: u8 = ROOM as u8 + 1;

/// A set of ids, built in two nanoseconds for each and asked thousands of times a request.
///
/// A hash table: two ids to a bucket at most, on average, and all that a bucket has room for are compared without
/// a branch on where one lies. Ids that find no room are searched by halves, so that many that were chosen to
/// collide cost their logarithm.
#[derive(Clone, Debug)]
pub(super) struct IdSet {
    /// Where there is no id, one that belongs to another bucket.
    buckets: Vec<[u64; ROOM]>,
    /// How many of each bucket there are, or [`OVERFLOWN`].
    lens: Vec<u8>,
    /// What the buckets have no room for, ascending.
    overflow: Vec<u64>,
    /// 64 less the binary logarithm of the number of buckets.
    shift: u32,
}

impl IdSet {
    /// The set of all ids in `lists`, in any order and as often as they come.
    pub(super) fn of(lists: [&[u64]; 2]) -> Self {
        let ids: usize = lists.iter().map(|list| list.len()).sum();
        let count = (ids / 2 + 1).next_power_of_two().max(4);
        let shift = u64::BITS - count.trailing_zeros();
        let (mut buckets, mut lens, mut overflow) = (vec![[0; ROOM]; count], vec![0u8; count], Vec::new());
        // Id 0 belongs to bucket 0, and the last id does not: of four buckets it has the second.
        buckets[0] = [u64::MAX; ROOM];
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
                        *len = OVERFLOWN;
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
        found || self.lens[bucket] == OVERFLOWN && self.overflow.binary_search(&id).is_ok()
    }
}

/// Fibonacci hashing: the upper bits of the product depend on all bits of the id, and ids in a row are spread evenly.
#[inline]
fn bucket(id: u64, shift: u32) -> usize {
    (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Ids of every kind: hashes, rows of numbers, the ends of the range.
    fn ids() -> impl Strategy<Value = Vec<u64>> {
        let id = prop_oneof![any::<u64>(), 0u64..100, (u64::MAX - 3)..=u64::MAX];
        let shifted = (0u64..200, 0u32..64).prop_map(|(id, shift)| id << shift);
        prop::collection::vec(prop_oneof![id, shifted], 0..300)
    }

    proptest! {
        #[test]
        fn contains_what_it_was_made_of_and_nothing_else(ids in ids(), asked in ids(), at in any::<prop::sample::Index>()) {
            let expected: BTreeSet<u64> = ids.iter().copied().collect();
            let (some, others) = ids.split_at(at.index(ids.len() + 1));
            let set = IdSet::of([some, others]);
            for id in ids.iter().copied().chain(asked) {
                prop_assert_eq!(set.contains(id), expected.contains(&id), "{}", id);
            }
        }
    }

    #[test]
    fn finds_ids_that_all_collide() {
        // Multiples of the inverse of the factor have a small product: all of them lie in the first bucket.
        let inverse = (0..6).fold(1u64, |inverse, _| {
            inverse.wrapping_mul(2u64.wrapping_sub(inverse.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        });
        let ids: Vec<u64> = (0..1_000).map(|product: u64| product.wrapping_mul(inverse)).collect();
        let set = IdSet::of([&ids, &[]]);
        assert_eq!(set.overflow.len(), 1_000 - ROOM);
        assert!(ids.iter().all(|id| set.contains(*id)));
        assert!((1_000..2_000).all(|product: u64| !set.contains(product.wrapping_mul(inverse))));
    }
}
