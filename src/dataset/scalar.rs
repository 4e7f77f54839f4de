//! The number types of files, and `f64` as `f32`.

use std::path::Path;

use super::error::DatasetError;

/// A number type that some reader here accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "hdf5"), expect(dead_code, reason = "only HDF5 files have integers of 2 bytes"))]
pub(super) enum Scalar {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    /// The upper half of an `f32`. NumPy has no name for it: its files say `V2`, two bytes of any meaning.
    Bf16,
    F32,
    F64,
}

impl Scalar {
    /// Bytes of one number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Scalar::I8 | Scalar::U8 => 1,
            Scalar::I16 | Scalar::U16 | Scalar::F16 | Scalar::Bf16 => 2,
            Scalar::I32 | Scalar::U32 | Scalar::F32 => 4,
            Scalar::I64 | Scalar::U64 | Scalar::F64 => 8,
        }
    }
}

/// A component that was read as `f64`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Narrowed {
    pub value: f32,
    /// Whether the number is not 0 and smaller than the smallest normal `f32`, so that most or all of its digits are lost.
    pub is_flushed: bool,
}

impl Narrowed {
    /// The nearest `f32`; `None` for a finite number that is larger than any `f32`.
    pub(super) fn new(number: f64) -> Option<Self> {
        let value = number as f32;
        let is_flushed = number != 0.0 && value.abs() < f32::MIN_POSITIVE;
        (value.is_finite() || !number.is_finite()).then_some(Self { value, is_flushed })
    }
}

/// The error for a number that is larger than any `f32`.
pub(super) fn exceeds(path: &Path, row: usize, column: usize, found: f64) -> DatasetError {
    DatasetError::ExceedsF32 { path: path.to_owned(), row, column, found }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn doubles_become_the_nearest_float_or_are_named(number in any::<f64>()) {
            match Narrowed::new(number) {
                None => prop_assert!(number.is_finite() && (number as f32).is_infinite()),
                Some(Narrowed { value, is_flushed }) => {
                    prop_assert!(value.to_bits() == (number as f32).to_bits() || number.is_nan());
                    let is_normal = value.is_normal() || !number.is_finite() || number == 0.0;
                    prop_assert_eq!(is_flushed, !is_normal);
                }
            }
        }
    }
}
