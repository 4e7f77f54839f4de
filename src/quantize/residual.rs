//! Two bits per dimension for what a row differs from a centre by.
//!
//! What is left of rows near each other when their mean is taken away is distributed about normally in every
//! dimension, so four levels are set as is best for that (Max, "Quantizing for minimum distortion", 1960). Two
//! dimensions are one 4-bit code, and a query has a table of what each code is worth to it: a row is scored by
//! looking up one byte per code, for 64 rows at a time.
//!
//! An inner product estimated so is off by a third of how far the rows scatter: good enough to choose a few hundred
//! of many thousand rows for a better look, at a quarter of the bytes of [`super::Sq8`].

use crate::kernel::{Kernels, MAX_ENTRY, NIBBLE_ROWS, TABLE_BYTES, row_of};

/// The levels, in standard deviations.
const LEVELS: [f32; 4] = [-1.5104, -0.4528, 0.4528, 1.5104];
/// Where the outer levels begin.
const BOUNDARY: f32 = 0.9816;
/// Dimensions of a pair of codes, which share a byte.
const DIMS_PER_BYTE: usize = 4;

/// Bytes of a block of [`NIBBLE_ROWS`] rows.
pub fn residual_block_bytes(dim: usize) -> usize {
    NIBBLE_ROWS * dim.div_ceil(DIMS_PER_BYTE)
}

/// Encodes a row of a block: what its `residual`, `[dim]`, is in terms of `spread` times the `deviations`, `[dim]`.
///
/// `block`: `[residual_block_bytes(dim)]`, zero where this row's codes go.
///
/// # Panics
/// If the block has no such row.
pub(super) fn encode_residual(
    residual: &[f32],
    (spread, deviations): (f32, &[f32]),
    row: usize,
    block: &mut [u8],
) {
    // The byte whose row is this one.
    let at = 2 * (row % (NIBBLE_ROWS / 2)) + row / (NIBBLE_ROWS / 2);
    debug_assert_eq!(row_of(at), row);
    let dims = residual.chunks(DIMS_PER_BYTE).zip(deviations.chunks(DIMS_PER_BYTE));
    for (codes, (values, deviations)) in block.chunks_exact_mut(NIBBLE_ROWS).zip(dims) {
        for (place, (value, deviation)) in values.iter().zip(deviations).enumerate() {
            let boundary = BOUNDARY * spread * deviation;
            let level =
                u8::from(*value >= -boundary) + u8::from(*value >= 0.0) + u8::from(*value >= boundary);
            codes[at] |= level << (2 * place);
        }
    }
}

/// What the codes are worth to one query; kept and reused.
#[derive(Clone, Debug, Default)]
pub struct ResidualTable {
    /// `[codes × 16]`, an even number of codes.
    entries: Vec<u8>,
    /// Of a row, per spread: `bias + step · sum`.
    bias: f32,
    step: f32,
    deviation: f32,
}

impl ResidualTable {
    /// Makes the table of a query, `[dim]`, where one unit of inner product is `worth` so many units of score.
    ///
    /// # Panics
    /// If there are not as many deviations as dimensions.
    pub fn fill(&mut self, query: &[f32], deviations: &[f32], worth: f32) {
        assert_eq!(query.len(), deviations.len(), "a query of another dimension");
        let weight = |dim: usize| query.get(dim).map_or(0.0, |value| value * deviations[dim] * worth);
        let codes = query.len().div_ceil(DIMS_PER_BYTE) * 2;
        let lowest = |code: usize| LEVELS[0] * (weight(2 * code).abs() + weight(2 * code + 1).abs());
        let widest = (0..codes).map(|code| -2.0 * lowest(code)).fold(0f32, f32::max);
        self.step = widest / f32::from(MAX_ENTRY);
        let inverse = if self.step > 0.0 { 1.0 / self.step } else { 0.0 };
        self.bias = (0..codes).map(lowest).sum();
        self.entries.clear();
        for code in 0..codes {
            let (first, second, lowest) = (weight(2 * code), weight(2 * code + 1), lowest(code));
            let entry = |both: usize| {
                let value = first * LEVELS[both % 4] + second * LEVELS[both / 4];
                ((value - lowest) * inverse + 0.5) as u8
            };
            self.entries.extend((0..TABLE_BYTES).map(|both| entry(both).min(MAX_ENTRY)));
        }
        self.deviation = (0..query.len()).map(|dim| weight(dim) * weight(dim)).sum::<f32>().sqrt();
    }

    /// The standard deviation of what rows score beside their centre, per spread.
    pub fn deviation(&self) -> f32 {
        self.deviation
    }

    /// Scores the rows of a block around a `centre` with its score and `spread`; bit r of what is given is set if row
    /// r scores `least` or more.
    ///
    /// # Panics
    /// If the block is of another dimension.
    #[inline]
    pub fn score(
        &self,
        block: &[u8],
        (centre, spread): (f32, f32),
        least: f32,
        out: &mut [f32; NIBBLE_ROWS],
    ) -> u64 {
        let affine = (centre + spread * self.bias, spread * self.step);
        Kernels::get().nibble_scores(&self.entries, block, affine, least, out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn estimates_lie_within_what_levels_and_entries_lose(
            dim in 1usize..40,
            rows in 1usize..NIBBLE_ROWS,
            spread in 0.1f32..3.0,
            values in prop::collection::vec(-1.5f32..1.5, 40 * NIBBLE_ROWS),
            query in prop::collection::vec(-2.0f32..2.0, 40),
        ) {
            let deviations: Vec<f32> = (0..dim).map(|at| 0.5 + at as f32 / dim as f32).collect();
            let query = &query[..dim];
            let mut block = vec![0; residual_block_bytes(dim)];
            let residual = |row: usize| -> Vec<f32> {
                // Within two deviations: levels end at one and a half.
                let scaled = deviations.iter().zip(&values[row * 40..]);
                scaled.map(|(deviation, value)| spread * deviation * value).collect()
            };
            (0..rows).for_each(|row| encode_residual(&residual(row), (spread, &deviations), row, &mut block));
            let mut table = ResidualTable::default();
            table.fill(query, &deviations, 3.0);
            let mut estimates = [0.0; NIBBLE_ROWS];
            table.score(&block, (1.0, spread), 0.0, &mut estimates);
            let step = table.step;
            for (row, estimate) in estimates.iter().enumerate().take(rows) {
                let exact: f32 = 1.0 + residual(row).iter().zip(query).map(|(x, q)| 3.0 * x * q).sum::<f32>();
                let weights = query.iter().zip(&deviations).map(|(q, deviation)| (3.0 * q * deviation).abs());
                let lost = spread * (0.54 * weights.sum::<f32>() + step * dim as f32 / 2.0 + step);
                prop_assert!((exact - estimate).abs() <= lost + 1e-3, "{} {} {}", exact, estimate, lost);
            }
        }
    }

    #[test]
    fn rows_at_their_centre_score_as_it_does() {
        let (dim, mut table) = (6, ResidualTable::default());
        table.fill(&[0.0; 6], &[1.0; 6], 1.0);
        let block = vec![0; residual_block_bytes(dim)];
        let mut scores = [-1.0; NIBBLE_ROWS];
        assert_eq!(table.score(&block, (5.0, 2.0), 5.0, &mut scores), u64::MAX);
        assert_eq!((table.deviation(), scores), (0.0, [5.0; NIBBLE_ROWS]));
    }
}
