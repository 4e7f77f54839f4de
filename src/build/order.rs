//! The order in which rows become nodes: group by group, and within each so that rows beside each other are near.

use rayon::prelude::*;

use super::groups::Groups;
use crate::element::Element;
use crate::kernel::Kernels;
use crate::quantize::ROWS_PER_BLOCK;

/// Rows that the direction of a cut is found from.
const SAMPLE: usize = 256;
/// Steps of the power iteration: the cut only has to be good.
const ITERATIONS: usize = 4;

/// `order[node]` is the row of `vectors`, `[n × dim]`, that becomes the node; and where regions begin, as
/// [`crate::quantize::BlockSummary`] has it: about at the first block of each group.
///
/// Every group is cut in two across the direction in which it is longest, and again, until the parts are the
/// blocks of the index: so those are as tight as may be.
pub(super) fn order<T: Element>(vectors: &[T], dim: usize, groups: &Groups) -> (Vec<u32>, Vec<u32>) {
    let mut members = groups.members(1);
    let mut first = 0;
    let starts = members.iter().map(|members| {
        let start = first;
        first += members.len();
        start
    });
    let starts: Vec<usize> = starts.collect();
    let ends = starts.iter().copied().chain([groups.of_row.len()]);
    let mut regions: Vec<u32> = ends.map(|node| node.div_ceil(ROWS_PER_BLOCK) as u32).collect();
    regions.dedup();
    members.par_iter_mut().zip(starts).for_each_init(Cutter::default, |cutter, (members, first)| {
        cutter.arrange(vectors, dim, members, first);
    });
    let order = members.concat();
    (order, regions)
}

/// Cuts a group; keeps the memory that it needs for that.
#[derive(Default)]
struct Cutter {
    mean: Vec<f32>,
    axis: Vec<f32>,
    next: Vec<f32>,
    along: Vec<(f32, u32)>,
}

impl Cutter {
    /// Puts `rows`, which become the nodes from `first` on, in order.
    fn arrange<T: Element>(&mut self, vectors: &[T], dim: usize, rows: &mut [u32], first: usize) {
        let middle = (first + rows.len() / 2).next_multiple_of(ROWS_PER_BLOCK);
        let Some(cut) = middle.checked_sub(first).filter(|cut| (1..rows.len()).contains(cut)) else { return };
        let row = |row: u32| &vectors[row as usize * dim..(row as usize + 1) * dim];
        self.find_axis(rows, dim, row);
        let kernels = Kernels::get();
        self.along.clear();
        self.along.extend(rows.iter().map(|at| (kernels.dot(&self.axis, row(*at)), *at)));
        self.along.select_nth_unstable_by(cut, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        rows.iter_mut().zip(&self.along).for_each(|(row, (_, at))| *row = *at);
        let (front, back) = rows.split_at_mut(cut);
        self.arrange(vectors, dim, front, first);
        self.arrange(vectors, dim, back, first + cut);
    }

    /// About the direction in which some of the rows differ most (power iteration).
    fn find_axis<'v, T: Element>(&mut self, rows: &[u32], dim: usize, row: impl Fn(u32) -> &'v [T]) {
        let sample = || rows.iter().step_by(rows.len().div_ceil(SAMPLE)).map(|at| T::widen(row(*at)));
        let Self { mean, axis, next, .. } = self;
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
            let norm = kernels.norm_squared(next).sqrt();
            if !(norm > 0.0 && norm.is_finite()) {
                return;
            }
            axis.clear();
            axis.extend(next.iter().map(|value| value / norm));
        }
    }
}

fn add(sum: &mut [f32], row: &[f32], share: f32) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += share * value);
}
