//! The values of a keyword attribute, to complete what a person types.

use super::map::ordinal;
use crate::attributes::Columns;
use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::index::AttributeKind;

/// The most values that are counted.
const MOST_COUNTED: usize = 10_000;

/// A value of an attribute, and how many videos of the generation have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueCount {
    /// The keyword.
    pub value: String,
    /// Number of videos, with those that were deleted since the build.
    pub videos: u64,
}

impl Engine {
    /// Returns at most `limit` values of a keyword attribute that begin with `prefix`, the most frequent first. Of more than 10,000
    /// such values, the first ones count. Knows the values of the generation, not those that were written since.
    ///
    /// # Errors
    /// If there is no such index, or the attribute is none of keywords.
    pub fn values(
        &self,
        index: &str,
        attribute: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<ValueCount>, EngineError> {
        self.with(index, |served| {
            let snapshot = served.snapshot()?;
            let schema = &snapshot.index.metadata().attributes;
            let ordinal = ordinal(&snapshot, attribute)?;
            if !matches!(schema[ordinal].kind, AttributeKind::Keyword | AttributeKind::KeywordList) {
                let kind = schema[ordinal].kind;
                let problem = format!("expected an attribute of keywords, found {attribute:?} of {kind:?}");
                return Err(EngineError::invalid(Field::Attribute(attribute.to_owned()), problem));
            }
            let columns = Columns::of(&snapshot.index);
            let Some(words) = columns.words(ordinal) else { return Ok(Vec::new()) };
            let mut found: Vec<(&str, u64)> = words.with_prefix(prefix).take(MOST_COUNTED).collect();
            found.sort_by(|(one, of_one), (other, of_other)| of_other.cmp(of_one).then(one.cmp(other)));
            found.truncate(limit);
            let value = |(value, videos): (&str, u64)| ValueCount { value: value.to_owned(), videos };
            Ok(found.into_iter().map(value).collect())
        })
    }
}
