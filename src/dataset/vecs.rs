//! The formats of TEXMEX: every row begins with its dimension. `.fvecs` of f32, `.bvecs` of u8, `.ivecs` of i32.
//!
//! ```text
//! | i32 dim | dim × number | i32 dim | dim × number | ...
//! ```

use std::path::Path;

use super::array::Array;
use super::error::DatasetError;
use super::limits::{check_dim, check_rows};
use super::scalar::Scalar;
use crate::base::parallel::{self, ROWS_PER_TASK};

/// Reads the dimensions, which are all equal, and checks the length of the file.
pub(super) fn read_layout(path: &Path, bytes: &[u8], scalar: Scalar) -> Result<Array, DatasetError> {
    let dim_at = |row_start: usize| Some(u32::from_le_bytes(*bytes.get(row_start..)?.first_chunk()?));
    let first = dim_at(0).ok_or_else(|| DatasetError::truncated(path, 4, bytes))?;
    let dim = check_dim(path, first.into())?;

    let stride = 4 + scalar.bytes() * dim;
    let rows = check_rows(path, bytes.len().div_ceil(stride) as u64)?;
    let ragged = parallel::find_map_first(rows, ROWS_PER_TASK, |row| {
        dim_at(row * stride).filter(|found| *found != first).map(|found| (row, found))
    });
    if let Some((row, found)) = ragged {
        return Err(DatasetError::RaggedRow {
            path: path.to_owned(),
            row,
            expected: dim,
            found: found as usize,
        });
    }
    if !bytes.len().is_multiple_of(stride) {
        return Err(DatasetError::truncated(path, rows * stride, bytes));
    }
    Ok(Array { stride, ..Array::contiguous(scalar, rows, dim, 4) })
}
