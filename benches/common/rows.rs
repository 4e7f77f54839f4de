//! The rows of a file of embeddings, shared by benchmarks.

use std::path::Path;

use shortlist::dataset::Embeddings;

/// Returns all rows, one after another.
pub fn all_rows(path: &Path) -> Vec<f32> {
    let file = Embeddings::open(path).expect("a file of embeddings");
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    for at in 0..file.view().len() {
        file.view().copy_row(at, &mut row);
        rows.extend_from_slice(&row);
    }
    rows
}
