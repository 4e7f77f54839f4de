//! Excluded videos, as a request lists them and in the form that candidates are looked up in.

use super::bloom::{Bloom, BloomFilter};
use super::error::{ExcludeField, ExclusionError};
use super::id_set::IdSet;
use super::serialized_ids::SerializedIds;
use crate::base::id::VideoId;
use crate::serialized_bitmap::SerializedBitmap;

/// The excluded videos of a request, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclude {
    /// Listed ids.
    pub video_ids: Vec<VideoId>,
    /// Listed ids that are text.
    pub text_ids: Vec<String>,
    /// A serialized 64-bit Roaring bitmap of ids; empty for none.
    pub roaring: Vec<u8>,
    /// A Bloom filter of ids.
    pub bloom: Option<Bloom>,
}

impl Exclude {
    /// Maximum number of ids of a request, of all lists and the Roaring bitmap together.
    pub const MAX_IDS: usize = 100_000;

    /// Returns the ids in the Roaring bitmap.
    ///
    /// # Errors
    /// [`ExclusionError`] if the bitmap is damaged, or the request excludes too many ids.
    pub fn roaring_ids(&self) -> Result<Vec<VideoId>, ExclusionError> {
        let (serialized, decoded) = decode(&self.roaring, self.capacity()?)?;
        Ok(serialized.ids().chain(decoded).map(VideoId).collect())
    }

    /// How many ids may be in the Roaring bitmap.
    fn capacity(&self) -> Result<usize, ExclusionError> {
        let too_many = |field, found| ExclusionError::TooManyIds { field, most: Self::MAX_IDS, found };
        let mut listed = self.video_ids.len();
        let capacity = Self::MAX_IDS.checked_sub(listed);
        let capacity = capacity.ok_or_else(|| too_many(ExcludeField::VideoIds, listed as u64))?;
        listed += self.text_ids.len();
        let capacity = capacity.checked_sub(self.text_ids.len());
        capacity.ok_or_else(|| too_many(ExcludeField::TextIds, listed as u64))
    }

    /// Whether the request excludes no videos.
    pub fn is_empty(&self) -> bool {
        let Self { video_ids, text_ids, roaring, bloom } = self;
        video_ids.is_empty() && text_ids.is_empty() && roaring.is_empty() && bloom.is_none()
    }
}

/// Excluded videos, checked and ready for lookups. Borrows the bytes of the [`Exclude`].
#[derive(Clone, Debug)]
pub struct Exclusion<'a> {
    /// Ids that are looked up in the serialized bitmap.
    serialized: SerializedIds<'a>,
    /// All other ids.
    ids: IdSet,
    /// Number of ids in both, repetitions included.
    len: usize,
    bloom: Option<BloomFilter<'a>>,
}

impl<'a> Exclusion<'a> {
    /// Checks and indexes the excluded videos of a request.
    ///
    /// # Errors
    /// [`ExclusionError`] for the first thing that is wrong.
    pub fn of(exclude: &'a Exclude) -> Result<Self, ExclusionError> {
        let Exclude { video_ids, text_ids, roaring, bloom } = exclude;
        let capacity = exclude.capacity()?;
        let bloom = bloom.as_ref().map(BloomFilter::of).transpose()?;
        let (serialized, mut decoded) = decode(roaring, capacity)?;
        decoded.extend(text_ids.iter().map(|text| VideoId::of_text(text).0));
        let len = video_ids.len() + serialized.len() + decoded.len();
        let ids = IdSet::of([bytemuck::cast_slice(video_ids), &decoded]);
        Ok(Self { serialized, ids, len, bloom })
    }

    /// Whether `video` is excluded.
    #[inline]
    pub fn contains(&self, video: VideoId) -> bool {
        self.serialized.contains(video.0)
            || self.ids.contains(video.0)
            || self.bloom.as_ref().is_some_and(|bloom| bloom.contains(video.0))
    }

    /// Prefetches the memory that [`Exclusion::contains`] reads for `video`.
    #[inline]
    pub fn prefetch(&self, video: VideoId) {
        self.serialized.prefetch(video.0);
    }

    /// The number of ids given, repetitions included. Ids of the Bloom filter are not counted: their number is
    /// unknown.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no video is excluded.
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.bloom.is_none()
    }
}

/// Decodes a 64-bit Roaring bitmap of at most `capacity` ids.
///
/// It consists of one bucket per upper half that occurs: that half, then a 32-bit bitmap of the lower halves. The
/// leading buckets with a single id each stay where they are; the ids of all other buckets are copied to the vector.
fn decode(bytes: &[u8], capacity: usize) -> Result<(SerializedIds<'_>, Vec<u64>), ExclusionError> {
    let at = |rest: &[u8]| bytes.len() - rest.len();
    let truncated =
        |rest: &[u8], expected| ExclusionError::Truncated { at: at(rest), expected, found: rest.len() };
    let (buckets, rest) = match bytes.split_first_chunk() {
        Some((buckets, rest)) => (u64::from_le_bytes(*buckets), rest),
        None if bytes.is_empty() => (0, bytes),
        None => return Err(truncated(bytes, 8)),
    };
    let (serialized, mut rest) = SerializedIds::of(rest, buckets.min(capacity as u64) as usize);
    let capacity = capacity - serialized.len();
    let mut ids = Vec::new();
    let mut expected = serialized.next_upper();
    for _ in serialized.len() as u64..buckets {
        let (upper, bitmap) = rest.split_first_chunk().ok_or_else(|| truncated(rest, 4))?;
        let upper = u64::from(u32::from_le_bytes(*upper));
        if upper < expected {
            return Err(ExclusionError::BucketsNotAscending { at: at(rest), expected, found: upper });
        }
        expected = upper + 1;
        rest = match SerializedBitmap::singleton_value(bitmap) {
            Some((lower, rest)) if ids.len() < capacity => {
                ids.push(upper << 32 | u64::from(lower));
                rest
            }
            _ => {
                let (lower, rest) = SerializedBitmap::parse(bitmap)
                    .map_err(|source| ExclusionError::Bucket { at: at(bitmap), source })?;
                append(&mut ids, upper << 32, &lower, capacity)?;
                rest
            }
        };
    }
    if !rest.is_empty() {
        return Err(ExclusionError::TrailingBytes { expected: at(rest), found: bytes.len() });
    }
    Ok((serialized, ids))
}

/// Appends the ids of one bucket to `ids`, unless they would be more than `capacity`.
///
/// Never inlined: inlining it slows the loop over singleton buckets by a fifth.
#[inline(never)]
fn append(
    ids: &mut Vec<u64>,
    least: u64,
    lower: &SerializedBitmap,
    capacity: usize,
) -> Result<(), ExclusionError> {
    // Checked before any id is copied: a few bytes of runs can encode billions of ids.
    if lower.len() > (capacity - ids.len()) as u64 {
        let found = (Exclude::MAX_IDS - capacity + ids.len()) as u64 + lower.len();
        return Err(ExclusionError::TooManyIds {
            field: ExcludeField::Roaring,
            most: Exclude::MAX_IDS,
            found,
        });
    }
    ids.reserve(lower.len() as usize);
    lower.for_each(|lower| ids.push(least | u64::from(lower)));
    Ok(())
}

#[cfg(test)]
mod tests;
