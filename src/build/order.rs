//! The order in which rows become nodes: group by group, and so that rows with neighboring ids are near each other.

use super::groups::Groups;
use crate::base::element::Element;
use crate::base::parallel;
use crate::kernel::Kernels;
use crate::quantize::{ROWS_PER_BLOCK, SecondMoment};

/// Sample of rows from which the direction of a cut is computed.
const SAMPLE: usize = 256;
/// Steps of the power iteration: the direction only has to be approximate.
const ITERATIONS: usize = 4;

/// Returns the order, where `order[node]` is the row of `vectors`, `[n × dim]`, that becomes the node, and the regions as in
/// [`crate::quantize::BlockSummary`]: one per group, rounded to blocks.
///
/// The rows of `last`, ascending, become the last nodes and are in no region.
///
/// Every group is cut in two across its principal axis, recursively, until the pieces are the blocks of the index: this
/// makes blocks compact. If the second moment of the queries is known, the axis is that along which their scores vary
/// most: the scores of a query within a block then vary least.
pub(super) fn order<T: Element>(
    vectors: &[T],
    dim: usize,
    groups: &Groups,
    queries: Option<&SecondMoment>,
    last: &[u32],
) -> (Vec<u32>, Vec<u32>) {
    let mut members = groups.members(1);
    if !last.is_empty() {
        members.iter_mut().for_each(|members| members.retain(|row| last.binary_search(row).is_err()));
    }
    let mut first = 0;
    let starts = members.iter().map(|members| {
        let start = first;
        first += members.len();
        start
    });
    let starts: Vec<usize> = starts.collect();
    let ends = starts.iter().copied().chain([groups.of_row.len() - last.len()]);
    let mut regions: Vec<u32> = ends.map(|node| node.div_ceil(ROWS_PER_BLOCK) as u32).collect();
    regions.dedup();
    parallel::for_chunks_mut_with(&mut members, 1, 1, Cutter::default, |cutter, group, members| {
        cutter.arrange((vectors, dim, queries), &mut members[0], starts[group]);
    });
    let mut order = members.concat();
    order.extend_from_slice(last);
    (order, regions)
}

/// Returns how many of `rows` rows, which become the nodes from `first` on, come before the cut: the cut is at the border
/// between two blocks that is nearest to the middle. `None` if there is no border inside.
fn cut(first: usize, rows: usize) -> Option<usize> {
    let middle = (first + rows / 2).next_multiple_of(ROWS_PER_BLOCK);
    let borders = [middle, middle.saturating_sub(ROWS_PER_BLOCK)];
    borders
        .into_iter()
        .filter(|border| (first + 1..first + rows).contains(border))
        .map(|border| border - first)
        .min_by_key(|cut| cut.abs_diff(rows / 2))
}

/// Cuts groups; owns the buffers for that.
#[derive(Default)]
struct Cutter {
    mean: Vec<f32>,
    axis: Vec<f32>,
    next: Vec<f32>,
    seen: Vec<f32>,
    along: Vec<(f32, u32)>,
}

impl Cutter {
    /// Orders `rows`, which become the nodes from `first` on.
    fn arrange<T: Element>(
        &mut self,
        of @ (vectors, dim, queries): (&[T], usize, Option<&SecondMoment>),
        rows: &mut [u32],
        first: usize,
    ) {
        let Some(cut) = cut(first, rows.len()) else { return };
        let row = |row: u32| &vectors[row as usize * dim..(row as usize + 1) * dim];
        self.find_axis(rows, dim, queries, row);
        let kernels = Kernels::get();
        self.along.clear();
        self.along.extend(rows.iter().map(|at| (kernels.dot(&self.axis, row(*at)), *at)));
        self.along.select_nth_unstable_by(cut, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        rows.iter_mut().zip(&self.along).for_each(|(row, (_, at))| *row = *at);
        let (front, back) = rows.split_at_mut(cut);
        self.arrange(of, front, first);
        self.arrange(of, back, first + cut);
    }

    /// Computes an approximate principal axis of a sample of the rows by power iteration: their inner products with it
    /// are their coordinates along it.
    ///
    /// With queries of second moment M, the axis is that of y = M^½ x. The covariance of y is M^½ C M^½, where C is that of
    /// x, and an axis a of y is the axis M^½ a of x: the iteration is over M C.
    fn find_axis<'v, T: Element>(
        &mut self,
        rows: &[u32],
        dim: usize,
        queries: Option<&SecondMoment>,
        row: impl Fn(u32) -> &'v [T],
    ) {
        let sample = || rows.iter().step_by(rows.len().div_ceil(SAMPLE)).map(|at| T::widen(row(*at)));
        let Self { mean, axis, next, seen, .. } = self;
        mean.clear();
        mean.resize(dim, 0.0);
        let share = 1.0 / sample().len() as f32;
        sample().for_each(|row| add(mean, &row, share));
        axis.clear();
        axis.extend(T::widen(row(rows[0])).iter().zip(mean.iter()).map(|(value, mean)| value - mean));
        let kernels = Kernels::get();
        for _ in 0..ITERATIONS {
            let offset = kernels.dot(axis, mean);
            next.clear();
            next.resize(dim, 0.0);
            let mut total = 0.0;
            for row in sample() {
                let along = kernels.dot(axis, &row) - offset;
                add(next, &row, along);
                total += along;
            }
            add(next, mean, -total);
            if let Some(queries) = queries {
                queries.times(next, seen);
                std::mem::swap(next, seen);
            }
            let norm = kernels.norm_squared(next).sqrt();
            if !(norm > 0.0 && norm.is_finite()) {
                return;
            }
            axis.clear();
            axis.extend(next.iter().map(|value| value / norm));
        }
    }
}

/// Adds `share × row` to `sum`.
fn add(sum: &mut [f32], row: &[f32], share: f32) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += share * value);
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// For every offset of a group in a block, cuts are at the borders of blocks.
    #[test]
    fn groups_are_cut_at_every_border_inside() {
        fn parts(first: usize, rows: usize, ends: &mut Vec<usize>) {
            match cut(first, rows) {
                Some(before) => {
                    parts(first, before, ends);
                    parts(first + before, rows - before, ends);
                }
                None => ends.push(first + rows),
            }
        }
        for first in [0, 1, 32, 63, 64, 100] {
            for rows in 1..700 {
                let mut ends = Vec::new();
                parts(first, rows, &mut ends);
                let borders = (first + 1..first + rows).filter(|at| at.is_multiple_of(ROWS_PER_BLOCK));
                let expected: Vec<usize> = borders.chain([first + rows]).collect();
                assert_eq!(ends, expected, "{rows} from {first} on");
            }
        }
    }

    #[test]
    fn blocks_are_short_where_queries_look() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        // Long in one direction, in which the queries have no share, and short in the other.
        let mut row = || [random.random_range(-10.0f32..10.0), random.random_range(-1.0f32..1.0)];
        let vectors: Vec<f32> = (0..64 * ROWS_PER_BLOCK).flat_map(|_| row()).collect();
        let queries = SecondMoment::of_directions(2, 2, |at| vec![[0.01, -0.01][at], 1.0]);
        let height = |queries| {
            let mut order: Vec<u32> = (0..64 * ROWS_PER_BLOCK as u32).collect();
            Cutter::default().arrange((&vectors, 2, queries), &mut order, 0);
            let mut seen = order.clone();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..order.len() as u32), "every row is somewhere once");
            let of_block = |block: &[u32]| {
                let heights = block.iter().map(|row| vectors[*row as usize * 2 + 1]);
                heights.clone().fold(-1.0, f32::max) - heights.fold(1.0, f32::min)
            };
            order.chunks(ROWS_PER_BLOCK).map(of_block).sum::<f32>() / 64.0
        };
        let (seen, unseen) = (height(Some(&queries)), height(None));
        assert!(2.0 * seen < unseen, "{seen} and {unseen}");
    }
}
