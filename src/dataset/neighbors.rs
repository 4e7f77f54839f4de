//! Ground truth: for every query the rows that are its exact nearest, best first.
//!
//! What flows in: a file, or the rows that an exact search found. What flows out: row numbers, or the file.
//! Nothing here knows the catalog that the rows belong to.

use std::path::Path;

use super::array::Array;
use super::error::DatasetError;
use super::limits::{extension, map_file};
use super::npy::{self, Item};
use super::npy_writer::NpyWriter;
use super::scalar::Scalar;
use super::{bins, vecs};
use crate::base::id::NodeId;

/// The `k` nearest rows of each of `rows` queries, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbors {
    /// The number of queries.
    pub rows: usize,
    /// Neighbors per query.
    pub k: usize,
    /// `[rows × k]` row numbers of the catalog, each at most `i32::MAX`.
    pub data: Vec<u32>,
}

impl Neighbors {
    /// Reads `.npy` (integers of 4 or 8 bytes, `[rows, k]`), `.ivecs`, or `.ibin`, with or without distances.
    ///
    /// # Errors
    /// [`DatasetError`]; for a number that cannot be a row of a catalog, with its row and column.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let extension = extension(path)?;
        let file = map_file(path)?;
        let bytes = file.bytes();
        let array = match extension.as_str() {
            "ivecs" => vecs::read_layout(path, bytes, Scalar::I32)?,
            "ibin" => bins::read_neighbors(path, bytes)?,
            // Of any extension, as it has always been.
            _ => {
                let accepted = [Scalar::I32, Scalar::I64, Scalar::U32, Scalar::U64];
                let layout = npy::read_layout(
                    path,
                    bytes,
                    2,
                    |item| accepted.iter().any(|scalar| item == Item::Number(*scalar)),
                    "'<i4', '<i8', '<u4' or '<u8'",
                )?;
                let Item::Number(scalar) = layout.item else { unreachable!("text is not accepted") };
                layout.array(path, scalar, bytes.len())?
            }
        };
        Self::of_array(path, bytes, &array)
    }

    /// Reads an array of integers in `bytes`.
    pub(super) fn of_array(path: &Path, bytes: &[u8], array: &Array) -> Result<Self, DatasetError> {
        let mut data = Vec::with_capacity(array.rows * array.dim);
        for row in 0..array.rows {
            for column in 0..array.dim {
                let number = array.integer(bytes, row, column);
                let neighbor = u32::try_from(number).ok().filter(|&row| i32::try_from(row).is_ok());
                data.push(neighbor.ok_or_else(|| out_of_range(path, row, column, number))?);
            }
        }
        Ok(Self { rows: array.rows, k: array.dim, data })
    }

    /// The neighbors of query `row`, `[k]`.
    ///
    /// # Panics
    /// If `row` is not below `rows`.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.data[row * self.k..(row + 1) * self.k]
    }

    /// Writes an `.npy` file of `<i4`, `[rows, k]`, which appears once it is complete.
    ///
    /// # Errors
    /// [`DatasetError::NeighborOutOfRange`] for a number that cannot be a row, [`DatasetError::WrongLength`] if
    /// `data` is not `[rows × k]`, [`DatasetError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), DatasetError> {
        let mut writer = NpyWriter::<i32>::create(path, &[self.rows, self.k])?;
        let mut row_of_i32 = Vec::with_capacity(self.k);
        for (row, neighbors) in self.data.chunks(self.k.max(1)).enumerate() {
            row_of_i32.clear();
            for (column, &neighbor) in neighbors.iter().enumerate() {
                let out_of_range = |_| out_of_range(path, row, column, neighbor.into());
                row_of_i32.push(i32::try_from(neighbor).map_err(out_of_range)?);
            }
            writer.write(&row_of_i32)?;
        }
        writer.finish()
    }
}

fn out_of_range(path: &Path, row: usize, column: usize, found: i128) -> DatasetError {
    let most = NodeId::MAX_NODES as u64;
    DatasetError::NeighborOutOfRange { path: path.to_owned(), row, column, most, found }
}
