//! The formats of the big-ann benchmarks: `.fbin` of f32, `.f16bin`, `.i8bin`, `.u8bin`, and `.ibin` of u32.
//!
//! ```text
//! | u32 rows | u32 dim | rows × dim × number |       .ibin: and rows × dim × f32, the distances, if they are there
//! ```

use std::path::Path;

use super::array::Array;
use super::error::DatasetError;
use super::limits::{check_dim, check_rows, check_size};
use super::scalar::Scalar;

const HEADER: usize = 8;

/// Reads the header, and checks the length of the file.
pub(super) fn read_layout(path: &Path, bytes: &[u8], scalar: Scalar) -> Result<Array, DatasetError> {
    let array = read_header(path, bytes, scalar)?;
    check_size(path, size(&array, 1), bytes.len())?;
    Ok(array)
}

/// As [`read_layout`], and distances of f32 may follow, which are not read.
pub(super) fn read_neighbors(path: &Path, bytes: &[u8]) -> Result<Array, DatasetError> {
    let array = read_header(path, bytes, Scalar::U32)?;
    if bytes.len() as u64 != size(&array, 2) {
        check_size(path, size(&array, 1), bytes.len())?;
    }
    Ok(array)
}

fn read_header(path: &Path, bytes: &[u8], scalar: Scalar) -> Result<Array, DatasetError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(DatasetError::truncated(path, HEADER, bytes));
    };
    let [a, b, c, d, e, f, g, h] = *header;
    let rows = check_rows(path, u32::from_le_bytes([a, b, c, d]).into())?;
    let dim = check_dim(path, u32::from_le_bytes([e, f, g, h]).into())?;
    Ok(Array::contiguous(scalar, rows, dim, HEADER))
}

/// Bytes of a file with `arrays` arrays of this shape and number size.
fn size(array: &Array, arrays: u64) -> u64 {
    HEADER as u64 + arrays * array.rows as u64 * array.stride as u64
}
