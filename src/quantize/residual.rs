//! A few bits per axis for what a row differs from a center by.
//!
//! What is left of rows near each other when their mean is taken away is distributed about normally along every
//! axis, so the levels are set as is best for that (Max, "Quantizing for minimum distortion", 1960). The axes that tell
//! most get four bits, others two or one, and the last ones none. The bits of one, two or four axes are a 4-bit code, and
//! a query has a table of what each code is worth to it: a row is scored by looking up one byte per code, for 64 rows at
//! a time.
//!
//! An inner product estimated so is off by a third of how far the rows scatter: good enough to choose a few hundred
//! of many thousand rows for a better look, at a quarter of the bytes of [`super::Sq8`] or fewer.

use std::ops::Range;

use super::axes::{Axes, along};
use crate::kernel::{Kernels, MAX_ENTRY, NIBBLE_ROWS, TABLE_BYTES, row_of};

/// What a code of so many bits stands for.
struct Levels {
    /// In standard deviations.
    values: &'static [f32],
    /// Where one level ends and the next begins.
    boundaries: &'static [f32],
    /// The share of the variance that is lost.
    lost: f32,
}

static NO_BITS: Levels = Levels { values: &[0.0], boundaries: &[], lost: 1.0 };
static ONE_BIT: Levels = Levels { values: &[-0.7979, 0.7979], boundaries: &[0.0], lost: 0.3634 };
static TWO_BITS: Levels =
    Levels { values: &[-1.5104, -0.4528, 0.4528, 1.5104], boundaries: &[-0.9816, 0.0, 0.9816], lost: 0.1175 };
static FOUR_BITS: Levels = Levels {
    values: &[
        -2.733, -2.069, -1.618, -1.256, -0.9424, -0.6568, -0.3881, -0.1284, 0.1284, 0.3881, 0.6568, 0.9424,
        1.256, 1.618, 2.069, 2.733,
    ],
    boundaries: &[
        -2.401, -1.844, -1.437, -1.099, -0.7996, -0.5224, -0.2582, 0.0, 0.2582, 0.5224, 0.7996, 1.099, 1.437,
        1.844, 2.401,
    ],
    lost: 0.009_497,
};

/// The bits of a code.
const CODE_BITS: usize = 4;
/// The bits for each axis, where axes are those of the dimensions.
const PLAIN_WIDTH: u8 = 2;
/// The share of the variance that may be lost: as much as with two bits for every axis.
const MOST_LOST: f64 = 0.1175;

impl Levels {
    fn of(width: u8) -> &'static Self {
        match width {
            0 => &NO_BITS,
            1 => &ONE_BIT,
            2 => &TWO_BITS,
            _ => &FOUR_BITS,
        }
    }
}

/// Bits for each of `dim` axes that are those of the dimensions.
pub fn plain_widths(dim: usize) -> Vec<u8> {
    vec![PLAIN_WIDTH; dim]
}

/// How many 4-bit codes that makes.
pub(super) fn plain_codes(dim: usize) -> usize {
    dim.div_ceil(CODE_BITS / usize::from(PLAIN_WIDTH))
}

/// Whether these are bits for axes: 4, 2, 1 or 0, and never more than before.
pub fn are_widths(widths: &[u8]) -> bool {
    widths.iter().all(|width| matches!(width, 0 | 1 | 2 | 4)) && widths.is_sorted_by(|a, b| a >= b)
}

/// Bytes of a block of [`NIBBLE_ROWS`] rows, given the bits for each axis.
pub fn residual_block_bytes(widths: &[u8]) -> usize {
    NIBBLE_ROWS * codes(widths).count().div_ceil(2)
}

/// The axes that share each code.
fn codes(widths: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let equals = widths.chunk_by(|a, b| a == b).scan(0, |start, equal| {
        *start += equal.len();
        Some((*start - equal.len(), equal))
    });
    equals.filter(|(_, equal)| equal[0] > 0).flat_map(|(start, equal)| {
        let axes = CODE_BITS / usize::from(equal[0]);
        (start..start + equal.len())
            .step_by(axes)
            .map(move |first| first..(first + axes).min(start + equal.len()))
    })
}

/// Bits for axes of these `variances`, descending, that lose no more than [`MOST_LOST`] in the fewest codes, which come in
/// pairs; `None` if those are no fewer than `before`. For `most` axes or fewer; the others get none.
pub(super) fn shortest_widths(variances: &[f64], most: usize, before: usize) -> Option<Vec<u8>> {
    let mut sums = vec![0.0];
    sums.extend(variances.iter().scan(0.0, |sum, variance| {
        *sum += variance;
        Some(*sum)
    }));
    let total = sums[variances.len()];
    let axes = variances.len().min(most);
    let kept = |from: usize, to: usize, width: u8| {
        (1.0 - f64::from(Levels::of(width).lost)) * (sums[to.min(axes)] - sums[from.min(axes)])
    };
    // So many codes of one axis, of two and of four.
    let lost = |(fours, twos, ones): (usize, usize, usize)| {
        let (two_from, one_from) = (fours, fours + 2 * twos);
        total - kept(0, two_from, 4) - kept(two_from, one_from, 2) - kept(one_from, one_from + 4 * ones, 1)
    };
    (2..before).step_by(2).find_map(|codes| {
        let splits = (0..=codes)
            .flat_map(|fours| (0..=codes - fours).map(move |twos| (fours, twos, codes - fours - twos)));
        let best = splits.min_by(|a, b| lost(*a).total_cmp(&lost(*b)))?;
        (lost(best) <= MOST_LOST * total).then(|| {
            let (fours, twos, ones) = best;
            let widths = [(4, fours), (2, 2 * twos), (1, 4 * ones), (0, axes)];
            widths.into_iter().flat_map(|(width, axes)| std::iter::repeat_n(width, axes)).take(axes).collect()
        })
    })
}

/// Encodes a row of a block: what its `residual`, `[axes]`, is in terms of `spread` times the `deviations`, `[axes]`.
///
/// `block`: `[residual_block_bytes(widths)]`, zero where this row's codes go.
///
/// # Panics
/// If the block has no such row.
pub(super) fn encode_residual(
    residual: &[f32],
    spread: f32,
    (deviations, widths): (&[f32], &[u8]),
    row: usize,
    block: &mut [u8],
) {
    // The byte whose row is this one.
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

/// What residual codes of an index stand for.
#[derive(Clone, Copy, Debug)]
pub struct ResidualCodes<'a> {
    /// `None` where they are those of the dimensions.
    pub axes: Option<Axes<'a>>,
    /// `[axes]`: how much rows of a block differ along each, as a share of the spread.
    pub deviations: &'a [f32],
    /// `[axes]`: the bits for each.
    pub widths: &'a [u8],
}

/// What the codes are worth to one query; kept and reused.
#[derive(Clone, Debug, Default)]
pub struct ResidualTable {
    /// `[axes]`: what a standard deviation along each is worth.
    weights: Vec<f32>,
    /// `[codes × 16]`, an even number of codes.
    entries: Vec<u8>,
    /// Of a row, per spread: `bias + step · sum`.
    bias: f32,
    step: f32,
    deviation: f32,
    error: f32,
}

impl ResidualTable {
    /// Makes the table of a query, `[dim]`, where one unit of inner product is `worth` so many units of score.
    ///
    /// # Panics
    /// If codes are of another dimension.
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
        let lowest = |axes: &Range<usize>| {
            let least = Levels::of(widths[axes.start]).values[0];
            weights[axes.clone()].iter().map(|weight| least * weight.abs()).sum::<f32>()
        };
        let (mut widest, mut bias) = (0f32, 0.0);
        for lowest in codes(widths).map(|axes| lowest(&axes)) {
            widest = widest.max(-2.0 * lowest);
            bias += lowest;
        }
        let step = widest / f32::from(MAX_ENTRY);
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        entries.clear();
        for axes in codes(widths) {
            let (width, lowest) = (widths[axes.start], lowest(&axes));
            let values = Levels::of(width).values;
            // The sums of the first axes, each with every level of the next.
            let mut sums = [-lowest; TABLE_BYTES];
            let mut count = 1;
            for weight in &weights[axes] {
                for level in (0..values.len()).rev() {
                    for at in 0..count {
                        sums[level * count + at] = sums[at] + weight * values[level];
                    }
                }
                count *= values.len();
            }
            entries.extend(sums.map(|sum| ((sum * inverse + 0.5) as u8).min(MAX_ENTRY)));
        }
        entries.resize(entries.len().next_multiple_of(2 * TABLE_BYTES), 0);
        let of_axes = weights.iter().zip(widths);
        let lost: f32 = of_axes.map(|(weight, width)| Levels::of(*width).lost * weight * weight).sum();
        // An entry is off by anything up to half a step.
        let rounded = step * step / 12.0 * (entries.len() / TABLE_BYTES) as f32;
        self.error = (lost + rounded).sqrt();
        self.deviation = weights.iter().map(|weight| weight * weight).sum::<f32>().sqrt();
        (self.bias, self.step) = (bias, step);
    }

    /// The standard deviation of what rows score beside their center, per spread.
    pub fn deviation(&self) -> f32 {
        self.deviation
    }

    /// The standard deviation of what estimates are off by, per spread.
    pub fn error(&self) -> f32 {
        self.error
    }

    /// Scores the rows of a block around a `center` with its score and `spread`; bit r of what is given is set if row
    /// r scores `least` or more.
    ///
    /// # Panics
    /// If the block is of another dimension.
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

    /// Four bits for so many axes, two, one and none.
    fn widths() -> impl Strategy<Value = Vec<u8>> {
        let counts = (0usize..6, 0usize..20, 0usize..20, 0usize..4);
        let widths = counts.prop_map(|(fours, twos, ones, none)| {
            let counts = [(4, fours), (2, twos), (1, ones), (0, none)];
            counts
                .into_iter()
                .flat_map(|(width, count)| std::iter::repeat_n(width, count))
                .collect::<Vec<u8>>()
        });
        widths.prop_filter("no axis", |widths| !widths.is_empty())
    }

    proptest! {
        #[test]
        fn estimates_lie_within_what_levels_and_entries_lose(
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
                // Within two deviations: levels end at one and a half.
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

        #[test]
        fn axes_share_codes_and_lie_in_one(widths in widths()) {
            let all: Vec<Range<usize>> = codes(&widths).collect();
            let coded = widths.iter().filter(|width| **width > 0).count();
            prop_assert!(are_widths(&widths));
            prop_assert_eq!(all.iter().cloned().flatten().collect::<Vec<_>>(), (0..coded).collect::<Vec<_>>());
            for axes in all {
                let bits: usize = widths[axes.clone()].iter().map(|width| usize::from(*width)).sum();
                prop_assert!(bits <= CODE_BITS && widths[axes.clone()].iter().all(|width| *width == widths[axes.start]));
            }
        }
    }

    #[test]
    fn widths_are_as_few_as_may_be() {
        // All axes are alike: nothing is better than two bits for each.
        assert_eq!(shortest_widths(&[1.0; 32], 32, plain_codes(32)), None);
        // A few tell nearly everything.
        let few: Vec<f64> = (0..32).map(|axis| if axis < 4 { 1.0 } else { 1e-4 }).collect();
        let widths = shortest_widths(&few, 32, plain_codes(32)).unwrap();
        assert_eq!((residual_block_bytes(&widths), widths.len()), (2 * NIBBLE_ROWS, 32), "{widths:?}");
        assert!(widths[..4] == [4; 4] && widths[4..] == [0; 28], "{widths:?}");
        let lost = |widths: &[u8], variances: &[f64]| -> f64 {
            let lost = variances.iter().zip(widths.iter().chain(std::iter::repeat(&0)));
            lost.map(|(variance, width)| variance * f64::from(Levels::of(*width).lost)).sum()
        };
        // They go down slowly: some get four bits, and others none.
        let slowly: Vec<f64> = (0..128).map(|axis| 0.95f64.powi(axis)).collect();
        let widths = shortest_widths(&slowly, 128, plain_codes(128)).unwrap();
        assert!(are_widths(&widths) && widths[0] == 4 && widths[127] == 0, "{widths:?}");
        assert!(lost(&widths, &slowly) <= MOST_LOST * slowly.iter().sum::<f64>());
        // No more axes than are asked for, if these are enough.
        assert_eq!(shortest_widths(&slowly, 80, plain_codes(128)).unwrap().len(), 80);
        assert_eq!(shortest_widths(&slowly, 20, plain_codes(128)), None);
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
