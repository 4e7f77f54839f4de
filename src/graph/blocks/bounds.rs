//! Which blocks come next: those whose best node may score highest.
//!
//! Every region gets a bound, and so do the blocks of the best regions. A block is ready to be scanned when its bound is at
//! least that of every region whose blocks have no bounds yet.

use super::super::candidates::Candidate;
use super::super::cost::Cost;
use super::super::scorer::{Scan, Score};
use super::super::selection::Selection;
use super::summary::Scanned;
use crate::kernel::Kernels;

/// Regions whose blocks are bounded in the first step. Each later step adds half as many regions as were done before.
const FIRST_REGIONS: usize = 32;
/// About how many standard deviations the best node of a block scores above its mean. In the order of these bounds the best
/// nodes are found soonest. Measured with users and with videos as queries, among all nodes, among sets near the query and
/// among sets far from it.
const BLOCK_REACH: f32 = 2.5;
/// How many standard deviations the mean of a block scores above the mean of its region, in most cases. A block whose mean
/// scores higher is scanned later than its own bound says.
const REGION_REACH: f32 = 1.0;
/// Marks a region or block that is done. Less than the bound of any other.
const DONE: f32 = f32::NEG_INFINITY;

/// The bounds of regions and blocks during one scan. Keeps its memory from one scan to the next.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    scores: Vec<f32>,
    /// `[regions]`: what the best node of each region may score, [`DONE`] once its blocks are bounded; the lowest of them at
    /// the start; and how many are done.
    region_bounds: Vec<f32>,
    lowest: f32,
    done: usize,
    /// The regions whose blocks are bounded in this step.
    regions: Vec<u32>,
    /// The blocks with members that are bounded.
    bounded: Vec<u32>,
    /// `[bounded × queries]`: the scores of their means, in units of the scan.
    centers: Vec<f32>,
    /// `[bounded]`: what the best node of each may score, [`DONE`] once it was made ready.
    bounds: Vec<f32>,
    /// Ready blocks, approximately best first: positions in `bounded` as nodes, with their bounds as scores.
    ready: Vec<Candidate>,
    buckets: Buckets,
}

impl Bounds {
    /// Starts a scan: bounds what the best node of each region may score.
    pub(super) fn bound_regions(&mut self, Scanned { blocks, queries, .. }: Scanned<'_>, cost: &mut Cost) {
        let Self { scores, region_bounds, lowest, done, bounded, centers, bounds, .. } = self;
        *done = 0;
        bounded.clear();
        centers.clear();
        bounds.clear();
        region_bounds.clear();
        region_bounds.resize(blocks.largest_spreads.len(), DONE);
        scores.resize(region_bounds.len(), 0.0);
        for query in queries {
            query.means.score_scan(blocks.len(), scores);
            cost.distances += scores.len() as u64;
            let deviation = query.residuals.deviation();
            let spreads = blocks.spreads[blocks.len()..].iter().zip(blocks.largest_spreads);
            for ((bound, score), (of_means, of_rows)) in region_bounds.iter_mut().zip(&*scores).zip(spreads) {
                let reach = deviation * (REGION_REACH * of_means + BLOCK_REACH * of_rows);
                let of_query = query.offset + query.scale * score + reach;
                *bound = if of_query > *bound { of_query } else { *bound };
            }
        }
        *lowest = Kernels::get().range(region_bounds).0.max(f32::MIN);
    }

    /// Makes the best of the remaining blocks ready. Returns whether there are any.
    pub(super) fn next(&mut self, scanned: Scanned<'_>, selection: &mut Selection, cost: &mut Cost) -> bool {
        self.ready.clear();
        while self.ready.is_empty() {
            let more = (self.done / 2).max(FIRST_REGIONS);
            self.regions.clear();
            self.regions.extend_from_slice(selection.promising(&self.region_bounds, more, self.lowest));
            if self.regions.is_empty() {
                return false;
            }
            self.bound_blocks(scanned, cost);
            let Self { region_bounds, bounds, ready, buckets, .. } = self;
            let best_other = Kernels::get().range(region_bounds).1.max(f32::MIN);
            buckets.take(selection.at_least(bounds, best_other), bounds, ready);
        }
        true
    }

    /// The blocks that the last [`Bounds::next`] made ready, approximately best first: their places as nodes, and what their
    /// best nodes may score.
    pub(super) fn ready(&self) -> &[Candidate] {
        &self.ready
    }

    /// The block at a place of [`Self::ready`].
    #[inline]
    pub(super) fn block(&self, place: u32) -> usize {
        self.bounded[place as usize] as usize
    }

    /// `[queries]`: the scores of the mean of the block at a place, in units of the scan.
    #[inline]
    pub(super) fn centers(&self, place: u32, queries: usize) -> &[f32] {
        let first = place as usize * queries;
        &self.centers[first..first + queries]
    }

    /// Bounds what the best node of each block of `regions` may score.
    fn bound_blocks(&mut self, Scanned { blocks, queries, matches }: Scanned<'_>, cost: &mut Cost) {
        let Self { scores, region_bounds, done, regions, bounded, centers, bounds, .. } = self;
        let first = bounded.len();
        for region in &*regions {
            region_bounds[*region as usize] = DONE;
            blocks.list_with_members(*region as usize, matches, bounded);
        }
        *done += regions.len();
        centers.resize(bounded.len() * queries.len(), 0.0);
        bounds.resize(bounded.len(), DONE);
        let new = &bounded[first..];
        scores.resize(new.len(), 0.0);
        for (at, query) in queries.iter().enumerate() {
            query.means.score_rows(new, scores);
            cost.distances += new.len() as u64;
            let reach = BLOCK_REACH * query.residuals.deviation();
            let centers = centers[first * queries.len()..].chunks_exact_mut(queries.len());
            let known = centers.zip(&mut bounds[first..]);
            for ((block, score), (centers, bound)) in new.iter().zip(&*scores).zip(known) {
                centers[at] = query.offset + query.scale * score;
                let of_query = centers[at] + reach * blocks.spreads[*block as usize];
                *bound = if of_query > *bound { of_query } else { *bound };
            }
        }
    }
}

/// Approximate bucket sort: scores closer than 1/1024 of the range may come out in any order. About 3x faster than sorting
/// thousands of scores exactly. Keeps its memory from one call to the next.
#[derive(Debug, Default)]
struct Buckets {
    /// The scores that are sorted, and the bucket of each.
    scores: Vec<f32>,
    buckets: Vec<u16>,
    /// `[buckets]`: where the next candidate of each bucket goes.
    places: Vec<u32>,
}

const BUCKETS: usize = 1024;

impl Buckets {
    /// Moves the scores at `positions` into `sorted`, approximately best first, and marks their slots [`DONE`].
    fn take(&mut self, positions: &[u32], scores: &mut [f32], sorted: &mut Vec<Candidate>) {
        let taken = positions.iter().map(|at| std::mem::replace(&mut scores[*at as usize], DONE));
        self.scores.clear();
        self.scores.extend(taken);
        let candidates = positions.iter().zip(&self.scores).map(|(at, score)| Candidate::new(*at, *score));
        sorted.clear();
        if positions.len() < BUCKETS {
            sorted.extend(candidates);
            return sorted.sort_unstable();
        }
        let (least, best) = Kernels::get().range(&self.scores);
        let scale = (BUCKETS - 1) as f32 / (best - least);
        // If `scale` is NaN, all scores go to the first bucket.
        let bucket = |score: &f32| (((best - score) * scale) as u16).min(BUCKETS as u16 - 1);
        self.buckets.clear();
        self.buckets.extend(self.scores.iter().map(bucket));
        self.places.clear();
        self.places.resize(BUCKETS, 0);
        for bucket in &self.buckets {
            self.places[usize::from(*bucket)] += 1;
        }
        let mut before = 0;
        for place in &mut self.places {
            before += std::mem::replace(place, before);
        }
        sorted.resize(positions.len(), Candidate::new(0, 0.0));
        for (candidate, bucket) in candidates.zip(&self.buckets) {
            let place = &mut self.places[usize::from(*bucket)];
            sorted[*place as usize] = candidate;
            *place += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::tests::{ROWS, Sample};
    use super::*;
    use crate::node_set::NodeSet;

    #[test]
    fn blocks_are_made_ready_best_first_until_none_is_left() {
        for size in [1, 2, 8, 100] {
            let sample = Sample::in_regions_of(size);
            for (name, holds) in [
                ("all", (|_| true) as fn(u32) -> bool),
                ("some blocks", |node| node / 64 % 3 == 0),
                ("the last node", |node| node as usize == ROWS - 1),
                ("none", |_| false),
            ] {
                let mut matches = NodeSet::none(ROWS);
                (0..ROWS as u32).filter(|node| holds(*node)).for_each(|node| matches.insert(node));
                let with_members = (0..ROWS as u32).filter(|node| holds(*node)).map(|node| node / 64);
                let expected: BTreeSet<u32> = with_members.collect();
                let (mut work, mut selection) = (Bounds::default(), Selection::default());
                let (mut seen, mut stats) = (BTreeSet::new(), Cost::default());
                let mut times = 0;
                sample.with_blocks(|blocks| {
                    let queries = &[sample.query()][..];
                    let scanned = Scanned { blocks, queries, matches: Some(&matches) };
                    work.bound_regions(scanned, &mut stats);
                    while work.next(scanned, &mut selection, &mut stats) {
                        times += 1;
                        assert!(work.ready.is_sorted(), "{name}, {size}");
                        let best_other = Kernels::get().range(&work.region_bounds).1;
                        let least = work.ready.last().unwrap().score();
                        assert!(least >= best_other, "{name}, {size}: {least} before {best_other}");
                        let left = Kernels::get().range(&work.bounds).1;
                        assert!(left < best_other || left == DONE, "{name}, {size}: {left} not ready");
                        let blocks = work.ready.iter().map(|ready| work.bounded[ready.node() as usize]);
                        blocks.for_each(|block| assert!(seen.insert(block), "{block} twice"));
                    }
                });
                assert_eq!(seen, expected, "{name}, {size}");
                assert!(size > 1 || name != "all" || times > 1, "all at once");
            }
        }
    }

    #[test]
    fn buckets_have_all_that_are_taken_approximately_in_order() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let (mut buckets, mut sorted) = (Buckets::default(), Vec::new());
        for count in [0, 1, BUCKETS - 1, BUCKETS, 5 * BUCKETS] {
            for extreme in [None, Some(0.5), Some(f32::INFINITY), Some(f32::MAX), Some(-f32::MAX)] {
                // Every third score stays.
                let mut scores: Vec<f32> = (0..count + count / 2).map(|_| random.random()).collect();
                let positions: Vec<u32> = (0..scores.len() as u32).filter(|at| at % 3 != 1).collect();
                let range = 1.0f32.max(extreme.map_or(0.0, |extreme| extreme.abs() + 1.0));
                if let (Some(extreme), Some(last)) = (extreme, positions.last()) {
                    scores[*last as usize] = extreme;
                }
                let mut candidates: Vec<Candidate> =
                    positions.iter().map(|at| Candidate::new(*at, scores[*at as usize])).collect();
                let before = scores.clone();
                buckets.take(&positions, &mut scores, &mut sorted);
                let is_taken = |at: usize| if at % 3 == 1 { before[at] } else { DONE };
                assert!(scores.iter().enumerate().all(|(at, score)| *score == is_taken(at)), "{count}");
                let steps = sorted.windows(2).map(|pair| pair[1].score() - pair[0].score());
                let most = steps.fold(0.0, f32::max);
                assert!(
                    most <= 1.01 * range / (BUCKETS - 1) as f32,
                    "{most} of {range}, {count}, {extreme:?}"
                );
                sorted.sort_unstable();
                candidates.sort_unstable();
                assert_eq!(sorted, candidates, "{count}, {extreme:?}");
            }
        }
    }
}
