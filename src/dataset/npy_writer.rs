//! Writes `.npy`: rows flow in as they are computed; a complete file flows out, or none.
//!
//! A file is written under a temporary name in the same folder, synced, renamed, and its folder synced: a reader sees
//! all of it or nothing, also after a power failure. Nothing here knows what the numbers mean.

use std::io::{BufWriter, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use super::error::DatasetError;
use crate::base::output::{Output, OutputFile};
use bytemuck::Pod;
use half::f16;

mod sealed {
    pub trait Sealed {}
}

/// A number type that `.npy` files are written of.
pub trait NpyScalar: Pod + sealed::Sealed {
    /// NumPy's word for the type, little-endian.
    const DESCR: &'static str;
}

macro_rules! npy_scalar {
    ($($scalar:ty => $descr:literal),*) => {$(
        impl sealed::Sealed for $scalar {}
        impl NpyScalar for $scalar {
            const DESCR: &'static str = $descr;
        }
    )*};
}
npy_scalar!(f32 => "<f4", f16 => "<f2", i32 => "<i4", u64 => "<u8");

/// Writes `values`, row-major, as an array of `shape`: `[rows, dim]` or `[rows]`.
///
/// # Errors
/// [`DatasetError::WrongLength`] if `values` does not fill `shape`, [`DatasetError::Io`].
pub fn write_npy<T: NpyScalar>(path: &Path, shape: &[usize], values: &[T]) -> Result<(), DatasetError> {
    let mut writer = NpyWriter::create(path, shape)?;
    writer.write(values)?;
    writer.finish()
}

/// A `.npy` file under construction, invisible under its own name until [`NpyWriter::finish`].
#[derive(Debug)]
pub struct NpyWriter<T> {
    path: PathBuf,
    file: BufWriter<OutputFile>,
    expected: u64,
    written: u64,
    scalar: PhantomData<T>,
}

impl<T: NpyScalar> NpyWriter<T> {
    /// Begins an array of `shape`: `[rows, dim]` or `[rows]`.
    ///
    /// # Errors
    /// [`DatasetError::Io`] if `path` is no [`Output`], or its folder cannot be written to.
    pub fn create(path: &Path, shape: &[usize]) -> Result<Self, DatasetError> {
        let file = Output::open(path).and_then(Output::create).map_err(DatasetError::io(path))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&header(T::DESCR, shape)).map_err(DatasetError::io(path))?;
        let expected = shape.iter().map(|&axis| axis as u64).product();
        Ok(Self { path: path.to_owned(), file, expected, written: 0, scalar: PhantomData })
    }

    /// Appends `values`, any number of them.
    ///
    /// # Errors
    /// [`DatasetError::Io`].
    pub fn write(&mut self, values: &[T]) -> Result<(), DatasetError> {
        self.written += values.len() as u64;
        self.file.write_all(bytemuck::cast_slice(values)).map_err(DatasetError::io(&self.path))
    }

    /// Syncs the file, gives it its name (replacing what had it) and syncs the folder.
    ///
    /// # Errors
    /// [`DatasetError::WrongLength`] if the shape is not filled, [`DatasetError::Io`]; either way
    /// a file that was at the path before is unchanged.
    pub fn finish(self) -> Result<(), DatasetError> {
        let Self { path, file, expected, written, .. } = self;
        if written != expected {
            return Err(DatasetError::WrongLength { path, expected, found: written });
        }
        let file = file.into_inner().map_err(|error| DatasetError::io(&path)(error.into_error()))?;
        file.finish().map_err(DatasetError::io(&path))
    }
}

/// Version 1.0, padded with spaces so that the numbers begin at a multiple of 64 bytes.
fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let axes = match shape {
        // Python writes a tuple of one with a comma.
        [rows] => format!("{rows},"),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes}), }}");
    let total = (10 + text.len() + 1).next_multiple_of(64);
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((total - 10) as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header.resize(total - 1, b' ');
    header.push(b'\n');
    header
}
