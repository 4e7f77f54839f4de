//! The videos that may not be candidates, ready to be asked for each candidate.
//!
//! What flows in: an [`Exclude`], of which nothing was checked. What flows out: whether a video is in it.

use super::Exclude;
use super::bloom::BloomFilter;
use super::id_set::IdSet;
use super::lone_ids::LoneIds;
use crate::base::id::VideoId;
use crate::serialized_bitmap::{BitmapError, SerializedBitmap};

/// Ids that a request may give, as they are and as a Roaring bitmap together.
const MAX_IDS: usize = 100_000;

/// Videos that may not be candidates.
#[derive(Clone, Debug)]
pub struct Exclusion<'a> {
    lone: LoneIds<'a>,
    /// The others.
    ids: IdSet,
    len: usize,
    bloom: Option<BloomFilter<'a>>,
}

/// What is wrong with an [`Exclude`]; the message does not name the field. `at` counts bytes of the Roaring bitmap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExclusionError {
    /// More ids than a request may give.
    #[error(
        "expected at most {most} ids, as they are and as a Roaring bitmap together; found {found} or more"
    )]
    TooManyIds {
        /// Where they became too many.
        field: &'static str,
        /// As many as may be given.
        most: usize,
        /// As many as were counted; the rest was not looked at.
        found: u64,
    },
    /// The Roaring bitmap ends before its last bucket.
    #[error("byte {at}: truncated: expected {expected} more bytes, found {found}")]
    Truncated {
        /// Where the number of buckets, or a bucket, starts.
        at: usize,
        /// Bytes that it has at least.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Buckets of the Roaring bitmap do not ascend.
    #[error("byte {at}: expected a bucket of the upper half {expected} or more, found {found}")]
    BucketsNotAscending {
        /// Where the bucket starts.
        at: usize,
        /// The least that may follow the bucket before.
        expected: u64,
        /// What does.
        found: u64,
    },
    /// A bucket of the Roaring bitmap is damaged.
    #[error("in the bitmap at byte {at}: {source}")]
    Bucket {
        /// Where the bitmap of the bucket starts.
        at: usize,
        /// What is wrong with it, in bytes from there.
        r#source: BitmapError,
    },
    /// Something follows the Roaring bitmap.
    #[error("expected {expected} bytes, found {found}")]
    TrailingBytes {
        /// Bytes of the bitmap.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The Bloom filter is empty.
    #[error("expected 1 byte or more, found 0")]
    NoBloomBits,
    /// The Bloom filter has no hashes, or more than are computed.
    #[error("expected 1 to {most}, found {found}")]
    BloomHashes {
        /// The most that there may be.
        most: u32,
        /// As given.
        found: u32,
    },
}

impl<'a> Exclusion<'a> {
    /// Makes ready what a request excludes.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn of(exclude: &'a Exclude) -> Result<Self, ExclusionError> {
        let Exclude { video_ids, roaring, bloom } = exclude;
        let Some(room) = MAX_IDS.checked_sub(video_ids.len()) else {
            let found = video_ids.len() as u64;
            return Err(ExclusionError::TooManyIds { field: "exclude.video_ids", most: MAX_IDS, found });
        };
        let bloom = bloom.as_ref().map(BloomFilter::of).transpose()?;
        let (lone, decoded) = decode(roaring, room)?;
        let len = video_ids.len() + lone.len() + decoded.len();
        let ids = IdSet::of([bytemuck::cast_slice(video_ids), &decoded]);
        Ok(Self { lone, ids, len, bloom })
    }

    /// Whether `video` may not be a candidate.
    #[inline]
    pub fn contains(&self, video: VideoId) -> bool {
        self.lone.contains(video.0)
            || self.ids.contains(video.0)
            || self.bloom.as_ref().is_some_and(|bloom| bloom.contains(video.0))
    }

    /// Asks the memory system for what is looked at for `video`.
    #[inline]
    pub fn prefetch(&self, video: VideoId) {
        self.lone.prefetch(video.0);
    }

    /// How many ids were given, each as often as it was; what the Bloom filter contains is not known.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether every video may be a candidate.
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.bloom.is_none()
    }
}

impl ExclusionError {
    /// The path of the field at fault, as in the proto.
    pub fn field(&self) -> &'static str {
        match self {
            Self::TooManyIds { field, .. } => field,
            Self::Truncated { .. }
            | Self::BucketsNotAscending { .. }
            | Self::Bucket { .. }
            | Self::TrailingBytes { .. } => "exclude.roaring",
            Self::NoBloomBits => "exclude.bloom.bits",
            Self::BloomHashes { .. } => "exclude.bloom.hashes",
        }
    }
}

/// The ids of a 64-bit Roaring bitmap, if there are at most `room`: a bucket for each upper half that occurs, which is
/// that half and a 32-bit bitmap of the lower ones. Apart from the first of them that are alone they are written down.
fn decode(bytes: &[u8], room: usize) -> Result<(LoneIds<'_>, Vec<u64>), ExclusionError> {
    let at = |rest: &[u8]| bytes.len() - rest.len();
    let truncated =
        |rest: &[u8], expected| ExclusionError::Truncated { at: at(rest), expected, found: rest.len() };
    let (buckets, rest) = match bytes.split_first_chunk() {
        Some((buckets, rest)) => (u64::from_le_bytes(*buckets), rest),
        None if bytes.is_empty() => (0, bytes),
        None => return Err(truncated(bytes, 8)),
    };
    let (lone, mut rest) = LoneIds::of(rest, buckets.min(room as u64) as usize);
    let room = room - lone.len();
    let mut ids = Vec::new();
    let mut expected = lone.next_upper();
    for _ in lone.len() as u64..buckets {
        let (upper, bitmap) = rest.split_first_chunk().ok_or_else(|| truncated(rest, 4))?;
        let upper = u64::from(u32::from_le_bytes(*upper));
        if upper < expected {
            return Err(ExclusionError::BucketsNotAscending { at: at(rest), expected, found: upper });
        }
        expected = upper + 1;
        rest = match SerializedBitmap::lone_value(bitmap) {
            Some((lower, rest)) if ids.len() < room => {
                ids.push(upper << 32 | u64::from(lower));
                rest
            }
            _ => {
                let (lower, rest) = SerializedBitmap::parse(bitmap)
                    .map_err(|source| ExclusionError::Bucket { at: at(bitmap), source })?;
                append(&mut ids, upper << 32, &lower, room)?;
                rest
            }
        };
    }
    if !rest.is_empty() {
        return Err(ExclusionError::TrailingBytes { expected: at(rest), found: bytes.len() });
    }
    Ok((lone, ids))
}

/// Kept out of the loop over lone ids, which it would slow down by a fifth.
#[inline(never)]
fn append(
    ids: &mut Vec<u64>,
    least: u64,
    lower: &SerializedBitmap,
    room: usize,
) -> Result<(), ExclusionError> {
    // Before any of them is written down: a few bytes of runs can stand for billions.
    if lower.len() > (room - ids.len()) as u64 {
        let found = (MAX_IDS - room + ids.len()) as u64 + lower.len();
        return Err(ExclusionError::TooManyIds { field: "exclude.roaring", most: MAX_IDS, found });
    }
    ids.reserve(lower.len() as usize);
    lower.for_each(|lower| ids.push(least | u64::from(lower)));
    Ok(())
}

#[cfg(test)]
mod tests;
