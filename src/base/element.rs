//! The number types that an embedding component can be stored in.

use std::borrow::Cow;

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};

/// The stored type of an embedding component; little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 single precision, 4 bytes.
    F32,
    /// IEEE 754 half precision, 2 bytes.
    F16,
}

impl Dtype {
    /// Bytes per component.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 => 2,
        }
    }

    /// The name of this type in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
}

/// A component type that kernels score and files store: `f32` or `f16`.
pub trait Element: Pod + Send + Sync + sealed::Sealed {
    /// The type as a value.
    const DTYPE: Dtype;
    /// Converts to single precision, exactly.
    fn to_f32(self) -> f32;
    /// Converts from single precision, rounding to nearest, ties to even.
    fn from_f32(value: f32) -> Self;
    /// Converts a slice to single precision: borrowed if it is `f32`, otherwise a widened copy (with SIMD).
    fn widen(components: &[Self]) -> Cow<'_, [f32]>;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(value: f32) -> Self {
        value
    }
    fn widen(components: &[Self]) -> Cow<'_, [f32]> {
        Cow::Borrowed(components)
    }
}

impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }
    fn widen(components: &[Self]) -> Cow<'_, [f32]> {
        Cow::Owned(components.to_f32_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_components_widen_as_one_does() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|half| !half.is_nan()).collect();
        let one_by_one: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
        assert_eq!(Element::widen(&halves[..]), one_by_one);
        assert!(matches!(Element::widen(&[1.5f32]), Cow::Borrowed([1.5])));
    }
}
