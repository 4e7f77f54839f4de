//! Bloom filters of video ids, with the hash functions that the proto defines.

use super::error::ExclusionError;
use crate::base::mix::mix;

/// Maximum number of hashes per id.
const MAX_HASHES: u32 = 32;

/// A Bloom filter of video ids, as a request has it, unchecked. The proto defines its hash functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bloom {
    /// Bit j is bit j mod 8 of byte j div 8.
    pub bits: Vec<u8>,
    /// Number of hashes, and so of bits, per id.
    pub hashes: u32,
    /// Seed of the hash functions.
    pub seed: u64,
}

/// A checked Bloom filter.
#[derive(Clone, Debug)]
pub(super) struct BloomFilter<'a> {
    /// Bit j is bit j mod 8 of byte j div 8. At least one byte.
    bits: &'a [u8],
    /// 1 to [`MAX_HASHES`].
    hashes: u32,
    seed: u64,
}

impl<'a> BloomFilter<'a> {
    /// Checks a filter.
    ///
    /// # Errors
    /// [`ExclusionError::NoBloomBits`] or [`ExclusionError::BloomHashes`].
    pub(super) fn of(bloom: &'a Bloom) -> Result<Self, ExclusionError> {
        let Bloom { bits, hashes, seed } = bloom;
        if bits.is_empty() {
            return Err(ExclusionError::NoBloomBits);
        }
        if !(1..=MAX_HASHES).contains(hashes) {
            return Err(ExclusionError::BloomHashes { most: MAX_HASHES, found: *hashes });
        }
        Ok(Self { bits, hashes: *hashes, seed: *seed })
    }

    /// Whether all bits of `id` are set: always for ids in the filter, and with the filter's false-positive rate for
    /// others.
    #[inline]
    pub(super) fn contains(&self, id: u64) -> bool {
        let bits = 8 * self.bits.len() as u64;
        positions(id, bits, self.hashes, self.seed)
            .all(|bit| self.bits[(bit / 8) as usize] >> (bit % 8) & 1 != 0)
    }
}

/// The positions of the bits of `id` in a filter of `bits` bits, by double hashing.
#[inline]
fn positions(id: u64, bits: u64, hashes: u32, seed: u64) -> impl Iterator<Item = u64> {
    let first = mix(id ^ seed);
    let step = mix(first) | 1;
    (0..u64::from(hashes)).map(move |hash| first.wrapping_add(hash.wrapping_mul(step)) % bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(ids: impl IntoIterator<Item = u64>, bytes: usize, hashes: u32, seed: u64) -> Bloom {
        let mut bits = vec![0; bytes];
        for id in ids {
            for bit in positions(id, 8 * bytes as u64, hashes, seed) {
                bits[bit as usize / 8] |= 1 << (bit % 8);
            }
        }
        Bloom { bits, hashes, seed }
    }

    #[test]
    fn sets_the_bits_of_the_example_in_the_proto() {
        // Expected values were computed by an independent program in another language.
        let ids = [1, 0xfedc_ba98_7654_3210];
        assert!(positions(ids[0], 104, 4, 7).eq([12, 29, 62, 95]));
        assert!(positions(ids[1], 104, 4, 7).eq([50, 79, 92, 1]));
        let bits = vec![0x02, 0x10, 0x00, 0x20, 0x00, 0x00, 0x04, 0x40, 0x00, 0x80, 0x00, 0x90, 0x00];
        assert_eq!(filled(ids, 13, 4, 7).bits, bits);
        let bloom = Bloom { bits, hashes: 4, seed: 7 };
        let filter = BloomFilter::of(&bloom).unwrap();
        assert!(filter.contains(ids[0]) && filter.contains(ids[1]));
        assert!(![0, 2, 3, 42, u64::MAX].into_iter().any(|id| filter.contains(id)));
    }

    proptest! {
        #[test]
        fn contains_every_id_it_was_filled_with(
            ids in prop::collection::vec(any::<u64>(), 0..100),
            bytes in 1usize..200,
            hashes in 1u32..=32,
            seed in any::<u64>(),
        ) {
            let bloom = filled(ids.clone(), bytes, hashes, seed);
            let filter = BloomFilter::of(&bloom).unwrap();
            prop_assert!(ids.into_iter().all(|id| filter.contains(id)));
        }
    }

    #[test]
    fn contains_as_few_others_as_the_theory_says() {
        // False-positive rate (1 − e^(−k n / m))^k for k = 7 hashes and m / n = 10 bits per id: 0.82%.
        for (kind, first, step) in [("in a row", 0u64, 1u64), ("far apart", 12_345, 0x9e37_79b9_7f4a_7c15)] {
            let id = |row: u64| first.wrapping_add(row.wrapping_mul(step));
            for bytes in [12_500, 16_384] {
                let bloom = filled((0..bytes / 10 * 8).map(id), bytes as usize, 7, 1);
                let filter = BloomFilter::of(&bloom).unwrap();
                let others = 1_000_000..1_100_000;
                let found = others.filter(|row| filter.contains(id(*row))).count();
                assert!((700..950).contains(&found), "{found} of 100000 {kind} in {bytes} bytes");
            }
        }
    }

    #[test]
    fn refuses_filters_that_say_nothing() {
        let bloom = |bytes, hashes| Bloom { bits: vec![0xff; bytes], hashes, seed: 0 };
        assert!(matches!(BloomFilter::of(&bloom(0, 7)), Err(ExclusionError::NoBloomBits)));
        for found in [0, 33, u32::MAX] {
            let error = BloomFilter::of(&bloom(1, found)).unwrap_err();
            assert_eq!(error, ExclusionError::BloomHashes { most: 32, found });
        }
        assert!(BloomFilter::of(&bloom(1, 1)).is_ok() && BloomFilter::of(&bloom(1, 32)).is_ok());
    }
}
