//! The values that caps count.

/// A value that a cap counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Word(String),
    /// One keyword of a list.
    Listed(String),
    Int64(i64),
    Uint64(u64),
    Bool(bool),
}
