//! Arithmetic that compiles to vector code.

/// Returns the nearest whole number, for magnitudes below 2²². Unlike `f32::round` it compiles to vector code on every
/// instruction set.
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    const WHOLE: f32 = 1.5 * (1 << 23) as f32;
    (value + WHOLE) - WHOLE
}

/// Folds `values` in sixteen lanes, from zero, and then the lanes: an order of operations that vector code can follow.
#[inline(always)]
pub(super) fn lanes<T: Copy + Default>(
    mut values: impl ExactSizeIterator<Item = T>,
    fold: impl Fn(T, T) -> T,
) -> T {
    let mut lanes = [T::default(); 16];
    while values.len() > 0 {
        lanes.iter_mut().zip(values.by_ref()).for_each(|(lane, value)| *lane = fold(*lane, value));
    }
    lanes.into_iter().fold(T::default(), fold)
}
