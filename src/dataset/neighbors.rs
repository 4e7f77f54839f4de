//! Ground truth: for every query the rows that are its exact nearest, best first.
//!
//! What flows in: an `.npy` file, or the rows that an exact search found. What flows out: row numbers, or the file.
//! Nothing here knows the catalog that the rows belong to.

use std::path::Path;

use bytemuck::Pod;

use super::error::DatasetError;
use super::limits::{check_dim, check_rows, map_any_file};
use super::npy::{self, Scalar};
use super::npy_writer::NpyWriter;
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
    /// Reads an `.npy` file of `<i4`, `<i8`, `<u4` or `<u8`, `[rows, k]`.
    ///
    /// # Errors
    /// [`DatasetError`]; for a number that cannot be a row of a catalog, with its row and column.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = map_any_file(path)?;
        let bytes = file.bytes();
        let accepted = [Scalar::I32, Scalar::I64, Scalar::U32, Scalar::U64];
        let layout = npy::read_layout(path, bytes, 2, &accepted, "'<i4', '<i8', '<u4' or '<u8'")?;
        let (rows, k) = (check_rows(path, layout.shape[0])?, check_dim(path, layout.shape[1])?);
        layout.check_size(path, rows * k, bytes.len())?;
        let numbers = &bytes[layout.offset..];
        let data = match layout.scalar {
            Scalar::I32 => row_numbers::<i32>(path, k, numbers),
            Scalar::I64 => row_numbers::<i64>(path, k, numbers),
            Scalar::U32 => row_numbers::<u32>(path, k, numbers),
            _ => row_numbers::<u64>(path, k, numbers),
        }?;
        Ok(Self { rows, k, data })
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

fn row_numbers<T: Pod + Into<i128>>(path: &Path, k: usize, bytes: &[u8]) -> Result<Vec<u32>, DatasetError> {
    let row_number = |(at, &number): (usize, &T)| {
        let number: i128 = number.into();
        let row = u32::try_from(number).ok().filter(|&row| i32::try_from(row).is_ok());
        row.ok_or_else(|| out_of_range(path, at / k, at % k, number))
    };
    npy::numbers::<T>(bytes).iter().enumerate().map(row_number).collect()
}

fn out_of_range(path: &Path, row: usize, column: usize, found: i128) -> DatasetError {
    let most = NodeId::MAX_NODES as u64;
    DatasetError::NeighborOutOfRange { path: path.to_owned(), row, column, most, found }
}
