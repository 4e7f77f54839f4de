//! Which shard of an index a video belongs to.
//!
//! Every video is in one of [`PARTITIONS`] partitions, by a hash of its id. A shard has a range of partitions. The number of
//! partitions never changes, so a catalog that grows from N to 2N shards splits every shard in two.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::id::VideoId;
use super::mix::mix;

/// Partitions of every index.
pub const PARTITIONS: u32 = 64;

/// The partition of a video: the finalizer of SplitMix64 of its id, as in Bloom filters, modulo [`PARTITIONS`].
#[must_use]
pub fn partition(VideoId(id): VideoId) -> u32 {
    (mix(id) % u64::from(PARTITIONS)) as u32
}

/// One of the shards of an index: `index` of `of`, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    of: u32,
}

/// Why a text or a pair of numbers is no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// It is not two numbers.
    #[error("expected I/N, such as 0/4 for the first of four shards, found {0:?}")]
    Syntax(String),
    /// The partitions cannot be divided by this number.
    #[error("expected 1, 2, 4, 8, 16, 32 or 64 shards, found {0}")]
    Count(u32),
    /// There is no such shard.
    #[error("expected a shard from 0 to {last}, found {found}")]
    Index {
        /// The last shard.
        last: u32,
        /// The number that was given.
        found: u32,
    },
}

impl Shard {
    /// All of an index.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Shard `index` of `of`.
    ///
    /// # Errors
    /// If `of` is not a power of two up to [`PARTITIONS`], or `index` is not below it.
    pub fn new(index: u32, of: u32) -> Result<Self, ShardError> {
        if !of.is_power_of_two() || of > PARTITIONS {
            return Err(ShardError::Count(of));
        }
        if index >= of {
            return Err(ShardError::Index { last: of - 1, found: index });
        }
        Ok(Self { index, of })
    }

    /// All shards of an index that has `of`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn all(of: u32) -> Result<impl Iterator<Item = Self>, ShardError> {
        Self::new(0, of)?;
        Ok((0..of).map(move |index| Self { index, of }))
    }

    /// Its number, from 0.
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }

    /// The number of shards.
    #[must_use]
    pub fn of(self) -> u32 {
        self.of
    }

    /// The shard of a video in an index of `of` shards, which must be a number that [`Self::new`] accepts.
    #[must_use]
    pub fn of_video(video: VideoId, of: u32) -> u32 {
        partition(video) * of / PARTITIONS
    }

    /// Its partitions.
    #[must_use]
    pub fn partitions(self) -> Range<u32> {
        let size = PARTITIONS / self.of;
        self.index * size..(self.index + 1) * size
    }

    /// Whether a video is in this shard.
    #[must_use]
    pub fn contains(self, video: VideoId) -> bool {
        Self::of_video(video, self.of) == self.index
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let syntax = || ShardError::Syntax(text.chars().take(40).collect());
        let (index, of) = text.split_once('/').ok_or_else(syntax)?;
        // Without signs, which the parser of numbers accepts.
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| is_number).ok_or_else(syntax)
        };
        Self::new(number(index)?, number(of)?)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_contract() {
        // The example of Bloom filters: id 1 with seed 7.
        assert_eq!(mix(1 ^ 7), 0xd177_0797_7078_336c);
        assert_eq!([0, 1, 2, u64::MAX].map(|id| partition(VideoId(id))), [0, 37, 10, 59]);
    }

    #[test]
    fn a_shard_is_two_numbers_and_divides_the_partitions() {
        assert_eq!("3/4".parse(), Shard::new(3, 4));
        assert_eq!(Shard::new(3, 4).unwrap().to_string(), "3/4");
        assert_eq!(Shard::new(3, 4).unwrap().partitions(), 48..64);
        assert_eq!("0/1".parse(), Ok(Shard::WHOLE));
        for text in ["", "1", "/", "1/", "/2", "+1/2", "-1/2", "1/2/4", " 1/2", "a/b", "1/99999999999"] {
            assert!(matches!(text.parse::<Shard>(), Err(ShardError::Syntax(_))), "{text:?}");
        }
        for of in [0, 3, 63, 65, 128] {
            assert_eq!(Shard::new(0, of), Err(ShardError::Count(of)));
        }
        assert_eq!("4/4".parse::<Shard>(), Err(ShardError::Index { last: 3, found: 4 }));
    }

    proptest! {
        #[test]
        fn every_video_is_in_one_shard_and_growing_splits_shards(id: u64, power in 0u32..6) {
            let of = 1 << power;
            let owners: Vec<u32> =
                Shard::all(of).unwrap().filter(|shard| shard.contains(VideoId(id))).map(Shard::index).collect();
            prop_assert_eq!(&owners, &[Shard::of_video(VideoId(id), of)]);
            prop_assert_eq!(Shard::of_video(VideoId(id), 2 * of) / 2, owners[0]);
            prop_assert!(Shard::new(owners[0], of).unwrap().partitions().contains(&partition(VideoId(id))));
        }
    }
}
