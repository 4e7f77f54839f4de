//! Scalar quantization to 8 bits: every dimension gets 256 levels between a low and a high bound.
//!
//! A row is `x ≈ low + step · code`, per dimension. For inner product the offset `q · low` is the same for
//! every row, so ranking needs only `(q · step) · code`: one integer dot product. The steps are multiplied
//! into the query before the query itself is rounded to 8 bits.
//!
//! Under L2, rows and queries are measured from a center c among the rows:
//! `−‖q − x‖² = 2 (⟨q − c, x − c⟩ − ½‖x − c‖²) − ‖q − c‖²`. The dot product of codes gives the first term and each row stores
//! the second. Vectors that lie far from the origin and close to each other lose no precision that way.

use super::bounds::Bounds;
use super::fine::{FineQuery, fine_code};
use super::quantizer::Quantize;
use super::query_codes::{Affine, QueryCodes};
use super::vector_code::{lanes, nearest};
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::kernel::{CODE_ALIGNMENT, Kernels};

/// The largest level.
const TOP: f32 = 255.0;
/// The largest magnitude of a query code.
const QUERY_TOP: f32 = 127.0;
/// How far outside the levels, in steps, a value may lie and still be represented by the nearest level.
const TOLERANCE: f32 = 0.51;
/// A query of smaller weights has codes of zero: their inverse would overflow.
const LEAST_WEIGHT: f32 = 1e-30;
/// Under L2, the least scale of a query as a share of the square of the largest step: a query next to the center has codes
/// of zero, and its scores must stay finite.
const LEAST_SCALE: f32 = 1e-4;

/// The levels of every dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Sq8 {
    dim: usize,
    /// `[dim]` lowest values, then `[dim]` distances between levels, then under L2 the center, `[dim]`.
    parameters: Vec<f32>,
    /// `[dim]`: the center in levels under L2; empty under other metrics.
    center_levels: Vec<f32>,
}

impl Sq8 {
    fn of_parameters(parameters: Vec<f32>, dim: usize) -> Self {
        let (lows, rest) = parameters.split_at(dim);
        let (steps, center) = rest.split_at(dim);
        let of_dimension = |((center, low), step): ((&f32, &f32), &f32)| {
            if *step > 0.0 { (center - low) / step } else { 0.0 }
        };
        let center_levels = center.iter().zip(lows).zip(steps).map(of_dimension).collect();
        Self { dim, parameters, center_levels }
    }

    fn lows(&self) -> &[f32] {
        &self.parameters[..self.dim]
    }

    fn steps(&self) -> &[f32] {
        &self.parameters[self.dim..2 * self.dim]
    }

    /// `[dim]` under L2; empty under other metrics.
    fn center(&self) -> &[f32] {
        &self.parameters[2 * self.dim..]
    }
}

impl Quantize for Sq8 {
    const NAME: &'static str = "sq8";

    fn serves(metric: Metric) -> bool {
        match metric {
            Metric::InnerProduct | Metric::Cosine | Metric::L2 => true,
        }
    }

    fn stride(dim: usize) -> usize {
        dim.next_multiple_of(CODE_ALIGNMENT)
    }

    fn parameter_count(dim: usize, metric: Metric) -> usize {
        match metric {
            Metric::InnerProduct | Metric::Cosine => 2 * dim,
            Metric::L2 => 3 * dim,
        }
    }

    fn train(bounds: &Bounds, metric: Metric) -> Self {
        let lows = bounds.ranges().map(|(low, _)| low);
        // In f64: the difference of the bounds may overflow f32, or be small next to them.
        let steps =
            bounds.ranges().map(|(low, high)| ((f64::from(high) - f64::from(low)) / f64::from(TOP)) as f32);
        let parameters = lows.chain(steps);
        let parameters = match metric {
            Metric::InnerProduct | Metric::Cosine => parameters.collect(),
            Metric::L2 => parameters.chain(bounds.medians().iter().copied()).collect(),
        };
        Self::of_parameters(parameters, bounds.medians().len())
    }

    fn from_parameters(parameters: &[f32], metric: Metric) -> Option<Self> {
        let per_dimension = Self::parameter_count(1, metric);
        let dim = parameters.len() / per_dimension;
        (dim * per_dimension == parameters.len()).then(|| Self::of_parameters(parameters.to_vec(), dim))
    }

    fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    fn dim(&self) -> usize {
        self.dim
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
        let (lows, steps) = (self.lows(), self.steps());
        out[dim..].fill(0);
        for (((code, value), low), step) in out.iter_mut().zip(T::widen(row).iter()).zip(lows).zip(steps) {
            // A dimension that never varies has no levels: every row is at its smallest value.
            let level = if *step > 0.0 { (value - low) / step } else { 0.0 };
            *code = nearest(level).clamp(0.0, TOP) as u8;
        }
    }

    fn encode_fine<T: Element>(&self, row: &[T], code: &[u8], out: &mut [u8]) {
        let dim = self.dim();
        let (lows, steps) = (self.lows(), self.steps());
        out[dim..].fill(0);
        let row = T::widen(row);
        let rows = out.iter_mut().zip(code).zip(row.iter());
        for (((fine, code), value), (low, step)) in rows.zip(lows.iter().zip(steps)) {
            let level = if *step > 0.0 { (value - low) / step } else { 0.0 };
            *fine = fine_code(level, *code);
        }
    }

    fn fine_query(&self, query: &[f32]) -> Option<FineQuery> {
        if !self.center().is_empty() {
            return None;
        }
        let (lows, steps) = (self.lows(), self.steps());
        let weights = query.iter().zip(steps).map(|(value, step)| f64::from(*value) * f64::from(*step));
        let lowest = query.iter().zip(lows).map(|(value, low)| f64::from(*value) * f64::from(*low)).sum();
        Some(FineQuery::of_weights(weights, lowest, Self::stride(self.dim())))
    }

    fn represents<T: Element>(&self, row: &[T]) -> bool {
        let (lows, steps) = (self.lows(), self.steps());
        T::widen(row).iter().zip(lows).zip(steps).all(|((value, low), step)| {
            let slack = TOLERANCE * step;
            (low - slack..=low + TOP * step + slack).contains(value)
        })
    }

    fn decode(&self, code: &[u8]) -> Vec<f32> {
        let (lows, steps) = (self.lows(), self.steps());
        lows.iter().zip(steps).zip(code).map(|((low, step), level)| low + step * f32::from(*level)).collect()
    }

    fn half_norm(&self, code: &[u8]) -> f32 {
        let squares =
            self.steps().iter().zip(code).zip(&self.center_levels).map(|((step, level), center)| {
                let along = f64::from((f32::from(*level) - center) * step);
                along * along
            });
        (squares.sum::<f64>() / 2.0) as f32
    }

    fn origin(&self) -> Option<&[f32]> {
        Some(self.center()).filter(|center| !center.is_empty())
    }

    fn push_query(&self, query: &[f32], out: &mut QueryCodes) {
        assert_eq!(query.len(), self.dim(), "a query of another dimension");
        if self.center().is_empty() { self.push_product(query, out) } else { self.push_distance(query, out) }
    }
}

impl Sq8 {
    fn push_product(&self, query: &[f32], out: &mut QueryCodes) {
        let dim = self.dim();
        let (lows, steps) = (self.lows(), self.steps());
        let weights = || query.iter().zip(steps).map(|(value, step)| value * step);
        let largest = lanes(weights().map(f32::abs), |a, b| if b > a { b } else { a });
        // All codes of a query without weights are zero, whatever the scale.
        let (inverse, scale) =
            if largest > LEAST_WEIGHT { (QUERY_TOP / largest, largest / QUERY_TOP) } else { (0.0, 1.0) };
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

    fn push_distance(&self, query: &[f32], out: &mut QueryCodes) {
        let dim = self.dim();
        let (steps, center) = (self.steps(), self.center());
        let centered = || query.iter().zip(center).map(|(value, center)| value - center);
        let weights = || centered().zip(steps).map(|(value, step)| value * step);
        let largest_of = |a: f32, b: f32| if b > a { b } else { a };
        let largest = lanes(weights().map(f32::abs), largest_of);
        let step = lanes(steps.iter().copied(), largest_of);
        let scale = (largest / QUERY_TOP).max(LEAST_SCALE * step * step);
        // All codes of a query without weights are zero, whatever the scale.
        let scale = if scale > LEAST_WEIGHT { scale } else { 1.0 };
        let norm_squared = Kernels::get().l2_squared(query, center);
        out.push(Self::stride(dim), |codes| {
            let start = codes.len();
            codes.extend(weights().map(|weight| nearest(weight / scale) as i8));
            let of_center = codes[start..].iter().zip(&self.center_levels);
            let of_center: f64 = of_center.map(|(code, level)| f64::from(*code) * f64::from(*level)).sum();
            // Twice the inner product with the row, both measured from the center.
            Affine { bias: (-2.0 * f64::from(scale) * of_center) as f32 - norm_squared, scale: 2.0 * scale }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantize::{Codes, Quantizer};

    fn sq8(vectors: &[f32], dim: usize) -> Quantizer {
        Codes::Sq8.train(&Bounds::of(vectors, dim), Metric::InnerProduct).unwrap()
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

    proptest! {
        /// However far the rows are from the origin.
        #[test]
        fn scores_under_l2_follow_distances(
            dim in 1usize..130,
            seed in prop::collection::vec(-1.0f32..1.0, 130 * 8),
            offset in prop_oneof![Just(0.0f32), -1e4f32..1e4],
        ) {
            let vectors: Vec<f32> = seed[..dim * 7].iter().map(|value| value + offset).collect();
            let query: Vec<f32> = seed[seed.len() - dim..].iter().map(|value| value + offset).collect();
            let quantizer = Codes::Sq8.train(&Bounds::of(&vectors, dim), Metric::L2).unwrap();
            let codes = quantizer.encode_all(&vectors);
            let mut query_codes = QueryCodes::default();
            quantizer.encode_query(&query, &mut query_codes);
            let affine = query_codes.affine()[0];
            for (row, code) in vectors.chunks(dim).zip(codes.chunks(quantizer.stride())) {
                let products = query_codes.as_slice().iter().zip(code).map(|(q, c)| i32::from(*q) * i32::from(*c));
                let dot = products.sum::<i32>() as f32 - 2.0 / affine.scale * quantizer.half_norm(code);
                let exact: f32 = row.iter().zip(&query).map(|(a, b)| (a - b) * (a - b)).sum();
                // Steps are at most 2/255, half a step of error each, for differences of at most 4.
                let slack = 0.05 * dim as f32 + 0.05 + 1e-2 * offset.abs() / 1e4 * dim as f32;
                prop_assert!((affine.apply(dot) + exact).abs() <= slack, "{} for {}", affine.apply(dot), -exact);
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
