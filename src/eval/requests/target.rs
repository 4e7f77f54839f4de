//! What is measured, and why it cannot be measured.

use super::file::Request;
use crate::engine::{Engine, EngineError};
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
    #[error("line {line}: {source}")]
    Refused {
        /// Line of the request in the file, from 1.
        line: usize,
        /// The reason.
        r#source: EngineError,
    },
    /// An input is empty.
    #[error("{0}: expected at least one")]
    Nothing(&'static str),
}

impl RequestSweepError {
    /// Returns the error that the engine refused `request`. The path of a cap, which the engine names by position, names
    /// the attribute as the line does.
    pub(super) fn refused(request: &Request, error: EngineError) -> Self {
        let source = match error {
            EngineError::InvalidArgument { field, problem } => {
                let cap = cap_position(&field).and_then(|position| request.rules.caps.get(position));
                let named = cap.map(|cap| format!("caps.{}", cap.attribute));
                EngineError::InvalidArgument { field: named.unwrap_or(field), problem }
            }
            other => other,
        };
        Self::Refused { line: request.line, source }
    }
}

/// The position of the cap in a path such as `caps[1].attribute`.
fn cap_position(field: &str) -> Option<usize> {
    let (position, _) = field.strip_prefix("caps[")?.split_once(']')?;
    position.parse().ok()
}
