//! A public benchmark: rows, queries and their exact neighbors in one file.
//!
//! What flows in: the path of an HDF5 file. What flows out: its parts, checked against each other. Nothing here knows what
//! is measured.

use std::path::Path;

use super::embeddings::Embeddings;
use super::error::DatasetError;
use super::hdf5;
use super::neighbors::Neighbors;
use super::places::Places;
use crate::base::metric::Metric;

/// A public benchmark: rows, queries and their exact neighbors.
#[derive(Debug)]
pub struct BenchmarkSet {
    /// The rows to index.
    pub train: Embeddings,
    /// The queries, of the dimension of `train`.
    pub test: Embeddings,
    /// The exact neighbors of the queries, as row numbers of `train`; `None` if the file has none.
    pub neighbors: Option<Neighbors>,
    /// How embeddings are compared; `None` if the file does not say.
    pub metric: Option<Metric>,
}

impl BenchmarkSet {
    /// Reads an HDF5 file of ann-benchmarks into memory. `f64` and wide integers become `f32`, bytes `f16`, which holds each
    /// of them exactly.
    ///
    /// # Errors
    /// [`DatasetError`] with file, dataset, expected and found value. A dataset is named like a file: `FILE/train`.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let hdf5::Parts { train, test, neighbors, metric } = hdf5::read(path)?;
        let [train, test] =
            [train, test].map(|(place, matrix)| Embeddings::decoded(Places::of(&place), matrix));
        let (expected, found) = (train.view().dim(), test.view().dim());
        if expected != found {
            let (path, other) = (test.path().to_owned(), train.path().to_owned());
            return Err(DatasetError::DimensionMismatch { path, other, expected, found });
        }
        let Some((place, neighbors)) = neighbors else {
            return Ok(Self { train, test, neighbors: None, metric });
        };
        let (expected, found) = (test.view().len(), neighbors.rows);
        if expected != found {
            let other = test.path().to_owned();
            return Err(DatasetError::RowCountMismatch { path: place, other, expected, found });
        }
        Ok(Self { train, test, neighbors: Some(neighbors), metric })
    }
}
