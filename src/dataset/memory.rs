//! A dataset from values in memory, with the checks that files get.

use std::path::Path;

use super::ids::check_unique;
use super::input::expiries;
use super::limits::{check_dim, check_rows};
use super::{AttributeColumn, Dataset, DatasetError, EXPIRES_AT, Embeddings};
use crate::base::id::VideoId;

/// What error messages name in place of a file.
const NAME: &str = "dataset in memory";

impl Dataset {
    /// A dataset of `rows`, `[n × dim]` row-major and finite. Row numbers are the video ids until
    /// [`Self::with_ids`].
    ///
    /// # Errors
    /// If there is no row, the last row is not whole, there are more rows or components than an index holds, or a
    /// component is not finite.
    pub fn from_rows(dim: usize, rows: Vec<f32>) -> Result<Self, DatasetError> {
        let path = Path::new(NAME);
        let dim = check_dim(path, dim as u64)?;
        if !rows.len().is_multiple_of(dim) {
            let (row, found) = (rows.len() / dim, rows.len() % dim);
            return Err(DatasetError::RaggedRow { path: path.to_owned(), row, expected: dim, found });
        }
        let count = check_rows(path, (rows.len() / dim) as u64)?;
        let embeddings = Embeddings::in_memory(path, dim, rows);
        embeddings.check_finite()?;
        let ids = (0..count as u64).map(VideoId).collect();
        Ok(Self { embeddings, ids, attributes: Vec::new(), expires_at: None })
    }

    /// The same dataset with these video ids, one per row, unique.
    ///
    /// # Errors
    /// If there are more or fewer ids than rows, or one is there twice.
    pub fn with_ids(self, ids: Vec<VideoId>) -> Result<Self, DatasetError> {
        self.check_count(ids.len())?;
        check_unique(Path::new(NAME), &ids)?;
        Ok(Self { ids, ..self })
    }

    /// The same dataset with one more attribute, one value or null per row. A timestamp attribute named `expires_at` is
    /// also when videos expire.
    ///
    /// # Errors
    /// If there are more or fewer values than rows, or an attribute of that name is there already.
    pub fn with_attribute(mut self, column: AttributeColumn) -> Result<Self, DatasetError> {
        self.check_count(column.values.len())?;
        if self.attributes.iter().any(|other| other.name == column.name) {
            let (path, first) = (Path::new(NAME).to_owned(), Path::new(NAME).to_owned());
            return Err(DatasetError::DuplicateColumn { path, name: column.name, first });
        }
        if column.name == EXPIRES_AT {
            self.expires_at = expiries(&column);
        }
        self.attributes.push(column);
        Ok(self)
    }

    fn check_count(&self, found: usize) -> Result<(), DatasetError> {
        let expected = self.ids.len();
        let (path, other) = (Path::new(NAME).to_owned(), Path::new(NAME).to_owned());
        if found == expected {
            Ok(())
        } else {
            Err(DatasetError::RowCountMismatch { path, other, expected, found })
        }
    }
}
