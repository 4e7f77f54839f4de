//! Errors in the bytes of a bitmap.

/// Containers differ in the upper 16 bits of their values, so there are at most this many.
pub(super) const MAX_CONTAINERS: usize = 1 << 16;

/// An error in the bytes of a bitmap. `at` is a byte offset from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// The bytes end too early.
    #[error("byte {at}: truncated: expected {expected} more bytes, found {found}")]
    Truncated {
        /// Start of the incomplete piece.
        at: usize,
        /// Length of the piece.
        expected: usize,
        /// Remaining bytes.
        found: usize,
    },
    /// The bytes are no Roaring bitmap.
    #[error("byte 0: not a Roaring bitmap: expected cookie 12346 or 12347, found {found}")]
    ForeignCookie {
        /// The first 4 bytes.
        found: u32,
    },
    /// More containers than distinct values of 16 bits.
    #[error("byte 4: expected at most {MAX_CONTAINERS} containers, found {found}")]
    TooManyContainers {
        /// The number of containers that the bitmap claims.
        found: u32,
    },
    /// Containers, or the values or runs within one, do not ascend, or overlap.
    #[error("byte {at}: {what}: expected {expected} or more, found {found}")]
    NotAscending {
        /// Offset of the key, value or run.
        at: usize,
        /// `key`, `value` or `run`.
        what: &'static str,
        /// The smallest allowed after the previous one.
        expected: u32,
        /// The one found.
        found: u16,
    },
    /// The stored offset of a container is wrong.
    #[error("byte {at}: expected a container at byte {expected}, found offset {found}")]
    WrongOffset {
        /// Start of the offset.
        at: usize,
        /// Start of the container.
        expected: usize,
        /// The stored offset.
        found: u32,
    },
    /// A run passes the end of its container.
    #[error("byte {at}: expected a run up to 65535 at most, found one up to {found}")]
    RunTooLong {
        /// Start of the run.
        at: usize,
        /// Its last value.
        found: u32,
    },
    /// A container has more or fewer values than its description says.
    #[error("byte {at}: expected a container of {expected} values, found {found}")]
    WrongCount {
        /// Start of the container.
        at: usize,
        /// As described.
        expected: usize,
        /// As counted.
        found: usize,
    },
}
