//! A filter as a tree of conditions.

use std::ops::Bound;

use jiff::SignedDuration;

use crate::base::id::VideoId;
use crate::base::instant::Instant;

/// Conditions that a video must meet. A video matches if all three clauses hold; an empty filter matches every video.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// All of these hold.
    pub must: Vec<Condition>,
    /// At least `min_should` of these hold.
    pub should: Vec<Condition>,
    /// None of these hold.
    pub must_not: Vec<Condition>,
    /// At most the number of `should`. `None`: 1 if `should` is not empty, else 0.
    pub min_should: Option<usize>,
}

/// The work of finding the matches of a filter, in counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterWork {
    /// Sets of nodes that are made, combined or counted.
    pub sets: usize,
    /// Words, bounds and ids that are looked up.
    pub values: usize,
}

impl Filter {
    /// The work of finding its matches.
    pub fn work(&self) -> FilterWork {
        // Counting up to `min_should` adds every set of `should` to a counter of one set per bit.
        let bits = self.min_should.unwrap_or(0).min(self.should.len()).next_power_of_two().ilog2();
        let mut work = FilterWork { sets: self.should.len() * bits as usize, values: 0 };
        for condition in self.must.iter().chain(&self.should).chain(&self.must_not) {
            let FilterWork { sets, values } = match condition {
                Condition::Filter(filter) => filter.work(),
                Condition::Keyword { any_of, .. } => FilterWork { sets: 1, values: any_of.len() },
                Condition::List { any_of, all_of, .. } => {
                    FilterWork { sets: 1 + all_of.len(), values: any_of.len() + all_of.len() }
                }
                Condition::VideoId { any_of } => FilterWork { sets: 1, values: any_of.len() },
                Condition::Number { .. }
                | Condition::Time { .. }
                | Condition::Bool { .. }
                | Condition::IsNull { .. } => FilterWork { sets: 1, values: 2 },
            };
            work.sets += sets;
            work.values += values;
        }
        work
    }

    /// Maximum nesting depth of filters, the outermost included.
    pub const MAX_DEPTH: usize = 16;
    /// Maximum number of conditions at all depths; a nested filter counts as a condition.
    pub const MAX_CONDITIONS: usize = 1_000;
    /// Maximum number of words and ids in all conditions together.
    pub const MAX_VALUES: usize = 100_000;

    /// The memory of the tree in bytes, without what the allocator adds.
    pub fn heap_bytes(&self) -> usize {
        let words = |words: &[String]| words.iter().map(|word| size_of::<String>() + word.capacity()).sum();
        let mut bytes = 0;
        self.each_condition(&mut |condition| {
            let values: usize = match condition {
                Condition::Keyword { any_of, .. } => words(any_of),
                Condition::List { any_of, all_of, .. } => words(any_of) + words(all_of),
                Condition::VideoId { any_of } => size_of_val(&any_of[..]),
                _ => 0,
            };
            bytes += size_of::<Condition>() + condition.attribute().map_or(0, str::len) + values;
        });
        bytes
    }

    /// Calls `each` with the name of the attribute of every condition.
    pub fn each_attribute(&self, each: &mut dyn FnMut(&str)) {
        self.each_condition(&mut |condition| condition.attribute().into_iter().for_each(&mut *each));
    }

    /// Calls `each` with every condition, also with nested filters and their conditions.
    pub fn each_condition(&self, each: &mut dyn FnMut(&Condition)) {
        for condition in self.must.iter().chain(&self.should).chain(&self.must_not) {
            each(condition);
            if let Condition::Filter(filter) = condition {
                filter.each_condition(each);
            }
        }
    }
}

/// One condition. For a video without a value only [`Condition::IsNull`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A nested filter matches.
    Filter(Filter),
    /// The keyword is one of these.
    Keyword {
        /// Name of the attribute.
        attribute: String,
        /// At least one.
        any_of: Vec<String>,
    },
    /// The list of keywords contains at least one of `any_of`, unless that is empty, and every one of `all_of`.
    List {
        /// Name of the attribute.
        attribute: String,
        /// May be empty if `all_of` is not.
        any_of: Vec<String>,
        /// May be empty if `any_of` is not.
        all_of: Vec<String>,
    },
    /// The integer or floating-point number is within bounds, compared exactly across types. A stored NaN is within no
    /// bounds.
    Number {
        /// Name of the attribute.
        attribute: String,
        /// The lower bound.
        lower: Bound<Number>,
        /// The upper bound.
        upper: Bound<Number>,
    },
    /// The timestamp is within bounds.
    Time {
        /// Name of the attribute.
        attribute: String,
        /// The lower bound.
        lower: Bound<Time>,
        /// The upper bound.
        upper: Bound<Time>,
    },
    /// The bool has this value.
    Bool {
        /// Name of the attribute.
        attribute: String,
        /// The value.
        value: bool,
    },
    /// The attribute has no value.
    IsNull {
        /// Name of the attribute.
        attribute: String,
    },
    /// The video is one of these.
    VideoId {
        /// At least one.
        any_of: Vec<VideoId>,
    },
}

impl Condition {
    /// Returns the name of its kind, as in the path of an error.
    pub fn kind(&self) -> &'static str {
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

    fn attribute(&self) -> Option<&str> {
        match self {
            Condition::Keyword { attribute, .. }
            | Condition::List { attribute, .. }
            | Condition::Number { attribute, .. }
            | Condition::Time { attribute, .. }
            | Condition::Bool { attribute, .. }
            | Condition::IsNull { attribute } => Some(attribute),
            Condition::Filter(_) | Condition::VideoId { .. } => None,
        }
    }
}

/// A bound of a number, of any type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Signed.
    Int64(i64),
    /// Unsigned.
    Uint64(u64),
    /// Finite.
    Double(f64),
}

/// A bound of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Time {
    /// A point in time.
    At(Instant),
    /// This long before the request is answered; a negative duration is after it.
    Ago(SignedDuration),
}
