//! Scaling to unit norm.

use super::kernels::Kernels;
use crate::base::element::Element;

/// Scales `row` to norm 1; zeros stay zeros. Divides by the largest magnitude first, so that the squares of very large and
/// very small components stay finite.
pub fn normalize<T: Element>(row: &mut [T]) {
    let largest = row.iter().fold(0f32, |largest, value| largest.max(value.to_f32().abs()));
    if largest == 0.0 {
        return;
    }
    let scaled: Vec<f32> = row.iter().map(|value| value.to_f32() / largest).collect();
    let norm = Kernels::get().norm_squared(&scaled).sqrt();
    for (value, scaled) in row.iter_mut().zip(scaled) {
        *value = T::from_f32(scaled / norm);
    }
}
