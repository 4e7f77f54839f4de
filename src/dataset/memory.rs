//! A dataset from values in memory, with the checks that files get.

use std::path::Path;

use super::ids::{check_unique, hashes, push_text};
use super::input::expiries;
use super::places::Places;
use super::{
    AttributeColumn, ColumnValues, Dataset, DatasetError, EXPIRES_AT, Embeddings, ID_COLUMN, Keywords,
};
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
        Self::from_embeddings(Embeddings::shared(Path::new(NAME), dim, rows.into())?)
    }

    /// A dataset of `embeddings`, finite. Row numbers are the video ids until [`Self::with_ids`].
    ///
    /// # Errors
    /// If a component is not finite, or a row is too long for scores in single precision.
    pub fn from_embeddings(embeddings: Embeddings) -> Result<Self, DatasetError> {
        embeddings.check_finite()?;
        let ids = (0..embeddings.view().len() as u64).map(VideoId).collect();
        Ok(Self { embeddings, ids, attributes: Vec::new(), expires_at: None })
    }

    /// The same dataset with these video ids, one per row, unique.
    ///
    /// # Errors
    /// If there are more or fewer ids than rows, or one is there twice.
    pub fn with_ids(self, ids: Vec<VideoId>) -> Result<Self, DatasetError> {
        self.check_count(ids.len())?;
        check_unique(&Places::of(Path::new(NAME)), &ids, None)?;
        Ok(Self { ids, ..self })
    }

    /// The same dataset with ids that are text, one per row, unique. The text is kept as the attribute [`ID_COLUMN`].
    ///
    /// # Errors
    /// If there are more or fewer ids than rows, one is there twice, is empty or too long, or two have the same 64 bits.
    pub fn with_text_ids<S: AsRef<str>>(self, ids: &[S]) -> Result<Self, DatasetError> {
        let name = Path::new(NAME);
        let mut texts = Keywords::default();
        for (row, text) in ids.iter().enumerate() {
            push_text(name, row, text.as_ref(), &mut texts)?;
        }
        self.check_count(texts.len())?;
        let ids = hashes(&texts);
        check_unique(&Places::of(name), &ids, Some(&texts))?;
        let column = AttributeColumn { name: ID_COLUMN.to_owned(), values: ColumnValues::Keyword(texts) };
        Self { ids, ..self }.with_attribute(column)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use half::f16;

    use super::*;
    use crate::dataset::{Components, EmbeddingsView};

    #[test]
    fn shared_embeddings_are_read_where_they_lie() {
        let owner = Arc::new(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let values = Components::F32(Arc::clone(&owner) as _);
        let dataset =
            Dataset::from_embeddings(Embeddings::shared(Path::new("x"), 3, values).unwrap()).unwrap();
        let EmbeddingsView::F32(rows) = dataset.embeddings.view() else { panic!("expected f32") };
        assert_eq!((rows.len(), rows.row(1)), (2, &[4.0, 5.0, 6.0][..]));
        assert_eq!(rows.row(0).as_ptr(), owner.as_ptr());
        assert_eq!(dataset.ids, [VideoId(0), VideoId(1)]);

        let halves: Arc<Vec<f16>> = Arc::new([1.0, 2.0].map(f16::from_f32).to_vec());
        let embeddings = Embeddings::shared(Path::new("x"), 1, Components::F16(halves)).unwrap();
        assert!(matches!(embeddings.view(), EmbeddingsView::F16(rows) if rows.len() == 2));
    }

    #[test]
    fn shared_embeddings_are_whole_rows_of_finite_numbers() {
        let shared = |dim, values: Vec<f32>| Embeddings::shared(Path::new("x"), dim, values.into());
        assert!(matches!(shared(0, vec![1.0]), Err(DatasetError::ZeroDimension { .. })));
        assert!(matches!(shared(2, Vec::new()), Err(DatasetError::NoRows { .. })));
        let ragged = shared(2, vec![1.0; 3]);
        assert!(
            matches!(ragged, Err(DatasetError::RaggedRow { row: 1, expected: 2, found: 1, .. })),
            "{ragged:?}"
        );
        let infinite = Dataset::from_embeddings(shared(2, vec![1.0, 1.0, 1.0, f32::INFINITY]).unwrap());
        assert!(matches!(infinite, Err(DatasetError::NotFinite { row: 1, column: 1, .. })));
    }
}
