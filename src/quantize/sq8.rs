//! Scalar quantization to 8 bits: every dimension gets 256 levels between its smallest and its largest value.
//!
//! A row is `x ≈ low + step · code`, per dimension. For inner product the offset `q · low` is the same for
//! every row, so ranking needs only `(q · step) · code`: one integer dot product. The steps are multiplied
//! into the query before the query itself is rounded to 8 bits.

use std::ops::Range;

use super::quantizer::Quantize;
use super::query_codes::{Affine, QueryCodes};
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::kernel::CODE_ALIGNMENT;

/// The largest level.
const TOP: f32 = 255.0;
/// Rows per task of training.
const ROWS_PER_BOUNDS: usize = 4096;
/// The largest magnitude of a query code.
const QUERY_TOP: f32 = 127.0;

/// The levels of every dimension: inner product and cosine only.
#[derive(Clone, Debug, PartialEq)]
pub struct Sq8 {
    /// `[dim]` smallest values, then `[dim]` distances between levels.
    levels: Vec<f32>,
}

/// Returns the nearest whole number, for magnitudes below 2²². Unlike `f32::round` it compiles to vector code on every
/// instruction set.
#[inline(always)]
fn nearest(value: f32) -> f32 {
    const WHOLE: f32 = 1.5 * (1 << 23) as f32;
    (value + WHOLE) - WHOLE
}

/// Folds `values` in sixteen lanes, from zero: an order of operations that vector code can follow.
#[inline(always)]
fn lanes(mut values: impl ExactSizeIterator<Item = f32>, fold: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    while values.len() > 0 {
        lanes.iter_mut().zip(values.by_ref()).for_each(|(lane, value)| *lane = fold(*lane, value));
    }
    lanes.into_iter().fold(0.0, fold)
}

impl Quantize for Sq8 {
    const NAME: &'static str = "sq8";

    fn serves(metric: Metric) -> bool {
        match metric {
            Metric::InnerProduct | Metric::Cosine => true,
            // A distance is no affine function of the inner product: it also depends on the norm of the row.
            Metric::L2 => false,
        }
    }

    fn stride(dim: usize) -> usize {
        dim.next_multiple_of(CODE_ALIGNMENT)
    }

    fn parameter_count(dim: usize) -> usize {
        2 * dim
    }

    fn train<T: Element>(vectors: &[T], dim: usize) -> Self {
        let of_rows = |range: Range<usize>| {
            let mut bounds = vec![(f32::INFINITY, f32::NEG_INFINITY); dim];
            for row in vectors[range.start * dim..range.end * dim].chunks(dim) {
                for ((low, high), value) in bounds.iter_mut().zip(T::widen(row).iter()) {
                    (*low, *high) = (low.min(*value), high.max(*value));
                }
            }
            bounds
        };
        let bounds = parallel::map_ranges(vectors.len() / dim, ROWS_PER_BOUNDS, of_rows);
        let bounds = bounds.into_iter().reduce(|mut all, some| {
            for ((low, high), (other_low, other_high)) in all.iter_mut().zip(some) {
                (*low, *high) = (low.min(other_low), high.max(other_high));
            }
            all
        });
        let bounds = bounds.unwrap_or_default();
        let lows = bounds.iter().map(|(low, _)| *low);
        // Divided first: the difference of the bounds may overflow f32.
        let steps = bounds.iter().map(|(low, high)| (high / TOP) - (low / TOP));
        Self { levels: lows.chain(steps).collect() }
    }

    fn from_parameters(levels: &[f32]) -> Option<Self> {
        levels.len().is_multiple_of(2).then(|| Self { levels: levels.to_vec() })
    }

    fn parameters(&self) -> &[f32] {
        &self.levels
    }

    fn dim(&self) -> usize {
        self.levels.len() / 2
    }

    fn encode<T: Element>(&self, row: &[T], out: &mut [u8]) {
        let dim = self.dim();
        assert!(
            row.len() == dim && out.len() == Self::stride(dim),
            "expected a row of {dim} components and {} bytes for its codes, found {} and {}",
            Self::stride(dim),
            row.len(),
            out.len()
        );
        let (lows, steps) = self.levels.split_at(dim);
        out[dim..].fill(0);
        for (((code, value), low), step) in out.iter_mut().zip(T::widen(row).iter()).zip(lows).zip(steps) {
            // A dimension that never varies has no levels: every row is at its smallest value.
            let level = if *step > 0.0 { (value - low) / step } else { 0.0 };
            *code = nearest(level).clamp(0.0, TOP) as u8;
        }
    }

    fn decode(&self, code: &[u8]) -> Vec<f32> {
        let (lows, steps) = self.levels.split_at(self.dim());
        lows.iter().zip(steps).zip(code).map(|((low, step), level)| low + step * f32::from(*level)).collect()
    }

    fn push_query(&self, query: &[f32], out: &mut QueryCodes) {
        let dim = self.dim();
        assert_eq!(query.len(), dim, "a query of another dimension");
        let (lows, steps) = self.levels.split_at(dim);
        let weights = || query.iter().zip(steps).map(|(value, step)| value * step);
        let largest = lanes(weights().map(f32::abs), |a, b| if b > a { b } else { a });
        let (inverse, scale) =
            if largest > 0.0 { (QUERY_TOP / largest, largest / QUERY_TOP) } else { (0.0, 0.0) };
        out.push(Self::stride(dim), |codes| {
            let start = codes.len();
            codes.extend(weights().map(|weight| nearest(weight * inverse) as i8));
            let rounded = codes[start..].iter().map(|code| f32::from(*code) * scale);
            // The rounding error of a weight is multiplied by the row's level, half the top level on average.
            let lost = lanes(weights().zip(rounded).map(|(weight, rounded)| weight - rounded), |a, b| a + b);
            let lowest = lanes(query.iter().zip(lows).map(|(value, low)| value * low), |a, b| a + b);
            Affine { bias: lowest + lost * TOP / 2.0, scale }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantize::{Codes, Quantizer};

    fn sq8(vectors: &[f32], dim: usize) -> Quantizer {
        Codes::Sq8.train(vectors, dim).unwrap()
    }

    proptest! {
        #[test]
        fn a_code_is_within_half_a_step_of_its_value(
            dim in 1usize..70,
            values in prop::collection::vec(-1000.0f32..1000.0, 70..700),
        ) {
            let vectors = &values[..values.len() / dim * dim];
            let quantizer = sq8(vectors, dim);
            let codes = quantizer.encode_all(vectors);
            let stride = quantizer.stride();
            for (row, code) in vectors.chunks(dim).zip(codes.chunks(stride)) {
                prop_assert!(code[dim..].iter().all(|padding| *padding == 0));
                for (at, value) in row.iter().enumerate() {
                    let step = quantizer.parameters()[dim + at];
                    let decoded = quantizer.decode(code)[at];
                    prop_assert!((decoded - value).abs() <= 0.51 * step + 1e-3);
                }
            }
        }

        #[test]
        fn dot_products_of_codes_follow_inner_products(
            dim in 8usize..130,
            seed in prop::collection::vec(-1.0f32..1.0, 130 * 8),
        ) {
            let vectors = &seed[..dim * 7];
            let query = &seed[seed.len() - dim..];
            let quantizer = sq8(vectors, dim);
            let codes = quantizer.encode_all(vectors);
            let mut query_codes = QueryCodes::default();
            quantizer.encode_query(query, &mut query_codes);
            let exact = |row: &[f32]| row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
            let coded = |code: &[u8]| -> i32 {
                query_codes.as_slice().iter().zip(code).map(|(q, c)| i32::from(*q) * i32::from(*c)).sum()
            };
            let steps = &quantizer.parameters()[dim..];
            let largest = query.iter().zip(steps).fold(0f32, |largest, (q, step)| largest.max((q * step).abs()));
            let rows: Vec<&[f32]> = vectors.chunks(dim).collect();
            let codes: Vec<&[u8]> = codes.chunks(quantizer.stride()).collect();
            for (a, b) in (0..7).flat_map(|a| (0..7).map(move |b| (a, b))) {
                let affine = query_codes.affine()[0];
                let difference = (affine.apply(coded(codes[a]) as f32) - exact(rows[a])).abs();
                prop_assert!(difference <= largest * dim as f32 * (1.0 + 255.0 / 127.0) + 1e-3, "{}", difference);
                let wanted = exact(rows[a]) - exact(rows[b]);
                let found = (coded(codes[a]) - coded(codes[b])) as f32 * largest / 127.0;
                // Half a level of each row and half a level of the query, in every dimension.
                let slack = largest * dim as f32 * (1.0 + 255.0 / 127.0);
                prop_assert!((wanted - found).abs() <= slack, "{} {}", wanted, found);
            }
        }
    }

    #[test]
    fn dimensions_that_never_vary_and_queries_of_zeros_are_fine() {
        let vectors = [5.0f32, 0.0, 5.0, 1.0];
        let quantizer = sq8(&vectors, 2);
        let codes = quantizer.encode_all(&vectors);
        assert_eq!([codes[0], codes[1], codes[64], codes[65]], [0, 0, 0, 255]);
        let mut query = QueryCodes::default();
        quantizer.encode_query(&[0.0, 0.0], &mut query);
        assert!(query.as_slice().iter().all(|code| *code == 0) && query.as_slice().len() == 64);
    }

    #[test]
    fn extreme_values_stay_finite() {
        let vectors = [f32::MAX, f32::MIN, f32::MIN, f32::MAX];
        let quantizer = sq8(&vectors, 2);
        assert!(quantizer.parameters().iter().all(|level| level.is_finite()));
    }
}
