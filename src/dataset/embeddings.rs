//! One file of embeddings, opened: in place wherever the format allows it.
//!
//! What flows in: a path. What flows out: an [`EmbeddingsView`] of its rows, and the checks that its
//! numbers can be scored. Nothing here knows whose embeddings they are.
//!
//! ```text
//! .npy    | magic, header text          | rows × dim × (f32 | f16) |   mapped
//! .fvecs  | i32 dim | dim × f32 | i32 dim | dim × f32 | ...            mapped, stride dim + 1
//! .fbin   | u32 rows | u32 dim | rows × dim × f32 |                    mapped
//! .parquet                                                             decoded into memory
//! ```

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::allocation::cast_vec;
use half::f16;

use super::error::DatasetError;
use super::limits::{check_dim, check_rows, check_size, extension, map_file};
use super::npy::{self, Scalar};
use super::parquet::{self, Columns, Decoded};
use super::view::{EmbeddingsView, Rows};
use crate::base::element::{Dtype, Element};
use crate::base::mapped_file::MappedFile;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::kernel::{MAX_NORM, is_bounded, norm};

/// The embeddings of one file, `[rows × dim]`.
#[derive(Debug)]
pub struct Embeddings {
    path: PathBuf,
    dim: usize,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    /// `bytes[start..]` of the file, aligned for `dtype`; rows `stride` components apart.
    Mapped {
        file: MappedFile,
        start: usize,
        dtype: Dtype,
        stride: usize,
    },
    InMemory(Components),
}

/// Components in memory that others may hold, too: `[rows × dim]` row-major. An owner returns the same slice every time.
#[derive(Clone)]
pub enum Components {
    /// Single precision.
    F32(Arc<dyn AsRef<[f32]> + Send + Sync>),
    /// Half precision.
    F16(Arc<dyn AsRef<[f16]> + Send + Sync>),
}

impl Components {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => (**values).as_ref().len(),
            Self::F16(values) => (**values).as_ref().len(),
        }
    }
}

impl<T: Element> From<Vec<T>> for Components {
    fn from(values: Vec<T>) -> Self {
        match T::DTYPE {
            Dtype::F32 => Self::F32(Arc::new(cast_vec::<T, f32>(values))),
            Dtype::F16 => Self::F16(Arc::new(cast_vec::<T, f16>(values))),
        }
    }
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = if matches!(self, Self::F32(_)) { Dtype::F32 } else { Dtype::F16 };
        f.debug_struct("Components").field("dtype", &dtype).field("len", &self.len()).finish()
    }
}

impl Embeddings {
    /// Opens `.npy` (`<f4` or `<f2`, C order, two axes), `.fvecs`, `.fbin` or `.parquet` (its column
    /// `embedding` alone is decoded). The numbers are not read: see [`Self::check_finite`].
    ///
    /// Every format except Parquet is served from the mapped file. The exception is `.npy` with a header of odd
    /// length, after which the numbers are not aligned: they are copied into memory.
    ///
    /// # Errors
    /// [`DatasetError`] with the path, the expected and the found value.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        match extension(path)?.as_str() {
            "npy" => open_npy(path),
            "fvecs" => open_fvecs(path),
            "fbin" => open_fbin(path),
            "parquet" => {
                let table = parquet::read(path, Columns::Embedding)?;
                Self::decoded(path, table.embeddings)
            }
            other => Err(DatasetError::UnknownExtension {
                path: path.to_owned(),
                found: other.to_owned(),
                accepted: ".npy, .fvecs, .fbin or .parquet",
            }),
        }
    }

    /// Embeddings in memory, `[rows × dim]` row-major; `name` takes the place of a path in errors.
    ///
    /// # Panics
    /// If `dim` is 0, or `values` is empty or not a whole number of rows.
    pub fn in_memory<T: Element>(name: &Path, dim: usize, values: Vec<T>) -> Self {
        assert!(dim > 0 && !values.is_empty() && values.len().is_multiple_of(dim), "rows that are not whole");
        Self { path: name.to_owned(), dim, storage: Storage::InMemory(values.into()) }
    }

    /// Embeddings in the memory of another owner, `[rows × dim]` row-major, without a copy of them; `name` takes the place
    /// of a path in errors. The numbers are not read: see [`Self::check_finite`].
    ///
    /// # Errors
    /// If there is no row, the last row is not whole, or there are more rows or components than an index holds.
    pub fn shared(name: &Path, dim: usize, values: Components) -> Result<Self, DatasetError> {
        let dim = check_dim(name, dim as u64)?;
        let (row, found) = (values.len() / dim, values.len() % dim);
        if found != 0 {
            return Err(DatasetError::RaggedRow { path: name.to_owned(), row, expected: dim, found });
        }
        check_rows(name, row as u64)?;
        Ok(Self { path: name.to_owned(), dim, storage: Storage::InMemory(values) })
    }

    /// Embeddings that were decoded from the Parquet file at `path`.
    pub(super) fn decoded(path: &Path, decoded: Option<Decoded>) -> Result<Self, DatasetError> {
        let (dim, values) = match decoded {
            Some(Decoded::F32 { dim, values }) => (dim, values.into()),
            Some(Decoded::F16 { dim, values }) => (dim, values.into()),
            None => return Err(DatasetError::NoRows { path: path.to_owned() }),
        };
        Ok(Self { path: path.to_owned(), dim, storage: Storage::InMemory(values) })
    }

    /// The rows.
    pub fn view(&self) -> EmbeddingsView<'_> {
        match &self.storage {
            Storage::Mapped { file, start, dtype, stride } => {
                let bytes = &file.bytes()[*start..];
                match dtype {
                    Dtype::F32 => {
                        EmbeddingsView::F32(Rows::strided(bytemuck::cast_slice(bytes), self.dim, *stride))
                    }
                    Dtype::F16 => {
                        EmbeddingsView::F16(Rows::strided(bytemuck::cast_slice(bytes), self.dim, *stride))
                    }
                }
            }
            Storage::InMemory(Components::F32(values)) => {
                EmbeddingsView::F32(Rows::contiguous((**values).as_ref(), self.dim))
            }
            Storage::InMemory(Components::F16(values)) => {
                EmbeddingsView::F16(Rows::contiguous((**values).as_ref(), self.dim))
            }
        }
    }

    /// Releases the memory of a mapped file whose rows will not be read soon. Reading them later is allowed.
    pub fn release(&self) {
        if let Storage::Mapped { file, .. } = &self.storage {
            file.release(0..file.bytes().len());
        }
    }

    /// The path of the file, or the name of embeddings in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that scores are finite: every component is, and every norm is at most [`MAX_NORM`]. Reads the whole file,
    /// on every core.
    ///
    /// # Errors
    /// For the first row that is not: [`DatasetError::NotFinite`] with the column, or [`DatasetError::TooLong`].
    pub fn check_finite(&self) -> Result<(), DatasetError> {
        let found = match self.view() {
            EmbeddingsView::F32(rows) => first_row(rows, |row| !is_bounded(row)),
            // No vector of finite halves is too long.
            EmbeddingsView::F16(rows) => first_row(rows, |row| !all(row, f16::is_finite)),
        };
        let Some(row) = found else { return Ok(()) };
        let mut values = Vec::new();
        self.view().copy_row(row, &mut values);
        let path = self.path.clone();
        Err(match values.iter().position(|value| !value.is_finite()) {
            Some(column) => DatasetError::NotFinite { path, row, column, found: values[column] },
            None => DatasetError::TooLong { path, row, most: MAX_NORM, found: norm(&values) },
        })
    }

    /// Checks that rows can be queries under `metric`: [`Self::check_finite`], and not zero, which ranks nothing under
    /// inner product and cosine.
    ///
    /// # Errors
    /// As [`Self::check_finite`], or [`DatasetError::ZeroQuery`] with the first zero row.
    pub fn check_queries(&self, metric: Metric) -> Result<(), DatasetError> {
        self.check_finite()?;
        if metric.ranks_by_zeros() {
            return Ok(());
        }
        self.first_zero_row()
            .map_or(Ok(()), |row| Err(DatasetError::ZeroQuery { path: self.path.clone(), row, metric }))
    }

    /// Checks that every row has a component other than zero: the cosine of a zero row is undefined.
    ///
    /// # Errors
    /// [`DatasetError::ZeroRow`] with the first zero row.
    pub fn check_nonzero(&self) -> Result<(), DatasetError> {
        let found = self.first_zero_row();
        found.map_or(Ok(()), |row| Err(DatasetError::ZeroRow { path: self.path.clone(), row }))
    }

    fn first_zero_row(&self) -> Option<usize> {
        let is_zero = |value: f32| value == 0.0;
        match self.view() {
            EmbeddingsView::F32(rows) => first_row(rows, |row| row.iter().all(|value| is_zero(*value))),
            EmbeddingsView::F16(rows) => {
                first_row(rows, |row| row.iter().all(|value| is_zero(value.to_f32())))
            }
        }
    }
}

fn first_row<T: Element>(rows: Rows<'_, T>, is_wrong: impl Fn(&[T]) -> bool + Sync) -> Option<usize> {
    parallel::find_first(rows.len(), ROWS_PER_TASK, |row| is_wrong(rows.row(row)))
}

/// Like `Iterator::all`, but without a branch per component, so that it compiles to SIMD.
fn all<T: Element>(row: &[T], is_right: impl Fn(T) -> bool) -> bool {
    row.iter().fold(true, |right, value| right & is_right(*value))
}

fn open_npy(path: &Path) -> Result<Embeddings, DatasetError> {
    let file = map_file(path)?;
    let bytes = file.bytes();
    let layout = npy::read_layout(path, bytes, 2, &[Scalar::F32, Scalar::F16], "'<f4' or '<f2'")?;
    let (rows, dim) = (check_rows(path, layout.shape[0])?, check_dim(path, layout.shape[1])?);
    layout.check_size(path, rows * dim, bytes.len())?;

    let numbers = &bytes[layout.offset..];
    let (dtype, copied) = if layout.scalar == Scalar::F16 {
        (Dtype::F16, copy_unaligned::<f16>(numbers).map(Components::from))
    } else {
        (Dtype::F32, copy_unaligned::<f32>(numbers).map(Components::from))
    };
    let storage = match copied {
        Some(values) => Storage::InMemory(values),
        None => Storage::Mapped { start: layout.offset, dtype, stride: dim, file },
    };
    Ok(Embeddings { path: path.to_owned(), dim, storage })
}

/// A copy of the numbers, if they are not aligned in place.
fn copy_unaligned<T: Element>(bytes: &[u8]) -> Option<Vec<T>> {
    match npy::numbers(bytes) {
        Cow::Borrowed(_) => None,
        Cow::Owned(values) => Some(values),
    }
}

fn open_fvecs(path: &Path) -> Result<Embeddings, DatasetError> {
    let file = map_file(path)?;
    let bytes = file.bytes();
    let dim_at = |row_start: usize| Some(u32::from_le_bytes(*bytes.get(row_start..)?.first_chunk()?));
    let first = dim_at(0).ok_or_else(|| DatasetError::truncated(path, 4, bytes))?;
    let dim = check_dim(path, first.into())?;

    let row_bytes = 4 + 4 * dim;
    let rows = check_rows(path, bytes.len().div_ceil(row_bytes) as u64)?;
    let ragged = parallel::find_map_first(rows, ROWS_PER_TASK, |row| {
        dim_at(row * row_bytes).filter(|found| *found != first).map(|found| (row, found))
    });
    if let Some((row, found)) = ragged {
        return Err(DatasetError::RaggedRow {
            path: path.to_owned(),
            row,
            expected: dim,
            found: found as usize,
        });
    }
    if !bytes.len().is_multiple_of(row_bytes) {
        return Err(DatasetError::truncated(path, rows * row_bytes, bytes));
    }
    // After the first dimension word, every row is followed by the dimension word of the next row.
    let storage = Storage::Mapped { start: 4, dtype: Dtype::F32, stride: dim + 1, file };
    Ok(Embeddings { path: path.to_owned(), dim, storage })
}

fn open_fbin(path: &Path) -> Result<Embeddings, DatasetError> {
    let file = map_file(path)?;
    let bytes = file.bytes();
    let Some((header, _)) = bytes.split_first_chunk::<8>() else {
        return Err(DatasetError::truncated(path, 8, bytes));
    };
    let [a, b, c, d, e, f, g, h] = *header;
    let rows = check_rows(path, u32::from_le_bytes([a, b, c, d]).into())?;
    let dim = check_dim(path, u32::from_le_bytes([e, f, g, h]).into())?;
    check_size(path, 8 + 4 * rows as u64 * dim as u64, bytes.len())?;
    let storage = Storage::Mapped { start: 8, dtype: Dtype::F32, stride: dim, file };
    Ok(Embeddings { path: path.to_owned(), dim, storage })
}
