//! The tree of conditions that a video must meet.

use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};

use crate::base::id::VideoId;

/// Conditions that hold together; without any clause, for every video.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// All of these hold.
    pub must: Vec<Condition>,
    /// At least `min_should` of these hold.
    pub should: Vec<Condition>,
    /// None of these hold.
    pub must_not: Vec<Condition>,
    /// At most the number of `should`; 1 where there are any unless told.
    pub min_should: Option<usize>,
}

impl Filter {
    /// Most filters in one another, the outermost one included.
    pub const MAX_DEPTH: usize = 16;
    /// Most conditions, however deep; a filter within another one is a condition, too.
    pub const MAX_CONDITIONS: usize = 1_000;
    /// Most words and ids that the conditions compare with, all of them together.
    pub const MAX_VALUES: usize = 100_000;
}

/// One condition. On an attribute that has no value none holds, but for [`Condition::IsNull`].
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A whole tree.
    Filter(Filter),
    /// A keyword is one of these.
    Keyword {
        /// By name.
        attribute: String,
        /// At least one.
        any_of: Vec<String>,
    },
    /// A list of keywords contains at least one of `any_of` and every one of `all_of`, as far as they are given.
    List {
        /// By name.
        attribute: String,
        /// May be empty if `all_of` is not.
        any_of: Vec<String>,
        /// May be empty if `any_of` is not.
        all_of: Vec<String>,
    },
    /// An integer or a floating-point number lies within bounds, compared exactly whatever the types; a stored NaN
    /// lies within none.
    Number {
        /// By name.
        attribute: String,
        /// The lower bound.
        lower: Bound<Number>,
        /// The upper bound.
        upper: Bound<Number>,
    },
    /// A timestamp lies within bounds.
    Time {
        /// By name.
        attribute: String,
        /// The lower bound.
        lower: Bound<Time>,
        /// The upper bound.
        upper: Bound<Time>,
    },
    /// A bool is this.
    Bool {
        /// By name.
        attribute: String,
        /// What it is.
        value: bool,
    },
    /// An attribute has no value.
    IsNull {
        /// By name.
        attribute: String,
    },
    /// The video is one of these.
    VideoId {
        /// At least one.
        any_of: Vec<VideoId>,
    },
}

impl Condition {
    /// The field of the proto that it is in.
    pub fn field(&self) -> &'static str {
        match self {
            Condition::Filter(_) => "filter",
            Condition::Keyword { .. } => "keyword",
            Condition::List { .. } => "list",
            Condition::Number { .. } => "number",
            Condition::Time { .. } => "time",
            Condition::Bool { .. } => "bool",
            Condition::IsNull { .. } => "is_null",
            Condition::VideoId { .. } => "video_id",
        }
    }
}

/// A number of any type, to compare with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Signed.
    Int64(i64),
    /// Unsigned.
    Uint64(u64),
    /// Finite.
    Double(f64),
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Time {
    /// This one.
    At(Timestamp),
    /// So long before the request is answered.
    Ago(SignedDuration),
}
