//! The path of a field in a message, which costs nothing until there is something to say about it.

use std::fmt;

use crate::engine::EngineError;

/// A field within the fields around it, such as `filter.must[1].keyword.any_of`.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    around: Option<&'a Path<'a>>,
    field: &'static str,
    /// Its position, if it is repeated.
    item: Option<usize>,
}

impl<'a> Path<'a> {
    /// A field of the request itself.
    pub(super) fn root(field: &'static str) -> Self {
        Self { around: None, field, item: None }
    }

    pub(super) fn field(&'a self, field: &'static str) -> Path<'a> {
        Path { around: Some(self), field, item: None }
    }

    pub(super) fn item(&'a self, field: &'static str, position: usize) -> Path<'a> {
        Path { around: Some(self), field, item: Some(position) }
    }

    /// That the field cannot be used.
    pub(super) fn invalid(&self, problem: impl Into<String>) -> EngineError {
        EngineError::invalid(self.to_string(), problem)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(around) = self.around {
            write!(f, "{around}.")?;
        }
        f.write_str(self.field)?;
        match self.item {
            Some(position) => write!(f, "[{position}]"),
            None => Ok(()),
        }
    }
}
