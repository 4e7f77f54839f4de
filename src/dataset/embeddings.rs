//! Embeddings: of files, in place wherever their format allows it, or in memory.
//!
//! What flows in: arrays in mapped files, and components in memory. What flows out: an [`EmbeddingsView`] of the rows,
//! and the checks that their numbers can be scored. Nothing here knows a format, or whose embeddings they are.

use std::path::Path;

use half::f16;

use super::array::Array;
use super::components::Components;
use super::error::DatasetError;
use super::limits::{check_dim, check_rows};
use super::places::Places;
use super::table::Matrix;
use super::view::{EmbeddingsView, Rows};
use crate::base::element::{Dtype, Element};
use crate::base::mapped_file::MappedFile;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::kernel::{MAX_NORM, is_bounded, norm, normalize};
use crate::with_rows;

/// Embeddings, `[rows × dim]`.
#[derive(Debug)]
pub struct Embeddings {
    places: Places,
    dim: usize,
    storage: Storage,
    flushed: u64,
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

impl Embeddings {
    /// An array in a file, in place if its numbers can be used where they lie, else as components in memory.
    ///
    /// # Errors
    /// For a number that is larger than any `f32`.
    pub(super) fn of_array(path: &Path, file: MappedFile, array: &Array) -> Result<Self, DatasetError> {
        let (storage, flushed) = match array.in_place() {
            Some(dtype) => {
                let stride = array.stride / array.step;
                (Storage::Mapped { start: array.start, dtype, stride, file }, 0)
            }
            None => {
                let (components, flushed) = array.convert(path, file.bytes())?;
                (Storage::InMemory(components.into()), flushed)
            }
        };
        Ok(Self { places: Places::of(path), dim: array.dim, storage, flushed })
    }

    /// Embeddings that were read from the files of `places`.
    pub(super) fn decoded(places: Places, matrix: Matrix) -> Self {
        let Matrix { dim, values, flushed } = matrix;
        Self { places, dim, storage: Storage::InMemory(values.into()), flushed }
    }

    /// Embeddings in memory, `[rows × dim]` row-major; `name` takes the place of a path in errors.
    ///
    /// # Panics
    /// If `dim` is 0, or `values` is empty or not a whole number of rows.
    pub fn in_memory<T: Element>(name: &Path, dim: usize, values: Vec<T>) -> Self {
        assert!(dim > 0 && !values.is_empty() && values.len().is_multiple_of(dim), "rows that are not whole");
        let storage = Storage::InMemory(values.into());
        Self { places: Places::of(name), dim, storage, flushed: 0 }
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
        Ok(Self { places: Places::of(name), dim, storage: Storage::InMemory(values), flushed: 0 })
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

    /// The path of the first file, or the name of embeddings in memory.
    pub fn path(&self) -> &Path {
        self.places.first()
    }

    /// How many numbers lost their range when they became components: they are not 0 and smaller than any normal `f32`.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// The same rows with norm 1, in single precision.
    ///
    /// # Errors
    /// For the first row with a component that is not finite, or without one that is not 0.
    pub fn normalized(&self) -> Result<Self, DatasetError> {
        self.check_components()?;
        self.check_nonzero()?;
        let view = self.view();
        let mut values = vec![0f32; view.len() * self.dim];
        parallel::for_chunks_mut(&mut values, self.dim, ROWS_PER_TASK, |row, out| {
            with_rows!(view, rows => out.copy_from_slice(&Element::widen(rows.row(row))));
            normalize(out);
        });
        let storage = Storage::InMemory(values.into());
        Ok(Self { places: self.places.clone(), dim: self.dim, storage, flushed: self.flushed })
    }

    /// Checks that every component is finite.
    fn check_components(&self) -> Result<(), DatasetError> {
        let found = match self.view() {
            EmbeddingsView::F32(rows) => first_row(rows, |row| !all(row, f32::is_finite)),
            EmbeddingsView::F16(rows) => first_row(rows, |row| !all(row, f16::is_finite)),
        };
        found.map_or(Ok(()), |row| Err(self.not_bounded(row)))
    }

    /// The error for a row with a component that is not finite, or that is too long.
    fn not_bounded(&self, row: usize) -> DatasetError {
        let mut values = Vec::new();
        self.view().copy_row(row, &mut values);
        let (path, row) = self.places.of_row(row);
        match values.iter().position(|value| !value.is_finite()) {
            Some(column) => DatasetError::NotFinite { path, row, column, found: values[column] },
            None => DatasetError::TooLong { path, row, most: MAX_NORM, found: norm(&values) },
        }
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
        found.map_or(Ok(()), |row| Err(self.not_bounded(row)))
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
        let zero = |row| {
            let (path, row) = self.places.of_row(row);
            Err(DatasetError::ZeroQuery { path, row, metric })
        };
        self.first_zero_row().map_or(Ok(()), zero)
    }

    /// Checks that every row has a component other than zero: the cosine of a zero row is undefined.
    ///
    /// # Errors
    /// [`DatasetError::ZeroRow`] with the first zero row.
    pub fn check_nonzero(&self) -> Result<(), DatasetError> {
        let zero = |row| {
            let (path, row) = self.places.of_row(row);
            Err(DatasetError::ZeroRow { path, row })
        };
        self.first_zero_row().map_or(Ok(()), zero)
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
