//! What can be wrong with the bytes of a bitmap.

use super::container::MAX_CONTAINERS;

/// What is wrong with the bytes of a bitmap. `at` counts bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// The bytes end within something.
    #[error("byte {at}: truncated: expected {expected} more bytes, found {found}")]
    Truncated {
        /// Where it starts.
        at: usize,
        /// Bytes that it has.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Not a bitmap at all.
    #[error("byte 0: not a Roaring bitmap: expected cookie 12346 or 12347, found {found}")]
    ForeignCookie {
        /// The first 4 bytes.
        found: u32,
    },
    /// More containers than differ in the upper 16 bits of their values.
    #[error("byte 4: expected at most {MAX_CONTAINERS} containers, found {found}")]
    TooManyContainers {
        /// How many the bitmap claims.
        found: u32,
    },
    /// Containers, or the values or runs of one, do not ascend, or they overlap.
    #[error("byte {at}: {what}: expected {expected} or more, found {found}")]
    NotAscending {
        /// Where it lies.
        at: usize,
        /// `key`, `value` or `run`.
        what: &'static str,
        /// The least that may follow what is before it.
        expected: u32,
        /// What does.
        found: u16,
    },
    /// A container lies elsewhere than its offset says.
    #[error("byte {at}: expected a container at byte {expected}, found offset {found}")]
    WrongOffset {
        /// Where the offset lies.
        at: usize,
        /// Where the container lies.
        expected: usize,
        /// The offset.
        found: u32,
    },
    /// A run passes the end of its container.
    #[error("byte {at}: expected a run up to 65535 at most, found one up to {found}")]
    RunTooLong {
        /// Where the run lies.
        at: usize,
        /// Its last value.
        found: u32,
    },
    /// A container has more or fewer values than its description says.
    #[error("byte {at}: expected a container of {expected} values, found {found}")]
    WrongCount {
        /// Where the container lies.
        at: usize,
        /// As described.
        expected: usize,
        /// As counted.
        found: usize,
    },
}
