//! Which videos a shard of an index has.

use std::fmt;
use std::str::FromStr;

use super::id::VideoId;

/// Partitions of an index, for its whole life. A shard has a range of them.
pub const PARTITIONS: u32 = 64;

/// Returns the partition of a video, `0..PARTITIONS`: the finalizer of SplitMix64 of its id, modulo their number.
pub fn partition(video: VideoId) -> u32 {
    let mut bits = video.0;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits % u64::from(PARTITIONS)) as u32
}

/// One of the shards of an index: the videos of a range of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    of: u32,
}

impl Shard {
    /// The only shard of an index that is not divided.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Shard `index`, from 0, of `of`.
    ///
    /// # Errors
    /// The problem, unless `of` is a power of two of at most [`PARTITIONS`] and `index` is below it.
    pub fn new(index: u32, of: u32) -> Result<Self, String> {
        if !of.is_power_of_two() || of > PARTITIONS {
            return Err(format!(
                "expected a power of two of at most {PARTITIONS} as the number of shards, found {of}"
            ));
        }
        if index >= of {
            return Err(format!("expected a shard from 0 to {}, found {index}", of - 1));
        }
        Ok(Self { index, of })
    }

    /// The number of the shard, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// The number of shards.
    pub fn of(self) -> u32 {
        self.of
    }

    /// Returns whether a video belongs to this shard.
    pub fn has(self, video: VideoId) -> bool {
        self == Self::owner(video, self.of)
    }

    /// Returns the shard of a video, of `of` shards, which must be valid.
    pub fn owner(video: VideoId, of: u32) -> Self {
        Self { index: partition(video) * of / PARTITIONS, of }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || format!("expected a shard such as 0/4, found {text:?}");
        let (index, of) = text.split_once('/').ok_or_else(expected)?;
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| expected());
        Self::new(number(index)?, number(of)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_stay_as_they_are() {
        let found = [0, 1, 2, 7, 1 << 40, u64::MAX].map(|id| partition(VideoId(id)));
        assert_eq!(found, [0, 25, 54, 62, 34, 12]);
    }

    #[test]
    fn each_video_has_one_shard_and_half_of_one_shard_is_a_shard_of_twice_as_many() {
        for id in 0..5_000u64 {
            let video = VideoId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut of = 1;
            while of <= PARTITIONS {
                let owners = (0..of).filter(|index| Shard::new(*index, of).unwrap().has(video));
                assert_eq!(owners.collect::<Vec<_>>(), [Shard::owner(video, of).index()]);
                of *= 2;
                if of <= PARTITIONS {
                    assert_eq!(Shard::owner(video, of).index() / 2, Shard::owner(video, of / 2).index());
                }
            }
        }
    }

    #[test]
    fn shards_are_about_equally_large() {
        let mut sizes = [0u32; 8];
        (0..80_000).for_each(|id| sizes[Shard::owner(VideoId(id), 8).index() as usize] += 1);
        assert!(sizes.iter().all(|size| (9_500..10_500).contains(size)), "{sizes:?}");
    }

    #[test]
    fn is_read_as_it_is_written() {
        assert_eq!("3/8".parse(), Shard::new(3, 8));
        assert_eq!(Shard::new(3, 8).unwrap().to_string(), "3/8");
        for (text, problem) in [
            ("3", "expected a shard such as 0/4, found \"3\""),
            ("a/4", "expected a shard such as 0/4, found \"a/4\""),
            ("4/4", "expected a shard from 0 to 3, found 4"),
            ("0/3", "expected a power of two of at most 64 as the number of shards, found 3"),
            ("0/128", "expected a power of two of at most 64 as the number of shards, found 128"),
            ("0/0", "expected a power of two of at most 64 as the number of shards, found 0"),
        ] {
            assert_eq!(text.parse::<Shard>().unwrap_err(), problem);
        }
    }
}
