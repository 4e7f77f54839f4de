//! What is read of a file.

use std::path::PathBuf;

use crate::base::metric::Metric;
use crate::dataset::neighbors::Neighbors;
use crate::dataset::table::Matrix;

/// A part of a file, after its name in errors: `FILE/train`.
pub(in crate::dataset) type Part<T> = (PathBuf, T);

/// Everything that a benchmark has.
#[derive(Debug)]
pub(in crate::dataset) struct Parts {
    pub train: Part<Matrix>,
    pub test: Part<Matrix>,
    pub neighbors: Option<Part<Neighbors>>,
    pub metric: Option<Metric>,
}
