//! How many bits each axis of a residual gets, and how axes share 4-bit codes.
//!
//! Residuals of rows near each other are about normally distributed along every axis, so the levels are the optimal ones
//! for that distribution (Max, "Quantizing for minimum distortion", 1960). The axes of the largest variance get four bits,
//! others two or one, and the last ones none. One axis of four bits, two of two or four of one share a 4-bit code.

use std::ops::Range;

use crate::kernel::NIBBLE_ROWS;

/// The quantization levels of a value of some number of bits.
pub(super) struct Levels {
    /// In standard deviations.
    pub(super) values: &'static [f32],
    /// Between neighboring levels, in standard deviations.
    pub(super) boundaries: &'static [f32],
    /// The share of the variance that quantization loses.
    pub(super) lost: f32,
    /// For each axis that shares a code, the value that each code stands for.
    pub(super) of_codes: &'static [[f32; 1 << CODE_BITS]],
}

/// Returns the value of each code along the axis at `place` among those that share it. `values`: the levels of `width` bits.
const fn values_of_codes<const LEVELS: usize>(
    values: [f32; LEVELS],
    width: usize,
    place: usize,
) -> [f32; 1 << CODE_BITS] {
    let mut of_codes = [0.0; 1 << CODE_BITS];
    let mut code = 0;
    while code < of_codes.len() {
        of_codes[code] = values[code >> (place * width) & (LEVELS - 1)];
        code += 1;
    }
    of_codes
}

const ONE_BIT_VALUES: [f32; 2] = [-0.7979, 0.7979];
const TWO_BIT_VALUES: [f32; 4] = [-1.5104, -0.4528, 0.4528, 1.5104];
const FOUR_BIT_VALUES: [f32; 16] = [
    -2.733, -2.069, -1.618, -1.256, -0.9424, -0.6568, -0.3881, -0.1284, 0.1284, 0.3881, 0.6568, 0.9424,
    1.256, 1.618, 2.069, 2.733,
];

static NO_BITS: Levels = Levels { values: &[0.0], boundaries: &[], lost: 1.0, of_codes: &[] };
static ONE_BIT: Levels = Levels {
    values: &ONE_BIT_VALUES,
    boundaries: &[0.0],
    lost: 0.3634,
    of_codes: &[
        values_of_codes(ONE_BIT_VALUES, 1, 0),
        values_of_codes(ONE_BIT_VALUES, 1, 1),
        values_of_codes(ONE_BIT_VALUES, 1, 2),
        values_of_codes(ONE_BIT_VALUES, 1, 3),
    ],
};
static TWO_BITS: Levels = Levels {
    values: &TWO_BIT_VALUES,
    boundaries: &[-0.9816, 0.0, 0.9816],
    lost: 0.1175,
    of_codes: &[values_of_codes(TWO_BIT_VALUES, 2, 0), values_of_codes(TWO_BIT_VALUES, 2, 1)],
};
static FOUR_BITS: Levels = Levels {
    values: &FOUR_BIT_VALUES,
    boundaries: &[
        -2.401, -1.844, -1.437, -1.099, -0.7996, -0.5224, -0.2582, 0.0, 0.2582, 0.5224, 0.7996, 1.099, 1.437,
        1.844, 2.401,
    ],
    lost: 0.009_497,
    of_codes: &[FOUR_BIT_VALUES],
};

/// Bits per code.
pub(super) const CODE_BITS: usize = 4;
/// Bits per axis where the axes are the dimensions.
const PLAIN_WIDTH: u8 = 2;
/// The largest share of the variance that may be lost: the loss of two bits per axis.
const MOST_LOST: f64 = 0.1175;

impl Levels {
    /// Returns the levels of `width` bits: 0, 1, 2 or 4.
    pub(super) fn of(width: u8) -> &'static Self {
        match width {
            0 => &NO_BITS,
            1 => &ONE_BIT,
            2 => &TWO_BITS,
            _ => &FOUR_BITS,
        }
    }
}

/// Returns the bits per axis, `[dim]`, where the axes are the dimensions.
pub fn plain_widths(dim: usize) -> Vec<u8> {
    vec![PLAIN_WIDTH; dim]
}

/// Returns how many 4-bit codes a row has where the axes are the `dim` dimensions.
pub(super) fn plain_codes(dim: usize) -> usize {
    dim.div_ceil(CODE_BITS / usize::from(PLAIN_WIDTH))
}

/// Returns whether `widths` are valid bits per axis: 4, 2, 1 or 0, in descending order.
pub fn are_widths(widths: &[u8]) -> bool {
    widths.iter().all(|width| matches!(width, 0 | 1 | 2 | 4)) && widths.is_sorted_by(|a, b| a >= b)
}

/// Returns the bytes of a block of [`NIBBLE_ROWS`] rows, given the bits per axis.
pub fn residual_block_bytes(widths: &[u8]) -> usize {
    NIBBLE_ROWS * codes(widths).count().div_ceil(2)
}

/// Returns the axes that share each code.
pub(super) fn codes(widths: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
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

/// Chooses the bits for axes of these `variances`, descending: the fewest codes, in pairs, that lose no more than
/// [`MOST_LOST`] of the total variance. At most `most` axes get bits. Returns `None` unless that takes fewer codes than
/// `before`.
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
    // The loss with this many codes of one, two and four axes.
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

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some axes of four bits, then some of two, one and none.
    pub(in crate::quantize) fn widths() -> impl Strategy<Value = Vec<u8>> {
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
        fn every_coded_axis_is_in_one_code(widths in widths()) {
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
    fn widths_are_the_fewest_that_lose_little() {
        // All axes have the same variance: two bits each are best.
        assert_eq!(shortest_widths(&[1.0; 32], 32, plain_codes(32)), None);
        // A few axes have nearly all of the variance.
        let few: Vec<f64> = (0..32).map(|axis| if axis < 4 { 1.0 } else { 1e-4 }).collect();
        let widths = shortest_widths(&few, 32, plain_codes(32)).unwrap();
        assert_eq!((residual_block_bytes(&widths), widths.len()), (2 * NIBBLE_ROWS, 32), "{widths:?}");
        assert!(widths[..4] == [4; 4] && widths[4..] == [0; 28], "{widths:?}");
        let lost = |widths: &[u8], variances: &[f64]| -> f64 {
            let lost = variances.iter().zip(widths.iter().chain(std::iter::repeat(&0)));
            lost.map(|(variance, width)| variance * f64::from(Levels::of(*width).lost)).sum()
        };
        // Slowly falling variances: some axes get four bits and others none.
        let slowly: Vec<f64> = (0..128).map(|axis| 0.95f64.powi(axis)).collect();
        let widths = shortest_widths(&slowly, 128, plain_codes(128)).unwrap();
        assert!(are_widths(&widths) && widths[0] == 4 && widths[127] == 0, "{widths:?}");
        assert!(lost(&widths, &slowly) <= MOST_LOST * slowly.iter().sum::<f64>());
        // At most as many axes as allowed, if these are enough.
        assert_eq!(shortest_widths(&slowly, 80, plain_codes(128)).unwrap().len(), 80);
        assert_eq!(shortest_widths(&slowly, 20, plain_codes(128)), None);
    }
}
