//! Fine codes: what the codes of rows round off, in 8 more bits per component.
//!
//! A code `c` says that a component is about `low + step · c`. A fine code `r` says where within the step it is:
//! `low + step · (c + r / 256 − ½)`. Both together are more precise than `f16`.
//!
//! The weights of a query, its components times `step`, are split in the same way: `scale · (a + b / 256)`, both of 8 bits. So
//! a score is made of four dot products of 8-bit codes, which are the same to the bit on every processor.

use super::rounding::nearest;

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
    coarse: Vec<i8>,
    rest: Vec<i8>,
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
    pub(super) fn of_weights(weights: impl Iterator<Item = f64> + Clone, lowest: f64, stride: usize) -> Self {
        let largest = weights.clone().map(f64::abs).fold(0.0, f64::max);
        let top = f64::from(WEIGHT_TOP);
        // All codes of a query without weights are zero, whatever the scale.
        let (inverse, scale) = if largest > 0.0 { (top / largest, largest / top) } else { (0.0, 1.0) };
        let (mut coarse, mut rest) = (Vec::with_capacity(stride), Vec::with_capacity(stride));
        let (mut all, mut lost) = (0.0, 0.0);
        for weight in weights {
            let weight = (weight * inverse) as f32;
            let first = nearest(weight);
            let second = nearest((weight - first) * PER_STEP).min(127.0);
            let coded = first + second / PER_STEP;
            all += f64::from(coded);
            lost += f64::from(weight - coded);
            coarse.push(first as i8);
            rest.push(second as i8);
        }
        coarse.resize(stride, 0);
        rest.resize(stride, 0);
        // What both codes of a weight round off is multiplied by the level of the row, half the top level on average.
        let of_levels = lost * f64::from(TOP / 2.0) - all * f64::from(MIDDLE / PER_STEP);
        Self { coarse, rest, bias: lowest + scale * of_levels, scale }
    }

    /// The 8-bit codes of the weights, `[stride]`.
    pub fn coarse(&self) -> &[i8] {
        &self.coarse
    }

    /// The 8-bit codes of what the coarse codes round off, `[stride]`.
    pub fn rest(&self) -> &[i8] {
        &self.rest
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
