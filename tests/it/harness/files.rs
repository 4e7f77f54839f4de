//! Small dataset files of every format, byte by byte, and the errors they are refused with.

use std::fs;
use std::path::PathBuf;

use parquet::file::properties::WriterProperties;
use shortlist::dataset::Embeddings;
use tempfile::TempDir;

use crate::harness::parquet::{Column, embeddings, int64, integer, values, write};

/// `[3 × 4]`, exact in half precision.
pub const ROWS: [[f32; 4]; 3] = [[1.0, -2.0, 0.5, 0.0], [0.25, 3.0, -1.5, 8.0], [0.0, 0.0, 0.0, -0.125]];

/// A temporary folder.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file in the temporary folder");
        path
    }

    /// Row groups of two rows, so that every test spans several.
    pub fn parquet(&self, name: &str, columns: &[Column]) -> PathBuf {
        let path = self.path(name);
        write(&path, columns, 2, WriterProperties::default());
        path
    }
}

pub fn flat() -> Vec<f32> {
    ROWS.concat()
}

pub fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while !(text.len() + 11).is_multiple_of(64) {
        text.push(' ');
    }
    npy_with_text(&format!("{text}\n"), data)
}

pub fn npy_with_text(text: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00".as_slice(), &(text.len() as u16).to_le_bytes(), text.as_bytes(), data].concat()
}

pub fn fvecs(rows: &[&[f32]]) -> Vec<u8> {
    let row =
        |row: &&[f32]| [&(row.len() as i32).to_le_bytes(), bytemuck::cast_slice::<f32, u8>(row)].concat();
    rows.iter().flat_map(row).collect()
}

pub fn fbin(rows: u32, dim: u32, data: &[f32]) -> Vec<u8> {
    [rows.to_le_bytes().as_slice(), &dim.to_le_bytes(), bytemuck::cast_slice(data)].concat()
}

/// [`ROWS`] as a Parquet column.
pub fn three_rows() -> Column {
    embeddings(&ROWS)
}

/// A column of integers.
pub fn numbers(name: &str, of: [i64; 3]) -> Column {
    values(name, int64(), of.map(Some))
}

/// The column `video_id`.
pub fn video_ids(of: [u64; 3]) -> Column {
    values("video_id", integer(64, false), of.map(Some))
}

/// The rows of embeddings, as f32.
pub fn rows_of(embeddings: &Embeddings) -> Vec<Vec<f32>> {
    let mut row = Vec::new();
    let view = embeddings.view();
    (0..view.len())
        .map(|at| {
            view.copy_row(at, &mut row);
            row.clone()
        })
        .collect()
}

/// Expects `$result` to be the error `$variant` with the fields given equal to their values.
macro_rules! assert_refused {
    ($result:expr, $variant:ident { $($field:ident: $value:expr),* $(,)? }) => {
        match $result {
            Err(error @ DatasetError::$variant { .. }) => {
                $({
                    // Evaluated before the field is bound, so that a variable of the same name refers to the caller's.
                    let wanted = $value;
                    let DatasetError::$variant { $field, .. } = &error else { unreachable!() };
                    assert_eq!(*$field, wanted, "{error}");
                })*
                drop(error);
            }
            other => panic!("expected {}, found {other:?}", stringify!($variant)),
        }
    };
}
pub(crate) use assert_refused;
