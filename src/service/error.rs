//! Why a call fails.

use std::fmt;

use crate::engine::EngineError;

/// Why a call, or one item of it, fails.
#[derive(Debug)]
pub(crate) enum CallError {
    /// A message cannot be converted.
    Field(InvalidField),
    /// A field asks for what the server does not have now.
    Precondition(InvalidField),
    /// The engine refused the request.
    Engine(EngineError),
}

impl From<InvalidField> for CallError {
    fn from(error: InvalidField) -> Self {
        CallError::Field(error)
    }
}

impl From<EngineError> for CallError {
    fn from(error: EngineError) -> Self {
        CallError::Engine(error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Field(error) | CallError::Precondition(error) => error.fmt(f),
            CallError::Engine(error) => error.fmt(f),
        }
    }
}

/// A field of a message that has an invalid value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidField {
    /// Its path in the message.
    pub(crate) path: String,
    /// The problem, with expected and found.
    pub(crate) problem: String,
}

impl InvalidField {
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}
