//! A scan of the nodes of a set that looks only where good ones are likely.
//!
//! Nodes beside each other are near each other: blocks of them are known by their mean and how far they spread
//! around it, and regions of blocks by the same of these means. For a query, the scores of a block lie around that of
//! its mean, in proportion to the spread: the best blocks are scanned first, until so few of the best nodes came with
//! the last doublings of what was scored that others would hardly bring any.
//!
//! ```text
//! means of regions   8-bit codes, all of them          a bound of the best node of every region
//! means of blocks    8-bit codes, best bound first     a bound of the best node of the block
//! nodes of a block   residual codes, best bound first  an estimate of every node
//! nodes              8-bit codes, best estimates
//! ```
//!
//! Where the nodes of a set lie does not matter to it, nor how many there are: a traversal of the graph gets lost
//! where a filter has taken away the neighbourhood of the query.

use std::collections::VecDeque;

use super::beam::{BeamStats, Outcome, Scratch, chosen};
use super::candidates::{Candidate, keep_best};
use super::node_set::NodeSet;
use super::scorer::{CodeScorer, Scan, Score};
use super::selection::Selection;
use crate::kernel::{Kernels, WORD_BITS, prefetch};
use crate::quantize::{BlockSummary, ROWS_PER_BLOCK, ResidualCodes, ResidualTable};

/// Words of a set that hold the nodes of a block.
const WORDS_PER_BLOCK: usize = ROWS_PER_BLOCK / WORD_BITS;
/// Regions whose blocks are bounded first; then half as many again, and so on.
const FIRST_REGIONS: usize = 32;
/// Blocks scanned between two looks at what came of it.
const BLOCKS_AT_ONCE: usize = 8;
/// Blocks that are on their way while one is scanned.
const AHEAD: usize = 4;
/// So few nodes of a block are scored by their 8-bit codes at once: the residual codes of it are more bytes.
const SPARSE: u32 = 12;
/// Deviations above the score of its mean that the best of a block lie, about; in order of these bounds the best are
/// found soonest. Measured on users and on videos, among all nodes and among sets near the query and far from it.
const BLOCK_REACH: f32 = 2.5;
/// Deviations above the score of its mean that the means of the blocks of a region lie, mostly: one that is worth a scan
/// and lies higher comes later than its bound says.
const REGION_REACH: f32 = 1.0;
/// Less than any bound of what is looked at.
const DONE: f32 = f32::NEG_INFINITY;
/// Nodes are scored again by 8-bit codes that are estimated so many standard deviations of what estimates are off by
/// below the k-th best, where this share of the best may be missed or more; one more for every time that it is a quarter
/// of that, but not more than so many.
const ERRORS_BELOW: f32 = 2.0;
const MISSED: f32 = 0.013;
const MAX_ERRORS_BELOW: f32 = 6.0;
/// However many they are: so many for each that is kept.
const MAX_ESTIMATED: usize = 64;

/// The blocks of an index and the regions that are made of them: the fields of a [`BlockSummary`], and what can be told
/// from them.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    /// How many nodes there are.
    pub rows: usize,
    /// `[regions + 1]`.
    pub regions: &'a [u32],
    /// `[(blocks + regions) × stride]`.
    pub means: &'a [u8],
    /// `[blocks + regions]`.
    pub spreads: &'a [f32],
    /// `[regions]`: as [`BlockSummary::largest_spreads`] has them.
    pub largest_spreads: &'a [f32],
    /// What the residual codes stand for.
    pub codes: ResidualCodes<'a>,
    /// `[blocks × residual block]`.
    pub row_residuals: &'a [u8],
}

impl Blocks<'_> {
    fn len(&self) -> usize {
        BlockSummary::blocks(self.rows)
    }

    /// The blocks of a region; none where they do not fit.
    fn of_region(&self, region: usize) -> std::ops::Range<usize> {
        let (first, end) = (self.regions[region] as usize, self.regions[region + 1] as usize);
        first.min(self.len())..end.clamp(first.min(self.len()), self.len())
    }

    fn residuals(&self, block: usize) -> &[u8] {
        let bytes = self.row_residuals.len() / self.len();
        &self.row_residuals[block * bytes..(block + 1) * bytes]
    }

    /// Appends to `list` the blocks of a region that have members.
    fn list_with_members(&self, region: usize, matches: Option<&NodeSet>, list: &mut Vec<u32>) {
        let range = self.of_region(region);
        let words = matches.map_or(&[][..], |matches| matches.words().as_chunks::<WORDS_PER_BLOCK>().0);
        let whole = words.len().clamp(range.start, range.end);
        let (first, mut count) = (list.len(), 0);
        list.resize(first + whole - range.start, 0);
        // Whether one has members is hard to guess: it is written down either way.
        for (block, words) in (range.start..whole).zip(words.get(range.start..whole).unwrap_or_default()) {
            list[first + count] = block as u32;
            count += usize::from(words[0] | words[1] != 0);
        }
        list.truncate(first + count);
        let rest = (whole..range.end).filter(|block| self.members(*block, matches) != 0);
        list.extend(rest.map(|block| block as u32));
    }

    /// Which rows of a block are in a set; all that there are without one.
    fn members(&self, block: usize, matches: Option<&NodeSet>) -> u64 {
        let first = block * WORDS_PER_BLOCK;
        match matches {
            Some(matches) => {
                let word = |at: usize| matches.words().get(first + at).map_or(0, |word| u64::from(*word));
                word(0) | word(1) << WORD_BITS
            }
            None => u64::MAX >> (ROWS_PER_BLOCK - (self.rows - block * ROWS_PER_BLOCK).min(ROWS_PER_BLOCK)),
        }
    }
}

/// One of the queries of a scan of blocks: what it makes of means and residuals, in the units of the scan.
#[derive(Clone, Copy, Debug)]
pub struct BlockQuery<'a> {
    /// Scores the means: `offset + scale · score`.
    pub means: CodeScorer<'a>,
    /// In units of the scan.
    pub offset: f32,
    /// Units of the scan per unit of [`Self::means`].
    pub scale: f32,
    /// In units of the scan.
    pub residuals: &'a ResidualTable,
}

/// What a scan of blocks is for.
#[derive(Clone, Copy, Debug)]
pub struct BlockScan {
    /// How many of the best are wanted.
    pub k: usize,
    /// How many are kept, to be scored again; at least k.
    pub keep: usize,
    /// The share of the best k that may be missed.
    pub missed: f32,
}

impl BlockScan {
    /// How far below the k-th best estimate nodes are worth another look, in errors of estimates.
    fn errors_below(&self) -> f32 {
        let more = (MISSED / self.missed).max(1.0).log(4.0);
        (ERRORS_BELOW + more).min(MAX_ERRORS_BELOW)
    }
}

/// A block of so many members that its residual codes are read.
#[derive(Clone, Copy, Debug)]
struct Dense {
    block: usize,
    /// Its place among the bounded ones.
    at: usize,
    /// A bit per row.
    members: u64,
}

/// What a scan looks at.
#[derive(Clone, Copy)]
struct Scanned<'a> {
    blocks: &'a Blocks<'a>,
    queries: &'a [BlockQuery<'a>],
    matches: Option<&'a NodeSet>,
}

/// What is known of blocks before they are scanned, and what the best scores were; kept and reused.
#[derive(Debug, Default)]
pub(super) struct BlockScratch {
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
    centres: Vec<f32>,
    /// What the best node of each may score, and [`DONE`] of those that were made ready.
    bounds: Vec<f32>,
    /// Their places among the bounded ones, with their bounds, about best first.
    ready: Vec<Candidate>,
    drawers: Drawers,
    dense: Vec<Dense>,
    yields: Yields,
}

/// Leaves the best `keep` nodes of `matches` that it finds in `scratch.found`, in no particular order.
///
/// A node scores what it scores for the one of `queries` that it fits best; `nodes` scores it so. `keep_going` is
/// asked once per some hundred nodes.
pub fn scan_blocks(
    blocks: &Blocks<'_>,
    (queries, nodes): (&[BlockQuery<'_>], &impl Score),
    matches: Option<&NodeSet>,
    scan: &BlockScan,
    scratch: &mut Scratch,
    mut keep_going: impl FnMut() -> bool,
) -> Outcome {
    let mut stats = BeamStats::default();
    let is_interrupted =
        scan_estimates(blocks, (queries, nodes), matches, scan, scratch, &mut stats, &mut keep_going);
    scratch.rescore(nodes, &mut stats);
    keep_best(&mut scratch.found, scan.keep);
    Outcome { stats, is_interrupted }
}

/// The same by estimates, of which more are left; says whether it was told to stop.
fn scan_estimates(
    blocks: &Blocks<'_>,
    (queries, nodes): (&[BlockQuery<'_>], &impl Score),
    matches: Option<&NodeSet>,
    scan: &BlockScan,
    scratch: &mut Scratch,
    stats: &mut BeamStats,
    keep_going: &mut impl FnMut() -> bool,
) -> bool {
    let Scratch { blocks: work, found, batch, batch_scores, selection, watched, has_scanned, .. } = scratch;
    let watched = watched.map(|node| node as usize / ROWS_PER_BLOCK);
    let scanned = Scanned { blocks, queries, matches };
    work.bound_regions(scanned, stats);
    work.yields.reset(scan);
    found.clear();
    let mut least = f32::NEG_INFINITY;
    let most = (MAX_ESTIMATED * scan.keep).max(scan.k);
    let (mut slack, mut crowd) = (None, most);
    let mut estimates = [0.0; ROWS_PER_BLOCK];
    while work.next(scanned, selection, stats) {
        let BlockScratch { bounded, ready, dense, centres, yields, .. } = &mut *work;
        let number = |ready: &Candidate| bounded[ready.node() as usize] as usize;
        let slack = *slack.get_or_insert_with(|| {
            let spreads: f32 = ready.iter().map(|block| blocks.spreads[number(block)]).sum();
            let error = queries.iter().map(|query| query.residuals.error()).fold(0.0, f32::max);
            let slack = scan.errors_below() * error * spreads / ready.len() as f32;
            // In a damaged file a spread may be anything.
            if slack.is_finite() { slack.max(0.0) } else { 0.0 }
        });
        for some in ready.chunks(BLOCKS_AT_ONCE) {
            batch.clear();
            stats.hops += 1;
            dense.clear();
            for ready in some {
                let block = number(ready);
                let members = blocks.members(block, matches);
                *has_scanned |= watched == Some(block);
                yields.scored += members.count_ones() as usize;
                if members.count_ones() <= SPARSE {
                    push_members(members, block, batch);
                } else {
                    dense.push(Dense { block, at: ready.node() as usize, members });
                }
            }
            let fetch = |dense: &Dense| prefetch(blocks.residuals(dense.block));
            dense.iter().take(AHEAD).for_each(fetch);
            for (next, Dense { block, at, members }) in dense.iter().enumerate() {
                dense.get(next + AHEAD).into_iter().for_each(fetch);
                let centres = &centres[at * queries.len()..(at + 1) * queries.len()];
                let mut likely = members & estimate(blocks, *block, queries, centres, least, &mut estimates);
                stats.distances += ROWS_PER_BLOCK as u64;
                while likely != 0 {
                    let row = likely.trailing_zeros();
                    let node = (block * ROWS_PER_BLOCK) as u32 + row;
                    found.push(Candidate::new(node, estimates[row as usize]));
                    likely &= likely - 1;
                }
            }
            batch_scores.resize(batch.len(), 0.0);
            nodes.score_rows(batch, batch_scores);
            stats.distances += batch.len() as u64;
            found.extend(chosen(selection.at_least(batch_scores, least), batch, batch_scores));
            let is_due = yields.is_due() && found.len() >= scan.k;
            if is_due || found.len() >= crowd {
                keep_best(found, most);
                found.select_nth_unstable(scan.k - 1);
                least = found[scan.k - 1].score() - slack;
                found.retain(|candidate| candidate.score() >= least);
                crowd = 2 * found.len() + most;
                if is_due && yields.are_done(&found[..scan.k]) {
                    return false;
                }
            }
            if !keep_going() {
                return true;
            }
        }
    }
    false
}

/// The scores of the rows of a block, given those of its mean for each query, and which of them are `least` or more.
#[inline]
fn estimate(
    blocks: &Blocks<'_>,
    block: usize,
    queries: &[BlockQuery<'_>],
    centres: &[f32],
    least: f32,
    estimates: &mut [f32; ROWS_PER_BLOCK],
) -> u64 {
    let (residuals, spread) = (blocks.residuals(block), blocks.spreads[block]);
    let mut reached = 0;
    for (at, (query, centre)) in queries.iter().zip(centres).enumerate() {
        let around = (*centre, spread);
        if at == 0 {
            reached = query.residuals.score(residuals, around, least, estimates);
            continue;
        }
        let mut others = [0.0; ROWS_PER_BLOCK];
        reached |= query.residuals.score(residuals, around, least, &mut others);
        for (best, other) in estimates.iter_mut().zip(others) {
            *best = if other > *best { other } else { *best };
        }
    }
    reached
}

impl BlockScratch {
    /// Bounds what the best node of each region may score.
    fn bound_regions(&mut self, Scanned { blocks, queries, .. }: Scanned<'_>, stats: &mut BeamStats) {
        let Self { scores, region_bounds, lowest, done, bounded, centres, bounds, .. } = self;
        *done = 0;
        bounded.clear();
        centres.clear();
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
    fn next(&mut self, scanned: Scanned<'_>, selection: &mut Selection, stats: &mut BeamStats) -> bool {
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
            let best = selection.at_least(bounds, best_other).iter();
            drawers.sort(
                best.map(|at| Candidate::new(*at, std::mem::replace(&mut bounds[*at as usize], DONE))),
                ready,
            );
        }
        true
    }

    /// Bounds what the best node of each block of the next regions may score.
    fn bound_blocks(&mut self, Scanned { blocks, queries, matches }: Scanned<'_>, stats: &mut BeamStats) {
        let Self { scores, region_bounds, done, regions, bounded, centres, bounds, .. } = self;
        let first = bounded.len();
        for region in &*regions {
            region_bounds[*region as usize] = DONE;
            blocks.list_with_members(*region as usize, matches, bounded);
        }
        *done += regions.len();
        centres.resize(bounded.len() * queries.len(), 0.0);
        bounds.resize(bounded.len(), DONE);
        let new = &bounded[first..];
        scores.resize(new.len(), 0.0);
        for (at, query) in queries.iter().enumerate() {
            query.means.score_rows(new, scores);
            stats.distances += new.len() as u64;
            let reach = BLOCK_REACH * query.residuals.deviation();
            let centres = centres[first * queries.len()..].chunks_exact_mut(queries.len());
            let known = centres.zip(&mut bounds[first..]);
            for ((block, score), (centres, bound)) in new.iter().zip(&*scores).zip(known) {
                centres[at] = query.offset + query.scale * score;
                let of_query = centres[at] + reach * blocks.spreads[*block as usize];
                *bound = if of_query > *bound { of_query } else { *bound };
            }
        }
    }
}

/// Sorts about: scores that differ by less than a thousandth of their range are in no order, which takes a third of the
/// time where there are thousands. Kept and reused.
#[derive(Debug, Default)]
struct Drawers {
    unsorted: Vec<Candidate>,
    /// Of each drawer, where its candidates go.
    places: Vec<u32>,
}

const DRAWERS: usize = 1024;

impl Drawers {
    /// Puts `candidates` into `sorted`, the best about first.
    fn sort(&mut self, candidates: impl Iterator<Item = Candidate>, sorted: &mut Vec<Candidate>) {
        sorted.clear();
        sorted.extend(candidates);
        if sorted.len() < DRAWERS {
            return sorted.sort_unstable();
        }
        let Self { unsorted, places } = self;
        std::mem::swap(unsorted, sorted);
        let scores = unsorted.iter().map(Candidate::score);
        let (least, best) =
            scores.fold((f32::MAX, f32::MIN), |(least, best), score| (least.min(score), best.max(score)));
        let scale = (DRAWERS - 1) as f32 / (best - least);
        // Where that is no number, all are in the first one.
        let drawer = |candidate: &Candidate| (((best - candidate.score()) * scale) as usize).min(DRAWERS - 1);
        places.clear();
        places.resize(DRAWERS, 0);
        unsorted.iter().for_each(|candidate| places[drawer(candidate)] += 1);
        let mut before = 0;
        for place in &mut *places {
            before += std::mem::replace(place, before);
        }
        sorted.resize(unsorted.len(), Candidate::new(0, 0.0));
        for candidate in &*unsorted {
            let place = &mut places[drawer(candidate)];
            sorted[*place as usize] = *candidate;
            *place += 1;
        }
    }
}

fn push_members(mut members: u64, block: usize, batch: &mut Vec<u32>) {
    while members != 0 {
        batch.push((block * ROWS_PER_BLOCK) as u32 + members.trailing_zeros());
        members &= members - 1;
    }
}

/// Looks now and then how many of the best were found when a half, and a quarter, of what was scored had been: what
/// the next doublings would bring goes on as those went.
#[derive(Debug, Default)]
struct Yields {
    k: usize,
    missed: f32,
    scored: usize,
    due: usize,
    /// The scores of the best k at the last looks, the latest last.
    looks: VecDeque<Vec<f32>>,
}

/// Nodes scored before the first look.
const FIRST_SCORED: usize = 512;
/// Looks per doubling of what was scored.
const LOOKS_PER_DOUBLING: usize = 2;
/// What grows so much from look to look doubles that often, nearly.
const GROWTH: f32 = 1.414;
/// A doubling brings a share of the best that the doubling before brought: half, as far as is known before they are
/// counted, which is worth as much as so many that were.
const PRIOR: f32 = 4.0;
/// However slowly it goes down: where nothing gets better any more, all of the rest would have to be scored.
const MAX_DECAY: f32 = 0.65;

impl Yields {
    fn reset(&mut self, scan: &BlockScan) {
        self.k = scan.k;
        self.missed = scan.missed;
        self.scored = 0;
        self.due = (2 * scan.keep).max(FIRST_SCORED);
        self.looks.clear();
    }

    fn is_due(&self) -> bool {
        self.scored >= self.due
    }

    /// `best`: the best k so far, the worst of them at the end.
    fn are_done(&mut self, best: &[Candidate]) -> bool {
        self.due = (self.scored as f32 * GROWTH) as usize;
        let least = best[self.k - 1].score();
        let known_at = |look: &Vec<f32>| look.iter().filter(|score| **score >= least).count();
        let mut is_done = false;
        if is_full(&self.looks) {
            let (quarter, half) = (known_at(&self.looks[0]), known_at(&self.looks[LOOKS_PER_DOUBLING]));
            let last = self.k.saturating_sub(half) as f32;
            let before = half.saturating_sub(quarter) as f32;
            let decay = ((last + PRIOR / 2.0) / (before + PRIOR)).min(MAX_DECAY);
            is_done = last * decay / (1.0 - decay) <= self.missed * self.k as f32;
        }
        let mut look =
            if is_full(&self.looks) { self.looks.pop_front().unwrap_or_default() } else { Vec::new() };
        look.clear();
        look.extend(best.iter().map(Candidate::score));
        self.looks.push_back(look);
        is_done
    }
}

fn is_full(looks: &VecDeque<Vec<f32>>) -> bool {
    looks.len() == 2 * LOOKS_PER_DOUBLING
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::graph::scan_matching;
    use crate::quantize::{FittedAxes, QueryCodes, Sq8};

    const DIM: usize = 32;
    const ROWS: usize = 5_000;

    fn codes_of(summary: &BlockSummary) -> ResidualCodes<'_> {
        let BlockSummary { axes, deviations, widths, .. } = summary;
        ResidualCodes { axes: axes.as_ref().map(FittedAxes::view), deviations, widths }
    }

    /// Rows of ten clusters, one after another, in blocks; what a scan of a set of them finds.
    struct Sample {
        summary: BlockSummary,
        codes: Vec<u8>,
        query_codes: QueryCodes,
        residuals: ResidualTable,
    }

    impl Sample {
        fn new() -> Self {
            Self::in_regions_of(8)
        }

        /// Of so many blocks.
        fn in_regions_of(size: usize) -> Self {
            let mut random = ChaCha8Rng::seed_from_u64(5);
            let mut row = |centre: usize| -> Vec<f32> {
                let at = |dim: usize| if dim == centre % DIM { 2.0 } else { 0.0 };
                (0..DIM).map(|dim| at(dim) + random.random_range(-0.5f32..0.5)).collect()
            };
            let vectors: Vec<f32> = (0..ROWS).flat_map(|at| row(at * 10 / ROWS)).collect();
            let query = row(3);
            let quantizer = Sq8::train(&vectors, DIM);
            let blocks = BlockSummary::blocks(ROWS) as u32;
            let regions = (0..blocks).step_by(size).chain([blocks]).collect();
            let summary = BlockSummary::of(&vectors, DIM, &quantizer, regions, None);
            let (mut query_codes, mut residuals) = (QueryCodes::default(), ResidualTable::default());
            quantizer.encode_query(&query, &mut query_codes);
            residuals.fill(&query, &codes_of(&summary), 1.0 / query_codes.affine()[0].scale);
            Self { codes: quantizer.encode_all(&vectors), summary, query_codes, residuals }
        }

        fn scan(
            &self,
            matches: Option<&NodeSet>,
            keep: usize,
            missed: f32,
            scratch: &mut Scratch,
        ) -> Vec<u32> {
            let scorer = |rows| CodeScorer::new(self.query_codes.as_slice(), rows);
            let scan = BlockScan { k: (keep * 2 / 3).max(1), keep, missed };
            let queries = (&[self.query()][..], &scorer(&self.codes));
            self.with_blocks(|blocks| scan_blocks(blocks, queries, matches, &scan, scratch, || true));
            scratch.found.sort_unstable();
            scratch.found.iter().map(Candidate::node).collect()
        }

        fn query(&self) -> BlockQuery<'_> {
            let means = CodeScorer::new(self.query_codes.as_slice(), &self.summary.means);
            BlockQuery { means, offset: 0.0, scale: 1.0, residuals: &self.residuals }
        }

        fn with_blocks<R>(&self, look_at: impl FnOnce(&Blocks<'_>) -> R) -> R {
            let BlockSummary { regions, means, spreads, row_residuals, .. } = &self.summary;
            let largest_spreads = &BlockSummary::largest_spreads(regions, spreads)[..];
            look_at(&Blocks {
                rows: ROWS,
                regions,
                means,
                spreads,
                largest_spreads,
                codes: codes_of(&self.summary),
                row_residuals,
            })
        }
    }

    #[test]
    fn the_best_of_a_set_are_found_wherever_it_lies() {
        let (sample, mut scratch) = (Sample::new(), Scratch::default());
        let sets: [fn(u32) -> bool; 5] =
            [|_| true, |node| node % 7 == 0, |node| node < 1_000, |node| node >= 4_000, |node| node == 4_999];
        for (number, holds) in sets.into_iter().enumerate() {
            let mut matches = NodeSet::none(ROWS);
            (0..ROWS as u32).filter(|node| holds(*node)).for_each(|node| matches.insert(node));
            let codes = CodeScorer::new(sample.query_codes.as_slice(), &sample.codes);
            scan_matching(&codes, &matches, 30, &mut scratch, || true);
            let expected: Vec<u32> = scratch.found.iter().map(Candidate::node).collect();
            let found = sample.scan((number > 0).then_some(&matches), 45, 0.0, &mut scratch);
            let hits = expected.iter().filter(|node| found.contains(node)).count();
            assert!(found.iter().all(|node| matches.contains(*node)), "set {number}: {found:?}");
            assert!(hits * 100 >= 95 * expected.len(), "set {number}: {hits} of {}", expected.len());
        }
    }

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
                let (mut work, mut selection) = (BlockScratch::default(), Selection::default());
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
    fn drawers_have_all_candidates_about_in_order() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let (mut drawers, mut sorted) = (Drawers::default(), Vec::new());
        for count in [0, 1, DRAWERS - 1, DRAWERS, 5 * DRAWERS] {
            for extreme in [None, Some(0.5), Some(f32::INFINITY), Some(f32::MAX), Some(-f32::MAX)] {
                let mut candidates: Vec<Candidate> =
                    (0..count).map(|at| Candidate::new(at as u32, random.random())).collect();
                let range = 1.0f32.max(extreme.map_or(0.0, |extreme| extreme.abs() + 1.0));
                if let (Some(extreme), Some(last)) = (extreme, candidates.last_mut()) {
                    *last = Candidate::new(count as u32, extreme);
                }
                drawers.sort(candidates.iter().copied(), &mut sorted);
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

    #[test]
    fn damaged_blocks_bring_no_scan_down() {
        let half = {
            let mut half = NodeSet::none(ROWS);
            (0..ROWS as u32).step_by(2).for_each(|node| half.insert(node));
            half
        };
        let mut scratch = Scratch::default();
        for damage in [f32::NAN, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0.0] {
            for every in [1, 3] {
                let mut sample = Sample::new();
                sample.summary.spreads.iter_mut().step_by(every).for_each(|spread| *spread = damage);
                for matches in [None, Some(&half), Some(&NodeSet::none(ROWS))] {
                    for keep in [0, 1, 100] {
                        assert!(sample.scan(matches, keep, 0.05, &mut scratch).len() <= keep);
                    }
                }
                sample.summary.regions.fill(7);
                sample.scan(Some(&NodeSet::none(ROWS)), 0, 0.05, &mut scratch);
                sample.scan(None, 100, 0.05, &mut scratch);
                // Nothing is found twice where they overlap.
                for regions in [[0, 50, 3, 60], [9, 9, 90, 5], [3, u32::MAX, 0, 79]] {
                    sample.summary.regions[..4].copy_from_slice(&regions);
                    let found = sample.scan(None, 100, 0.05, &mut scratch);
                    assert_eq!(BTreeSet::from_iter(&found).len(), found.len(), "{regions:?}");
                }
            }
        }
    }
}
