//! The bound of norms: which vectors give scores that single precision represents.

use super::kernels::Kernels;

/// The largest accepted norm of a row, a user or a query.
///
/// Of two such vectors, the inner product is at most 10^30 and the squared distance at most 4 · 10^30. Times the largest
/// weight of an interest, 10^6, both are far below the largest `f32`, 3.4 · 10^38. So are sums over 10^7 of them.
pub const MAX_NORM: f32 = 1e15;

/// Whether every component is finite and the norm is at most [`MAX_NORM`]. Squares of larger components may be infinite,
/// and those of NaN are NaN: neither is within the bound.
pub fn is_bounded(vector: &[f32]) -> bool {
    Kernels::get().norm_squared(vector) <= MAX_NORM * MAX_NORM
}

/// The norm in double precision, which no vector exceeds.
pub fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_of_the_norm_and_not_of_components() {
        assert!(is_bounded(&[]) && is_bounded(&[0.0; 9]) && is_bounded(&[1e-45; 3]));
        assert!(is_bounded(&[9.9e14]) && is_bounded(&[-7e14, 7e14]));
        assert!(!is_bounded(&[1.1e15]) && !is_bounded(&[8e14, -8e14]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -3e38] {
            assert!(!is_bounded(&[0.0, bad, 1.0]), "{bad}");
        }
        assert_eq!(norm(&[3e38, 2e38]), f64::hypot(f64::from(3e38f32), f64::from(2e38f32)));
    }
}
