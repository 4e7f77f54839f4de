//! Where the rows of data of several files are from.

use std::path::{Path, PathBuf};

/// The files of rows, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Each file and the number of rows before it; never empty.
    files: Vec<(PathBuf, usize)>,
}

impl Places {
    /// One file.
    pub(super) fn of(path: &Path) -> Self {
        Self { files: vec![(path.to_owned(), 0)] }
    }

    /// Adds a file after `rows` rows.
    pub(super) fn push(&mut self, path: &Path, rows: usize) {
        self.files.push((path.to_owned(), rows));
    }

    /// The path of the first file.
    pub(super) fn first(&self) -> &Path {
        &self.files[0].0
    }

    /// The file that has the row, and the number of the row in it.
    pub(super) fn of_row(&self, row: usize) -> (PathBuf, usize) {
        let at = self.files.partition_point(|(_, before)| *before <= row).saturating_sub(1);
        let (path, before) = &self.files[at];
        (path.clone(), row - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_of_the_last_file_that_begins_before_it() {
        let mut places = Places::of(Path::new("a"));
        places.push(Path::new("b"), 3);
        places.push(Path::new("c"), 4);
        let found: Vec<_> = (0..6).map(|row| places.of_row(row)).collect();
        let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("c", 1)];
        assert_eq!(found, expected.map(|(path, row)| (PathBuf::from(path), row)));
    }
}
