//! A few bits per axis for the difference between a row and the center of its block.
//!
//! The bits of one, two or four axes form a 4-bit code (see [`super::widths`]). A query has a table of what each code adds
//! to a score: a row is scored by looking up one byte per code, for 64 rows at a time.
//!
//! The error of an inner product estimated this way is about a third of the standard deviation of the scores within a
//! block: good enough to select a few hundred candidates of many thousand rows for rescoring, at a quarter of the bytes of
//! 8-bit codes or fewer.

use super::axes::{Axes, along};
use super::widths::{CODE_BITS, Levels, codes};
use crate::kernel::{Kernels, MAX_ENTRY, NIBBLE_ROWS, TABLE_BYTES, row_of};

/// Encodes a row of a block: its `residual`, `[axes]`, in units of `spread` times `deviations`, `[axes]`.
///
/// `block`: `[residual_block_bytes(widths)]`, zero where the codes of `row` go.
///
/// # Panics
/// If `row` is not below [`NIBBLE_ROWS`].
pub(super) fn encode_residual(
    residual: &[f32],
    spread: f32,
    (deviations, widths): (&[f32], &[u8]),
    row: usize,
    block: &mut [u8],
) {
    // The inverse of `row_of`.
    let at = 2 * (row % (NIBBLE_ROWS / 2)) + row / (NIBBLE_ROWS / 2);
    debug_assert_eq!(row_of(at), row);
    for (code, axes) in codes(widths).enumerate() {
        let byte = &mut block[code / 2 * NIBBLE_ROWS + at];
        let width = widths[axes.start];
        let boundaries = Levels::of(width).boundaries;
        for (place, axis) in axes.enumerate() {
            let reached = |boundary: &f32| u8::from(residual[axis] >= boundary * spread * deviations[axis]);
            let level: u8 = boundaries.iter().map(reached).sum();
            *byte |= level << (CODE_BITS * (code % 2) + place * usize::from(width));
        }
    }
}

/// How to interpret the residual codes of an index.
#[derive(Clone, Copy, Debug)]
pub struct ResidualCodes<'a> {
    /// `None` if the axes are the dimensions.
    pub axes: Option<Axes<'a>>,
    /// `[axes]`: the standard deviation of residuals along each axis, as a share of the block's spread.
    pub deviations: &'a [f32],
    /// `[axes]`: the bits per axis.
    pub widths: &'a [u8],
}

/// The sum of this and a number from 0 to 255 has the nearest whole number in its lowest bits. Unlike a conversion, the sum compiles
/// to vector code on every instruction set.
const WHOLE: f32 = (1 << 23) as f32;

/// Returns for each code the levels and the `weights`, `[axes]`, of the axes that share it.
fn weights_of_codes<'a>(
    weights: &'a [f32],
    widths: &'a [u8],
) -> impl Iterator<Item = (&'static Levels, &'a [f32])> {
    codes(widths).map(|axes| (Levels::of(widths[axes.start]), &weights[axes]))
}

/// Returns the least that a code adds to the score of a row.
#[inline]
fn lowest(levels: &Levels, weights: &[f32]) -> f32 {
    weights.iter().map(|weight| levels.values[0] * weight.abs()).sum()
}

/// The lookup table of one query: how much each code adds to the score of a row. Reused between queries.
#[derive(Clone, Debug, Default)]
pub struct ResidualTable {
    /// `[axes]`: the score of one standard deviation along each axis.
    weights: Vec<f32>,
    /// `[codes × 16]`, an even number of codes.
    entries: Vec<u8>,
    /// A row scores `bias + step · sum of entries`, per spread.
    bias: f32,
    step: f32,
    deviation: f32,
    error: f32,
}

impl ResidualTable {
    /// Fills the table for a query, `[dim]`, where one unit of inner product is `worth` units of score.
    ///
    /// # Panics
    /// If the codes have another dimension.
    pub fn fill(&mut self, query: &[f32], of: &ResidualCodes<'_>, worth: f32) {
        let ResidualCodes { axes, deviations, widths } = *of;
        let Self { weights, entries, .. } = self;
        weights.clear();
        match axes {
            Some(axes) => weights.extend(along(axes.of_queries, query)),
            None => weights.extend_from_slice(query),
        }
        assert_eq!(weights.len(), deviations.len(), "a query of another dimension");
        weights.iter_mut().zip(deviations).for_each(|(weight, deviation)| *weight *= deviation * worth);
        let (mut widest, mut bias) = (0f32, 0.0);
        for (levels, weights) in weights_of_codes(weights, widths) {
            let lowest = lowest(levels, weights);
            widest = widest.max(-2.0 * lowest);
            bias += lowest;
        }
        let step = widest / f32::from(MAX_ENTRY);
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        entries.clear();
        for (levels, weights) in weights_of_codes(weights, widths) {
            let mut sums = [-lowest(levels, weights); TABLE_BYTES];
            for (weight, values) in weights.iter().zip(levels.of_codes) {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
            }
            entries.extend(sums.map(|sum| ((sum * inverse + WHOLE).to_bits() as u8).min(MAX_ENTRY)));
        }
        entries.resize(entries.len().next_multiple_of(2 * TABLE_BYTES), 0);
        let of_axes = weights.iter().zip(widths);
        let lost: f32 = of_axes.map(|(weight, width)| Levels::of(*width).lost * weight * weight).sum();
        // The rounding error of an entry is uniform within half a step.
        let rounded = step * step / 12.0 * (entries.len() / TABLE_BYTES) as f32;
        self.error = (lost + rounded).sqrt();
        self.deviation = weights.iter().map(|weight| weight * weight).sum::<f32>().sqrt();
        (self.bias, self.step) = (bias, step);
    }

    /// The standard deviation of the difference between the scores of a row and of its center, per spread.
    pub fn deviation(&self) -> f32 {
        self.deviation
    }

    /// The standard deviation of the estimation error, per spread.
    pub fn error(&self) -> f32 {
        self.error
    }

    /// Estimates the scores of the rows of a block, given the score of its center and its spread. Bit r of the result is
    /// set if row r scores `least` or more.
    ///
    /// # Panics
    /// If the block has another dimension.
    #[inline]
    pub fn score(
        &self,
        block: &[u8],
        (center, spread): (f32, f32),
        least: f32,
        out: &mut [f32; NIBBLE_ROWS],
    ) -> u64 {
        let affine = (center + spread * self.bias, spread * self.step);
        Kernels::get().nibble_scores(&self.entries, block, affine, least, out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantize::widths::{plain_widths, residual_block_bytes, tests::widths};

    proptest! {
        #[test]
        fn the_error_of_estimates_is_bounded_by_levels_and_entries(
            widths in widths(),
            rows in 1usize..NIBBLE_ROWS,
            spread in 0.1f32..3.0,
            values in prop::collection::vec(-1.5f32..1.5, 50 * NIBBLE_ROWS),
            query in prop::collection::vec(-2.0f32..2.0, 50),
        ) {
            let count = widths.len();
            let deviations: Vec<f32> = (0..count).map(|at| 0.5 + at as f32 / count as f32).collect();
            let query = &query[..count];
            let mut block = vec![0; residual_block_bytes(&widths)];
            let residual = |row: usize| -> Vec<f32> {
                // Within one and a half deviations, where the levels of two bits end.
                let scaled = deviations.iter().zip(&values[row * 50..]);
                scaled.map(|(deviation, value)| spread * deviation * value).collect()
            };
            for row in 0..rows {
                encode_residual(&residual(row), spread, (&deviations, &widths), row, &mut block);
            }
            let mut table = ResidualTable::default();
            table.fill(query, &ResidualCodes { axes: None, deviations: &deviations, widths: &widths }, 3.0);
            let mut estimates = [0.0; NIBBLE_ROWS];
            table.score(&block, (1.0, spread), 0.0, &mut estimates);
            let step = table.step;
            // Half of the widest level, and half a step for every code.
            let lost = |width: &u8| match width { 4 => 0.34, 2 => 0.54, 1 => 0.81, _ => 1.5 };
            let weights = query.iter().zip(&deviations).map(|(q, deviation)| (3.0 * q * deviation).abs());
            let of_levels: f32 = weights.zip(&widths).map(|(weight, width)| weight * lost(width)).sum();
            let most = spread * (of_levels + step * (codes(&widths).count() + 1) as f32 / 2.0);
            for (row, estimate) in estimates.iter().enumerate().take(rows) {
                let exact: f32 = 1.0 + residual(row).iter().zip(query).map(|(x, q)| 3.0 * x * q).sum::<f32>();
                prop_assert!((exact - estimate).abs() <= most + 1e-3, "{} {} {}", exact, estimate, most);
            }
        }
    }

    #[test]
    fn rows_at_their_center_score_as_it_does() {
        let (widths, mut table) = (plain_widths(6), ResidualTable::default());
        table.fill(&[0.0; 6], &ResidualCodes { axes: None, deviations: &[1.0; 6], widths: &widths }, 1.0);
        let block = vec![0; residual_block_bytes(&widths)];
        let mut scores = [-1.0; NIBBLE_ROWS];
        assert_eq!(table.score(&block, (5.0, 2.0), 5.0, &mut scores), u64::MAX);
        assert_eq!((table.deviation(), table.error(), scores), (0.0, 0.0, [5.0; NIBBLE_ROWS]));
    }
}
