//! Which blocks come next: those whose best node may score most.
//!
//! All regions are bounded, and the blocks of the best of them; those that no block of another region comes before are
//! ready to be scanned.

use super::super::beam::BeamStats;
use super::super::candidates::Candidate;
use super::super::scorer::{Scan, Score};
use super::super::selection::Selection;
use super::Scanned;
use crate::kernel::Kernels;

/// Regions whose blocks are bounded first; then half as many again, and so on.
const FIRST_REGIONS: usize = 32;
/// Deviations above the score of its mean that the best of a block lie, about; in order of these bounds the best are
/// found soonest. Measured on users and on videos, among all nodes and among sets near the query and far from it.
const BLOCK_REACH: f32 = 2.5;
/// Deviations above the score of its mean that the means of the blocks of a region lie, mostly: one that is worth a scan
/// and lies higher comes later than its bound says.
const REGION_REACH: f32 = 1.0;
/// Less than any bound of what is looked at.
const DONE: f32 = f32::NEG_INFINITY;

/// What is known of blocks before they are scanned; kept and reused.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    scores: Vec<f32>,
    /// What the best node of each region may score, and [`DONE`] of those whose blocks are bounded. The least of them
    /// all, and how many are done.
    region_bounds: Vec<f32>,
    lowest: f32,
    done: usize,
    /// The regions whose blocks are bounded together.
    regions: Vec<u32>,
    /// The blocks that are bounded, as far as they have members.
    bounded: Vec<u32>,
    /// `[bounded × queries]`: what their means score, in units of the scan.
    centers: Vec<f32>,
    /// What the best node of each may score, and [`DONE`] of those that were made ready.
    bounds: Vec<f32>,
    /// Their places among the bounded ones, with their bounds, about best first.
    ready: Vec<Candidate>,
    drawers: Drawers,
}

impl Bounds {
    /// Bounds what the best node of each region may score: where a scan begins.
    pub(super) fn bound_regions(
        &mut self,
        Scanned { blocks, queries, .. }: Scanned<'_>,
        stats: &mut BeamStats,
    ) {
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
            stats.distances += scores.len() as u64;
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

    /// Makes ready, about in order, the best blocks of those that were not yet; says whether there are any.
    pub(super) fn next(
        &mut self,
        scanned: Scanned<'_>,
        selection: &mut Selection,
        stats: &mut BeamStats,
    ) -> bool {
        self.ready.clear();
        while self.ready.is_empty() {
            let more = (self.done / 2).max(FIRST_REGIONS);
            self.regions.clear();
            self.regions.extend_from_slice(selection.promising(&self.region_bounds, more, self.lowest));
            if self.regions.is_empty() {
                return false;
            }
            self.bound_blocks(scanned, stats);
            let Self { region_bounds, bounds, ready, drawers, .. } = self;
            let best_other = Kernels::get().range(region_bounds).1.max(f32::MIN);
            drawers.take(selection.at_least(bounds, best_other), bounds, ready);
        }
        true
    }

    /// Those that the last [`Bounds::next`] made ready, about best first: their places, with what their best nodes may
    /// score.
    pub(super) fn ready(&self) -> &[Candidate] {
        &self.ready
    }

    /// The block at a place.
    #[inline]
    pub(super) fn block(&self, place: u32) -> usize {
        self.bounded[place as usize] as usize
    }

    /// What the mean of the block at a place scores for each query, in units of the scan.
    #[inline]
    pub(super) fn centers(&self, place: u32, queries: usize) -> &[f32] {
        let first = place as usize * queries;
        &self.centers[first..first + queries]
    }

    /// Bounds what the best node of each block of the next regions may score.
    fn bound_blocks(&mut self, Scanned { blocks, queries, matches }: Scanned<'_>, stats: &mut BeamStats) {
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
            stats.distances += new.len() as u64;
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

/// Sorts about: scores that differ by less than a thousandth of their range are in no order, which takes a third of the
/// time where there are thousands. Kept and reused.
#[derive(Debug, Default)]
struct Drawers {
    /// The scores, each of which goes into a drawer.
    scores: Vec<f32>,
    drawers: Vec<u16>,
    /// Of each drawer, where its candidates go.
    places: Vec<u32>,
}

const DRAWERS: usize = 1024;

impl Drawers {
    /// Puts some of `scores` into `sorted`, the best about first, and [`DONE`] in their places.
    fn take(&mut self, positions: &[u32], scores: &mut [f32], sorted: &mut Vec<Candidate>) {
        let taken = positions.iter().map(|at| std::mem::replace(&mut scores[*at as usize], DONE));
        self.scores.clear();
        self.scores.extend(taken);
        let candidates = positions.iter().zip(&self.scores).map(|(at, score)| Candidate::new(*at, *score));
        sorted.clear();
        if positions.len() < DRAWERS {
            sorted.extend(candidates);
            return sorted.sort_unstable();
        }
        let (least, best) = Kernels::get().range(&self.scores);
        let scale = (DRAWERS - 1) as f32 / (best - least);
        // Where that is no number, all are in the first one.
        let drawer = |score: &f32| (((best - score) * scale) as u16).min(DRAWERS as u16 - 1);
        self.drawers.clear();
        self.drawers.extend(self.scores.iter().map(drawer));
        self.places.clear();
        self.places.resize(DRAWERS, 0);
        for drawer in &self.drawers {
            self.places[usize::from(*drawer)] += 1;
        }
        let mut before = 0;
        for place in &mut self.places {
            before += std::mem::replace(place, before);
        }
        sorted.resize(positions.len(), Candidate::new(0, 0.0));
        for (candidate, drawer) in candidates.zip(&self.drawers) {
            let place = &mut self.places[usize::from(*drawer)];
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
                let (mut seen, mut stats) = (BTreeSet::new(), BeamStats::default());
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
    fn drawers_have_all_that_are_taken_about_in_order() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let (mut drawers, mut sorted) = (Drawers::default(), Vec::new());
        for count in [0, 1, DRAWERS - 1, DRAWERS, 5 * DRAWERS] {
            for extreme in [None, Some(0.5), Some(f32::INFINITY), Some(f32::MAX), Some(-f32::MAX)] {
                // Every third is left where it is.
                let mut scores: Vec<f32> = (0..count + count / 2).map(|_| random.random()).collect();
                let positions: Vec<u32> = (0..scores.len() as u32).filter(|at| at % 3 != 1).collect();
                let range = 1.0f32.max(extreme.map_or(0.0, |extreme| extreme.abs() + 1.0));
                if let (Some(extreme), Some(last)) = (extreme, positions.last()) {
                    scores[*last as usize] = extreme;
                }
                let mut candidates: Vec<Candidate> =
                    positions.iter().map(|at| Candidate::new(*at, scores[*at as usize])).collect();
                let before = scores.clone();
                drawers.take(&positions, &mut scores, &mut sorted);
                let is_taken = |at: usize| if at % 3 == 1 { before[at] } else { DONE };
                assert!(scores.iter().enumerate().all(|(at, score)| *score == is_taken(at)), "{count}");
                let steps = sorted.windows(2).map(|pair| pair[1].score() - pair[0].score());
                let most = steps.fold(0.0, f32::max);
                assert!(
                    most <= 1.01 * range / (DRAWERS - 1) as f32,
                    "{most} of {range}, {count}, {extreme:?}"
                );
                sorted.sort_unstable();
                candidates.sort_unstable();
                assert_eq!(sorted, candidates, "{count}, {extreme:?}");
            }
        }
    }
}
