//! Fine codes: what the codes of rows round off, in 8 more bits per component.
//!
//! A code `c` says that a component is about `low + step · c`. A fine code `r` says where within the step it is:
//! `low + step · (c + r / 256 − ½)`. Both together are more precise than `f16`.
//!
//! The weights of a query, its components times `step`, are split in the same way: `scale · (a + b / 256)`, both of 8 bits. So
//! a score is made of four dot products of 8-bit codes, which are the same to the bit on every processor.

use super::vector_code::{lanes, nearest};

/// Fine levels per step of the codes.
const PER_STEP: f32 = 256.0;
/// The fine code of a component that its code represents exactly.
const MIDDLE: f32 = 128.0;
/// The largest code.
const TOP: f32 = 255.0;
/// The largest magnitude of the code of a weight.
const WEIGHT_TOP: f32 = 127.0;

/// Returns the fine code of a component at `level`, in steps from the lowest, whose code is `code`.
#[inline(always)]
pub(super) fn fine_code(level: f32, code: u8) -> u8 {
    nearest((level - f32::from(code)) * PER_STEP + MIDDLE).clamp(0.0, TOP) as u8
}

/// A query against rows with fine codes, under inner product and cosine.
#[derive(Clone, Debug, PartialEq)]
pub struct FineQuery {
    /// `[2 × stride]`: the 8-bit codes of the weights, then of what those round off.
    codes: Vec<i8>,
    bias: f64,
    scale: f64,
}

/// The dot products of the codes of a query and of one row.
#[derive(Clone, Copy, Debug, Default)]
pub struct FineDots {
    /// [`FineQuery::coarse`] with the codes of the row.
    pub coarse: f32,
    /// [`FineQuery::rest`] with the codes of the row.
    pub of_query: f32,
    /// [`FineQuery::coarse`] with the fine codes of the row.
    pub of_row: f32,
    /// [`FineQuery::rest`] with the fine codes of the row.
    pub rest: f32,
}

impl FineQuery {
    /// Encodes the `weights` of a query, `[dim]`, which may be far smaller than an `f32`. `lowest`: its inner product with a row
    /// of the lowest levels.
    pub(super) fn of_weights(
        weights: impl ExactSizeIterator<Item = f64> + Clone,
        lowest: f64,
        stride: usize,
    ) -> Self {
        let largest = lanes(weights.clone(), |largest, weight| weight.abs().max(largest));
        let top = f64::from(WEIGHT_TOP);
        // All codes of a query without weights are zero, whatever the scale.
        let (inverse, scale) = if largest > 0.0 { (top / largest, largest / top) } else { (0.0, 1.0) };
        let mut codes = Vec::with_capacity(2 * stride);
        let scaled = || weights.clone().map(|weight| (weight * inverse) as f32);
        codes.extend(scaled().map(|weight| nearest(weight) as i8));
        codes.resize(stride, 0);
        let rest = |weight: f32| nearest((weight - nearest(weight)) * PER_STEP).min(127.0) as i8;
        codes.extend(scaled().map(rest));
        codes.resize(2 * stride, 0);
        let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>();
        let coded = f64::from(sum(&codes[..stride])) + f64::from(sum(&codes[stride..])) / f64::from(PER_STEP);
        // What both codes of a weight round off is multiplied by the level of the row, half the top level on average.
        let lost = inverse * lanes(weights, |sum, weight| sum + weight) - coded;
        let of_levels = lost * f64::from(TOP / 2.0) - coded * f64::from(MIDDLE / PER_STEP);
        Self { codes, bias: lowest + scale * of_levels, scale }
    }

    /// The 8-bit codes of the weights, `[stride]`.
    pub fn coarse(&self) -> &[i8] {
        &self.codes[..self.codes.len() / 2]
    }

    /// The 8-bit codes of what the coarse codes round off, `[stride]`.
    pub fn rest(&self) -> &[i8] {
        &self.codes[self.codes.len() / 2..]
    }

    /// Returns the inner product that dot products of codes represent.
    #[inline]
    pub fn score(&self, dots: FineDots) -> f32 {
        let per_step = f64::from(PER_STEP);
        let once = f64::from(dots.of_query) + f64::from(dots.of_row) + f64::from(dots.rest) / per_step;
        let score = self.bias + self.scale * (f64::from(dots.coarse) + once / per_step);
        score.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
    }
}
