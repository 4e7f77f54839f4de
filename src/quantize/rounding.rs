//! Rounding that compiles to vector code.

/// Returns the nearest whole number, for magnitudes below 2²². Unlike `f32::round` it compiles to vector code on every
/// instruction set.
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    const WHOLE: f32 = 1.5 * (1 << 23) as f32;
    (value + WHOLE) - WHOLE
}
