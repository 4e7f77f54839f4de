//! The path of a field in a message, which costs nothing until there is something to say about it.

use std::fmt;

use crate::engine::EngineError;

/// A field within the fields around it, such as `filter.must[1].keyword.any_of`.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    around: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'static str),
    /// A repeated field, and a position in it.
    Item(&'static str, usize),
    /// A key of the map that is around it.
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A field of the request itself.
    pub(super) fn root(field: &'static str) -> Self {
        Self { around: None, step: Step::Field(field) }
    }

    pub(super) fn field(&'a self, field: &'static str) -> Path<'a> {
        Path { around: Some(self), step: Step::Field(field) }
    }

    pub(super) fn item(&'a self, field: &'static str, position: usize) -> Path<'a> {
        Path { around: Some(self), step: Step::Item(field, position) }
    }

    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { around: Some(self), step: Step::Key(key) }
    }

    /// That the field cannot be used.
    pub(super) fn invalid(&self, problem: impl Into<String>) -> EngineError {
        EngineError::invalid(self.to_string(), problem)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(around) = self.around {
            around.fmt(f)?;
            if !matches!(self.step, Step::Key(_)) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Field(field) => f.write_str(field),
            Step::Item(field, position) => write!(f, "{field}[{position}]"),
            Step::Key(key) => write!(f, "[{key:?}]"),
        }
    }
}
