//! Some rows of a dataset, as a dataset of their own.

use super::{AttributeColumn, ColumnValues, Dataset, Embeddings, EmbeddingsView, Numbers};
use crate::base::element::Element;
use crate::dataset::Rows;

impl Dataset {
    /// Copies these rows, which must be there; `None` if there are none.
    pub fn select(&self, rows: &[usize]) -> Option<Self> {
        if rows.is_empty() {
            return None;
        }
        let (name, dim) = (self.embeddings.path(), self.embeddings.view().dim());
        let embeddings = match self.embeddings.view() {
            EmbeddingsView::F32(view) => Embeddings::in_memory(name, dim, copied(view, rows)),
            EmbeddingsView::F16(view) => Embeddings::in_memory(name, dim, copied(view, rows)),
        };
        let attribute = |column: &AttributeColumn| AttributeColumn {
            name: column.name.clone(),
            values: column.values.select(rows),
        };
        Some(Self {
            embeddings,
            ids: rows.iter().map(|row| self.ids[*row]).collect(),
            attributes: self.attributes.iter().map(attribute).collect(),
            expires_at: self.expires_at.as_ref().map(|times| rows.iter().map(|row| times[*row]).collect()),
        })
    }
}

impl ColumnValues {
    /// The values of these rows.
    fn select(&self, rows: &[usize]) -> Self {
        let rows = rows.iter().copied();
        match self {
            Self::Keyword(words) => Self::Keyword(rows.map(|row| words.get(row)).collect()),
            Self::KeywordList(lists) => Self::KeywordList(rows.map(|row| lists.get(row)).collect()),
            Self::Int64(numbers) => Self::Int64(of_rows(numbers, rows)),
            Self::Uint64(numbers) => Self::Uint64(of_rows(numbers, rows)),
            Self::Double(numbers) => Self::Double(of_rows(numbers, rows)),
            Self::Bool(values) => Self::Bool(of_rows(values, rows)),
            Self::Timestamp(times) => Self::Timestamp(of_rows(times, rows)),
        }
    }
}

fn of_rows<T: Copy + Default>(numbers: &Numbers<T>, rows: impl Iterator<Item = usize>) -> Numbers<T> {
    rows.map(|row| numbers.get(row)).collect()
}

fn copied<T: Element>(view: Rows<'_, T>, rows: &[usize]) -> Vec<T> {
    rows.iter().flat_map(|row| view.row(*row)).copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::base::id::VideoId;
    use crate::dataset::NEVER;

    /// A dataset in which row `row` has values made of it, with nulls.
    fn of(rows: &[usize]) -> Dataset {
        let values = |row: &usize| [*row as f32, 0.5];
        let some = |row: &usize| (!row.is_multiple_of(3)).then_some(*row as i64);
        let words = rows.iter().map(|row| (!row.is_multiple_of(4)).then(|| format!("word {row}"))).collect();
        let lists = rows
            .iter()
            .map(|row| (!row.is_multiple_of(5)).then(|| (0..row % 3).map(move |at| format!("{row} {at}"))));
        let columns = [
            ("words", ColumnValues::Keyword(words)),
            ("lists", ColumnValues::KeywordList(lists.collect())),
            ("numbers", ColumnValues::Int64(rows.iter().map(some).collect())),
        ];
        let expires = |row: &usize| if row.is_multiple_of(2) { NEVER } else { *row as i64 };
        Dataset {
            embeddings: Embeddings::in_memory("rows".as_ref(), 2, rows.iter().flat_map(values).collect()),
            ids: rows.iter().map(|row| VideoId(*row as u64 * 7)).collect(),
            attributes: columns
                .map(|(name, values)| AttributeColumn { name: name.to_owned(), values })
                .into(),
            expires_at: Some(rows.iter().map(expires).collect()),
        }
    }

    proptest! {
        #[test]
        fn has_what_the_rows_had(rows in vec(0usize..50, 1..30)) {
            let all: Vec<usize> = (0..50).collect();
            let (found, expected) = (of(&all).select(&rows).unwrap(), of(&rows));
            prop_assert_eq!(found.ids, expected.ids);
            prop_assert_eq!(found.attributes, expected.attributes);
            prop_assert_eq!(found.expires_at, expected.expires_at);
            let values = |embeddings: &Embeddings| {
                let mut values = Vec::new();
                let mut row = Vec::new();
                for at in 0..embeddings.view().len() {
                    embeddings.view().copy_row(at, &mut row);
                    values.extend_from_slice(&row);
                }
                values
            };
            prop_assert_eq!(values(&found.embeddings), values(&expected.embeddings));
        }
    }

    #[test]
    fn no_rows_are_no_dataset() {
        assert!(of(&[1, 2]).select(&[]).is_none());
    }
}
