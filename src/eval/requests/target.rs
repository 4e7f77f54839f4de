//! What is measured, and why it cannot be measured.

use super::file::Request;
use crate::engine::{Engine, EngineError, Field};
use crate::index::{Index, Manifest};

/// The index under test.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Serves the index.
    pub engine: &'a Engine,
    /// The name of the index in the engine.
    pub name: &'a str,
    /// The generation that the engine serves.
    pub index: &'a Index,
    /// The manifest of that generation.
    pub manifest: &'a Manifest,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum RequestSweepError {
    /// The engine refused a request.
    #[error("line {line}: {problem}")]
    Refused {
        /// Line of the request in the file, from 1.
        line: usize,
        /// The reason, which starts with the key of the line if one has to change.
        problem: String,
    },
    /// An input is empty.
    #[error("{0}: expected at least one")]
    Nothing(&'static str),
}

impl RequestSweepError {
    /// Returns the error that the engine refused `request`. A line names a cap by its attribute, not by its position.
    pub(super) fn refused(request: &Request, error: &EngineError) -> Self {
        let cap = match error.field() {
            Some(Field::Cap(at) | Field::CapAttribute(at) | Field::CapMaxPerValue(at)) => {
                request.rules.caps.get(at)
            }
            _ => None,
        };
        let problem = match (cap, error.field()) {
            (Some(cap), _) => format!("caps.{}: {}", cap.attribute, error.problem()),
            (None, Some(field)) => format!("{field}: {}", error.problem()),
            (None, None) => error.problem(),
        };
        Self::Refused { line: request.line, problem }
    }
}
