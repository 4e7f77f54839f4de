//! Bounds of the levels of every dimension: the range of its values, or the range of most of them.
//!
//! Some rows must not take the resolution of all others: one row ten thousand times longer than the rest, or a component
//! that only a few pinned videos have, would leave one level to everything else. Where a dimension has such extremes, its
//! bounds leave them out, and rows outside the bounds are compared in full precision.

use std::ops::Range;

use crate::base::element::Element;
use crate::base::parallel::{self, ROWS_PER_TASK};

/// Approximate size of the sample whose values are sorted.
const SAMPLE: usize = 1 << 13;
/// Shares of the values of a dimension that its bounds may leave out at either end, the smallest first. With 0, only values
/// outside the range of the sample are left out.
const TAILS: [f64; 4] = [0.0, 1.0 / 1024.0, 1.0 / 128.0, 1.0 / 32.0];
/// A dimension leaves out the smallest of these shares that makes its range at most this many times as large as the largest
/// share does.
const NEARLY_TIGHTEST: f32 = 4.0;
/// How far beyond the range of the values of the sample the bounds go at either end, as a share of it.
const MARGIN: f32 = 0.125;
/// The same if some of these values were left out.
const MARGIN_OF_TAILS: f32 = 0.5;
/// Extremes are left out of a dimension only if that makes its range this many times smaller: they cost it two of eight
/// bits. Less is common: real factor embeddings have tails that make the range twice as large.
const GAIN: f32 = 4.0;

/// The bounds of every dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// `[dim]`: low and high.
    ranges: Vec<(f32, f32)>,
    /// `[dim]`: low and high without extremes; those of `ranges` where there are none.
    trimmed: Vec<(f32, f32)>,
    /// `[dim]`: the median of a sample.
    medians: Vec<f32>,
}

impl Bounds {
    /// Returns the smallest, the largest and the median value of every dimension of `vectors`, `[n × dim]`, finite.
    pub fn of<T: Element>(vectors: &[T], dim: usize) -> Self {
        let of_rows = |range: Range<usize>| {
            let mut bounds = vec![(f32::INFINITY, f32::NEG_INFINITY); dim];
            for row in vectors[range.start * dim..range.end * dim].chunks(dim) {
                for ((low, high), value) in bounds.iter_mut().zip(T::widen(row).iter()) {
                    (*low, *high) = (low.min(*value), high.max(*value));
                }
            }
            bounds
        };
        let bounds = parallel::map_ranges(vectors.len() / dim, ROWS_PER_TASK, of_rows);
        let bounds = bounds.into_iter().reduce(|mut all, some| {
            for ((low, high), (other_low, other_high)) in all.iter_mut().zip(some) {
                (*low, *high) = (low.min(other_low), high.max(other_high));
            }
            all
        });
        let ranges = bounds.unwrap_or_default();
        let of_sample = |at: usize, values: &[f32]| {
            (trimmed(ranges[at], values).unwrap_or(ranges[at]), values[values.len() / 2])
        };
        let (trimmed, medians) = map_sorted(vectors, dim, of_sample).into_iter().unzip();
        Self { ranges, trimmed, medians }
    }

    /// Returns bounds that leave extremes out; `None` if no dimension has any.
    pub fn without_extremes(&self) -> Option<Self> {
        (self.trimmed != self.ranges).then(|| Self { ranges: self.trimmed.clone(), ..self.clone() })
    }

    /// Low and high of every dimension.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (f32, f32)> + '_ {
        self.ranges.iter().copied()
    }

    /// The median of every dimension: a point among the rows, wherever extremes are.
    pub(super) fn medians(&self) -> &[f32] {
        &self.medians
    }
}

/// Returns `of(dimension, values)` for every dimension of a sample of `vectors`, `[n × dim]`: its values, ascending.
fn map_sorted<T: Element, R: Send>(
    vectors: &[T],
    dim: usize,
    of: impl Fn(usize, &[f32]) -> R + Sync,
) -> Vec<R> {
    let rows = vectors.len() / dim;
    let sample: Vec<usize> = (0..rows).step_by(rows.div_ceil(SAMPLE).max(1)).collect();
    parallel::map(dim, 1, |at| {
        let mut values: Vec<f32> = sample.iter().map(|row| vectors[row * dim + at].to_f32()).collect();
        values.sort_unstable_by(f32::total_cmp);
        of(at, &values)
    })
}

/// Returns bounds for a dimension with the sampled `values`, ascending, if they are much tighter than those of `all`.
fn trimmed(all: (f32, f32), values: &[f32]) -> Option<(f32, f32)> {
    // Halved first: a difference may overflow f32.
    let half_width = |(low, high): (f32, f32)| high / 2.0 - low / 2.0;
    let of_tail = |tail: f64| {
        let dropped = match tail {
            0.0 => 0,
            tail => ((tail * values.len() as f64) as usize).max(1),
        };
        Some((*values.get(dropped)?, *values.get(values.len().checked_sub(1 + dropped)?)?))
            .filter(|(low, high)| low <= high)
    };
    let tightest = half_width(of_tail(TAILS[TAILS.len() - 1])?);
    let of_tails = TAILS.into_iter().filter_map(|tail| Some((tail, of_tail(tail)?)));
    let (tail, range) =
        of_tails.into_iter().find(|(_, range)| half_width(*range) <= NEARLY_TIGHTEST * tightest)?;
    let margin = 2.0 * half_width(range) * if tail == 0.0 { MARGIN } else { MARGIN_OF_TAILS };
    let bounds = ((range.0 - margin).max(all.0), (range.1 + margin).min(all.1));
    (half_width(all) > 0.0 && half_width(all) >= GAIN * half_width(bounds)).then_some(bounds)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const DIM: usize = 4;

    fn rows(count: usize) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        (0..count * DIM).map(|_| random.random_range(-1.0f32..1.0)).collect()
    }

    #[test]
    fn even_values_have_no_extremes() {
        for count in [1, 2, 100, 20_000] {
            let rows = rows(count);
            let bounds = Bounds::of(&rows, DIM);
            if count >= 100 {
                assert_eq!(bounds.without_extremes(), None, "{count}");
            }
        }
    }

    #[test]
    fn extremes_are_left_out_only_where_they_are() {
        for (count, extreme) in [(10, 1e4f32), (1000, 1e4), (20_000, 1e30), (20_000, f32::MAX)] {
            for value in [extreme, -extreme] {
                let mut rows = rows(count);
                rows[7 * DIM + 2] = value;
                let all = Bounds::of(&rows, DIM);
                let tightest = all.without_extremes().unwrap();
                for at in [0, 1, 3] {
                    assert_eq!(tightest.ranges[at], all.ranges[at], "{count} {value}");
                }
                let (low, high) = tightest.ranges[2];
                assert!(-2.5 < low && low < high && high < 2.5, "{count} {value}: {low} to {high}");
            }
        }
    }

    #[test]
    fn a_component_of_few_rows_has_one_level_for_the_others() {
        let mut rows = rows(5000);
        for (row, values) in rows.chunks_mut(DIM).enumerate() {
            values[1] = if row % 250 == 3 { 9.0 } else { 0.5 };
        }
        let tightest = Bounds::of(&rows, DIM).without_extremes().unwrap();
        assert_eq!(tightest.ranges[1], (0.5, 0.5));
    }
}
