//! One value of one attribute.

use crate::base::instant::Instant;

/// One value of one attribute, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A word.
    Keyword(String),
    /// A list of words.
    KeywordList(Vec<String>),
    /// Signed 64-bit.
    Int64(i64),
    /// Unsigned 64-bit.
    Uint64(u64),
    /// Double precision.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// A point in time, to the microsecond.
    Timestamp(Instant),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Keyword(word) => f.write_str(word),
            Value::KeywordList(words) => f.write_str(&words.join(", ")),
            Value::Int64(value) => value.fmt(f),
            Value::Uint64(value) => value.fmt(f),
            Value::Double(value) => value.fmt(f),
            Value::Bool(value) => value.fmt(f),
            Value::Timestamp(value) => value.fmt(f),
        }
    }
}
