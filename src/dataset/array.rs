//! Arrays in files: where their numbers lie, and the conversion of those that no index stores.
//!
//! What flows in: mapped bytes, and the layout of an array that fills them. What flows out: whether the array can be
//! used in place, or its components in memory. Nothing here knows a format.
//!
//! ```text
//! f32, f16            in place, or copied if they are big-endian, column by column or not aligned
//! f64, bf16           f32
//! i8, u8              f16, which holds each of them exactly
//! wider integers      f32
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytemuck::Zeroable;
use half::{bf16, f16};

use super::components::Floats;
use super::error::DatasetError;
use super::scalar::{Narrowed, Scalar, exceeds};
use crate::base::element::{Dtype, Element};
use crate::base::parallel::{self, ROWS_PER_TASK};

/// An array of `rows × dim` numbers within the bytes of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Array {
    pub scalar: Scalar,
    pub rows: usize,
    pub dim: usize,
    /// The byte of the first number.
    pub start: usize,
    /// Bytes from a number to the next one in its row.
    pub step: usize,
    /// Bytes from a row to the next one.
    pub stride: usize,
    pub is_big_endian: bool,
}

impl Array {
    /// Rows one after the other, little-endian, from byte `start` on.
    pub(super) fn contiguous(scalar: Scalar, rows: usize, dim: usize, start: usize) -> Self {
        let step = scalar.bytes();
        Self { scalar, rows, dim, start, step, stride: dim * step, is_big_endian: false }
    }

    /// The type of the components, if they can be used where they lie. The first byte of the file is aligned.
    pub(super) fn in_place(&self) -> Option<Dtype> {
        let dtype = match self.scalar {
            Scalar::F32 => Dtype::F32,
            Scalar::F16 => Dtype::F16,
            _ => return None,
        };
        let size = self.scalar.bytes();
        let is_aligned = self.start.is_multiple_of(size) && self.stride.is_multiple_of(size);
        (is_aligned && self.step == size && self.stride >= self.dim * size && !self.is_big_endian)
            .then_some(dtype)
    }

    /// The numbers as components, `[rows × dim]`, and how many of them lost their range: they are not 0 and smaller than
    /// any normal `f32`. `bytes`: the whole file, which has all of them.
    ///
    /// # Errors
    /// For the first number that is larger than any `f32`.
    pub(super) fn convert(&self, path: &Path, bytes: &[u8]) -> Result<(Floats, u64), DatasetError> {
        let (is_exceeded, flushed) = (AtomicBool::new(false), AtomicU64::new(0));
        let components = match self.scalar {
            Scalar::F32 => Floats::F32(self.map(bytes, f32::from_le_bytes)),
            Scalar::F16 => Floats::F16(self.map(bytes, f16::from_le_bytes)),
            Scalar::Bf16 => Floats::F32(self.map(bytes, |number| bf16::from_le_bytes(number).to_f32())),
            Scalar::I8 => Floats::F16(self.map(bytes, |number| f16::from(i8::from_le_bytes(number)))),
            Scalar::U8 => Floats::F16(self.map(bytes, |[number]| f16::from(number))),
            Scalar::I16 => Floats::F32(self.map(bytes, |number| i16::from_le_bytes(number).into())),
            Scalar::U16 => Floats::F32(self.map(bytes, |number| u16::from_le_bytes(number).into())),
            Scalar::I32 => Floats::F32(self.map(bytes, |number| i32::from_le_bytes(number) as f32)),
            Scalar::U32 => Floats::F32(self.map(bytes, |number| u32::from_le_bytes(number) as f32)),
            Scalar::I64 => Floats::F32(self.map(bytes, |number| i64::from_le_bytes(number) as f32)),
            Scalar::U64 => Floats::F32(self.map(bytes, |number| u64::from_le_bytes(number) as f32)),
            Scalar::F64 => {
                let narrow = |number| match Narrowed::new(f64::from_le_bytes(number)) {
                    Some(Narrowed { value, is_flushed }) => {
                        if is_flushed {
                            flushed.fetch_add(1, Ordering::Relaxed);
                        }
                        value
                    }
                    None => {
                        is_exceeded.store(true, Ordering::Relaxed);
                        f32::INFINITY
                    }
                };
                Floats::F32(self.map(bytes, narrow))
            }
        };
        if is_exceeded.into_inner() {
            return Err(self.first_exceeded(path, bytes));
        }
        Ok((components, flushed.into_inner()))
    }

    fn map<const N: usize, T: Element + Zeroable>(
        &self,
        bytes: &[u8],
        component: impl Fn([u8; N]) -> T + Sync,
    ) -> Vec<T> {
        let mut components = vec![T::zeroed(); self.rows * self.dim];
        parallel::for_chunks_mut(&mut components, self.dim, ROWS_PER_TASK, |row, components| {
            for (column, out) in components.iter_mut().enumerate() {
                *out = component(self.number(bytes, row, column));
            }
        });
        components
    }

    /// The bytes of a number, little-endian.
    fn number<const N: usize>(&self, bytes: &[u8], row: usize, column: usize) -> [u8; N] {
        let at = self.start + row * self.stride + column * self.step;
        let mut number = *bytes[at..].first_chunk().expect("the array is within the file");
        if self.is_big_endian {
            number.reverse();
        }
        number
    }

    /// A number of an array of integers.
    pub(super) fn integer(&self, bytes: &[u8], row: usize, column: usize) -> i128 {
        match self.scalar {
            Scalar::I8 => i8::from_le_bytes(self.number(bytes, row, column)).into(),
            Scalar::U8 => u8::from_le_bytes(self.number(bytes, row, column)).into(),
            Scalar::I16 => i16::from_le_bytes(self.number(bytes, row, column)).into(),
            Scalar::U16 => u16::from_le_bytes(self.number(bytes, row, column)).into(),
            Scalar::I32 => i32::from_le_bytes(self.number(bytes, row, column)).into(),
            Scalar::U32 => u32::from_le_bytes(self.number(bytes, row, column)).into(),
            Scalar::I64 => i64::from_le_bytes(self.number(bytes, row, column)).into(),
            Scalar::U64 => u64::from_le_bytes(self.number(bytes, row, column)).into(),
            Scalar::F16 | Scalar::Bf16 | Scalar::F32 | Scalar::F64 => {
                unreachable!("readers of integers accept no floating-point numbers")
            }
        }
    }

    fn first_exceeded(&self, path: &Path, bytes: &[u8]) -> DatasetError {
        let places = (0..self.rows).flat_map(|row| (0..self.dim).map(move |column| (row, column)));
        let numbers = places.map(|(row, column)| {
            let number = f64::from_le_bytes(self.number(bytes, row, column));
            (row, column, number)
        });
        let mut exceeding = numbers.filter(|(_, _, number)| Narrowed::new(*number).is_none());
        let (row, column, found) = exceeding.next().expect("a number that was found before");
        exceeds(path, row, column, found)
    }
}
