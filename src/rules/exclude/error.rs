//! Errors in the excluded videos of a request.

use crate::serialized_bitmap::BitmapError;

/// A list of excluded videos, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExcludeField {
    /// [`Exclude::video_ids`](crate::rules::Exclude::video_ids).
    VideoIds,
    /// [`Exclude::text_ids`](crate::rules::Exclude::text_ids).
    TextIds,
    /// [`Exclude::roaring`](crate::rules::Exclude::roaring).
    Roaring,
    /// [`Bloom::bits`](crate::rules::Bloom::bits).
    BloomBits,
    /// [`Bloom::hashes`](crate::rules::Bloom::hashes).
    BloomHashes,
}

/// Why the excluded videos of a request were refused. The message does not name the field. `at` is a byte offset in the Roaring
/// bitmap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExclusionError {
    /// More ids than a request may have.
    #[error("expected at most {most} ids, listed and in the Roaring bitmap together; found {found} or more")]
    TooManyIds {
        /// The list that exceeds the limit.
        field: ExcludeField,
        /// Ids that a request may have.
        most: usize,
        /// Ids counted so far; counting stops at the limit.
        found: u64,
    },
    /// The Roaring bitmap ends before its last bucket.
    #[error("byte {at}: truncated: expected {expected} more bytes, found {found}")]
    Truncated {
        /// Start of the bucket count or of a bucket.
        at: usize,
        /// Minimum number of bytes from there.
        expected: usize,
        /// Remaining bytes.
        found: usize,
    },
    /// Buckets of the Roaring bitmap do not ascend.
    #[error("byte {at}: expected a bucket of the upper half {expected} or more, found {found}")]
    BucketsNotAscending {
        /// Start of the bucket.
        at: usize,
        /// Smallest upper half allowed after the previous bucket.
        expected: u64,
        /// Upper half of the bucket.
        found: u64,
    },
    /// A bucket of the Roaring bitmap is damaged.
    #[error("in the bitmap at byte {at}: {source}")]
    Bucket {
        /// Start of the 32-bit bitmap of the bucket.
        at: usize,
        /// Error in it; its offsets count from `at`.
        r#source: BitmapError,
    },
    /// Bytes follow the Roaring bitmap.
    #[error("expected {expected} bytes, found {found}")]
    TrailingBytes {
        /// Bytes of the bitmap.
        expected: usize,
        /// Bytes of the field.
        found: usize,
    },
    /// The Bloom filter is empty.
    #[error("expected 1 byte or more, found 0")]
    NoBloomBits,
    /// The number of hashes of the Bloom filter is zero or too large.
    #[error("expected 1 to {most}, found {found}")]
    BloomHashes {
        /// Maximum number of hashes.
        most: u32,
        /// As given.
        found: u32,
    },
}

impl ExclusionError {
    /// Returns the field at fault.
    pub fn field(&self) -> ExcludeField {
        match self {
            Self::TooManyIds { field, .. } => *field,
            Self::Truncated { .. }
            | Self::BucketsNotAscending { .. }
            | Self::Bucket { .. }
            | Self::TrailingBytes { .. } => ExcludeField::Roaring,
            Self::NoBloomBits => ExcludeField::BloomBits,
            Self::BloomHashes { .. } => ExcludeField::BloomHashes,
        }
    }
}
