//! Ids of videos: numbers, or text if the index has text ids.

use std::ops::Range;

use numpy::{PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;
use shortlist::VideoId;

use crate::error::Fault;

/// One id.
#[derive(FromPyObject)]
pub(crate) enum Id {
    Number(u64),
    Text(String),
}

impl Id {
    /// The id as a number.
    pub(crate) fn number(&self) -> VideoId {
        match self {
            Self::Number(id) => VideoId(*id),
            Self::Text(text) => VideoId::of_text(text),
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// The id as a message has it: a number and text, one of which is empty.
    pub(crate) fn into_parts(self) -> (u64, String) {
        match self {
            Self::Number(id) => (id, String::new()),
            Self::Text(text) => (0, text),
        }
    }
}

/// Ids, all of one kind.
#[derive(FromPyObject)]
pub(crate) enum Ids<'py> {
    Numbers(PyReadonlyArray1<'py, u64>),
    Texts(Vec<String>),
}

impl Ids<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers(ids) => ids.len(),
            Self::Texts(ids) => ids.len(),
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Texts(_))
    }

    /// The ids as numbers.
    ///
    /// # Errors
    /// If the array is not contiguous.
    pub(crate) fn numbers(&self) -> PyResult<Vec<VideoId>> {
        Ok(match self {
            Self::Numbers(ids) => ids.as_slice()?.iter().map(|id| VideoId(*id)).collect(),
            Self::Texts(ids) => ids.iter().map(|text| VideoId::of_text(text)).collect(),
        })
    }

    /// Some of the ids as a message has them: numbers and texts, one of which is empty.
    ///
    /// # Errors
    /// If the array is not contiguous.
    pub(crate) fn parts(&self, range: Range<usize>) -> PyResult<(Vec<u64>, Vec<String>)> {
        Ok(match self {
            Self::Numbers(ids) => (ids.as_slice()?[range].to_vec(), Vec::new()),
            Self::Texts(ids) => (Vec::new(), ids[range].to_vec()),
        })
    }
}

/// The error for text where the ids of the index are numbers.
pub(crate) fn no_text(argument: &str) -> Fault {
    let problem = "expected ids as numbers, since the ids of the index are numbers, found text";
    Fault::invalid(argument, problem)
}
