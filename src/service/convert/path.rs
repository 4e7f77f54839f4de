//! The path of a field in a message. It is formatted only for an error, and costs nothing otherwise.

use std::fmt;

use crate::service::error::InvalidField;

/// A field within its enclosing fields, such as `filter.must[1].keyword.any_of`.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'static str),
    /// A repeated field, and a position in it.
    Item(&'static str, usize),
    /// A key of the parent, a map.
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// Returns the path of a top-level field of the request.
    pub(super) fn root(field: &'static str) -> Self {
        Self { parent: None, step: Step::Field(field) }
    }

    /// Returns the path of an item of a repeated field of the request.
    pub(super) fn root_item(field: &'static str, position: usize) -> Self {
        Self { parent: None, step: Step::Item(field, position) }
    }

    /// Returns the path of a field of this message.
    pub(super) fn field(&'a self, field: &'static str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(field) }
    }

    /// Returns the path of an item of a repeated field of this message.
    pub(super) fn item(&'a self, field: &'static str, position: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Item(field, position) }
    }

    /// Returns the path of an entry of this map.
    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// Returns the error that this field is invalid.
    pub(super) fn invalid(&self, problem: impl Into<String>) -> InvalidField {
        InvalidField::new(self.to_string(), problem)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
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
