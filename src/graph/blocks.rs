//! A scan of the nodes of a set that looks only where good ones are likely.
//!
//! Nodes beside each other are near each other: blocks of them are known by their mean and how far they spread
//! around it, and so are regions, which are blocks beside each other. For a query, the scores of a block lie
//! around that of its mean, in proportion to the spread. The matching nodes of the best blocks are scored first,
//! until so few of the best came with the last doublings of what was scored that others would hardly bring any.
//!
//! Where the nodes of a set lie does not matter to it, nor how many there are: a traversal of the graph gets lost
//! where a filter has taken away the neighbourhood of the query.

use std::collections::VecDeque;

use super::beam::{BeamStats, Outcome, Scratch};
use super::candidates::{Candidate, keep_best};
use super::node_set::NodeSet;
use super::scorer::{Scan, Score};
use crate::kernel::WORD_BITS;
use crate::quantize::{BlockSummary, ROWS_PER_BLOCK};

/// Words of a set that hold the nodes of a block.
const WORDS_PER_BLOCK: usize = ROWS_PER_BLOCK / WORD_BITS;
/// Nodes that are scored at a time.
const BATCH: usize = 512;
/// Regions whose blocks are looked at first.
const FIRST_REGIONS: usize = 16;
/// Spreads above the score of its mean that the best of a block lie, about; in order of these bounds the best are
/// found soonest. Measured on users and on videos, among all nodes and among sets near the query and far from it.
const BLOCK_REACH: f32 = 3.5;
/// The same of a region, which has more nodes.
const REGION_REACH: f32 = 6.0;

/// The blocks of an index and the regions that are made of them.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    means: &'a [u8],
    spreads: &'a [f32],
    regions: &'a [u32],
}

impl<'a> Blocks<'a> {
    /// The fields of a [`BlockSummary`].
    pub fn new(means: &'a [u8], spreads: &'a [f32], regions: &'a [u32]) -> Self {
        Self { means, spreads, regions }
    }

    /// `[(blocks + regions) × stride]`: the codes of the means.
    pub fn means(&self) -> &'a [u8] {
        self.means
    }

    /// The blocks of a region; none where they do not fit.
    fn of_region(&self, region: usize, blocks: usize) -> std::ops::Range<usize> {
        let (first, end) = (self.regions[region] as usize, self.regions[region + 1] as usize);
        first.min(blocks)..end.clamp(first.min(blocks), blocks)
    }
}

/// What a scan of blocks is for.
#[derive(Clone, Copy, Debug)]
pub struct BlockScan {
    /// How many of the best are wanted.
    pub k: usize,
    /// How many are kept, to be scored again; at least k.
    pub keep: usize,
    /// The score that one unit of spread is worth: the norm of the query, in the units of the scorer.
    pub reach: f32,
    /// The share of the best k that may be missed.
    pub missed: f32,
}

/// The blocks that were come upon, those still to be scanned, and what the best scores were; kept and reused.
#[derive(Debug, Default)]
pub(super) struct BlockScratch {
    scores: Vec<f32>,
    regions: Vec<Candidate>,
    pending: Vec<Candidate>,
    ready: Vec<Candidate>,
    yields: Yields,
}

/// Leaves the best `keep` nodes of `matches` that it finds in `scratch.found`, in no particular order.
///
/// `means` scores the means of `blocks`, `nodes` the nodes, both in the same units. `keep_going` is asked once per
/// some hundred nodes.
pub fn scan_blocks(
    blocks: &Blocks<'_>,
    (means, nodes): (&impl Scan, &impl Score),
    matches: &NodeSet,
    scan: &BlockScan,
    scratch: &mut Scratch,
    mut keep_going: impl FnMut() -> bool,
) -> Outcome {
    let mut stats = BeamStats::default();
    let block_count = BlockSummary::blocks(matches.nodes());
    let Scratch { blocks: work, found, batch, batch_scores, selection, watched, has_scanned, .. } = scratch;
    let watched = watched.map(|node| node as usize / ROWS_PER_BLOCK);
    let BlockScratch { scores, regions, pending, ready, yields } = work;
    let bound = |score: f32, at: usize, spreads: f32| score + spreads * scan.reach * blocks.spreads[at];
    found.clear();
    pending.clear();
    batch.clear();
    regions.clear();
    yields.reset(scan);
    let region_count = blocks.regions.len().saturating_sub(1);
    scores.resize(region_count, 0.0);
    means.score_scan(block_count, scores);
    stats.distances += region_count as u64;
    for (region, score) in scores.iter().enumerate() {
        let blocks = blocks.of_region(region, block_count);
        if !is_empty(matches, &blocks) {
            regions.push(Candidate::new(region as u32, bound(*score, block_count + region, REGION_REACH)));
        }
    }
    regions.sort_unstable();
    let mut least = f32::NEG_INFINITY;
    let (mut opened, mut next_opened) = (0, FIRST_REGIONS);
    while opened < regions.len() {
        let some = next_opened.min(regions.len() - opened);
        for region in &regions[opened..opened + some] {
            let range = blocks.of_region(region.node() as usize, block_count);
            scores.resize(range.len(), 0.0);
            means.score_scan(range.start, scores);
            stats.distances += range.len() as u64;
            for (block, score) in range.zip(scores.iter()) {
                if !is_empty(matches, &(block..block + 1)) {
                    pending.push(Candidate::new(block as u32, bound(*score, block, BLOCK_REACH)));
                }
            }
        }
        opened += some;
        next_opened += next_opened / 2;
        // What no block of the other regions is likely to come before.
        let frontier = regions.get(opened).map_or(f32::NEG_INFINITY, Candidate::score);
        ready.clear();
        ready.extend(pending.extract_if(.., |block| block.score() >= frontier));
        ready.sort_unstable();
        let mut rest = ready.iter();
        loop {
            while batch.len() < BATCH
                && let Some(block) = rest.next()
            {
                *has_scanned |= watched == Some(block.node() as usize);
                push_nodes(matches, block.node() as usize, batch);
            }
            if batch.is_empty() {
                break;
            }
            batch_scores.resize(batch.len(), 0.0);
            nodes.score_rows(batch, batch_scores);
            stats.hops += 1;
            stats.distances += batch.len() as u64;
            yields.scored += batch.len();
            let chosen = selection.at_least(batch_scores, least);
            found.extend(
                chosen.iter().map(|at| Candidate::new(batch[*at as usize], batch_scores[*at as usize])),
            );
            batch.clear();
            if found.len() >= 2 * scan.keep || yields.is_due() && found.len() >= scan.keep {
                keep_best(found, scan.keep);
                least = found.last().map_or(least, Candidate::score);
                if yields.is_due() && yields.are_done(found) {
                    return Outcome::done(stats);
                }
            }
            if !keep_going() {
                return Outcome::interrupted(stats);
            }
        }
    }
    keep_best(found, scan.keep);
    Outcome::done(stats)
}

fn words<'a>(matches: &'a NodeSet, blocks: &std::ops::Range<usize>) -> &'a [u32] {
    let words = matches.words();
    let end = (blocks.end * WORDS_PER_BLOCK).min(words.len());
    &words[(blocks.start * WORDS_PER_BLOCK).min(end)..end]
}

fn is_empty(matches: &NodeSet, blocks: &std::ops::Range<usize>) -> bool {
    words(matches, blocks).iter().fold(0, |any, word| any | word) == 0
}

fn push_nodes(matches: &NodeSet, block: usize, batch: &mut Vec<u32>) {
    let first = block * ROWS_PER_BLOCK;
    for (at, word) in words(matches, &(block..block + 1)).iter().enumerate() {
        let mut rest = *word;
        while rest != 0 {
            batch.push((first + at * WORD_BITS) as u32 + rest.trailing_zeros());
            rest &= rest - 1;
        }
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
        self.due = (2 * scan.keep).max(BATCH);
        self.looks.clear();
    }

    fn is_due(&self) -> bool {
        self.scored >= self.due
    }

    /// `best`: at least k.
    fn are_done(&mut self, best: &mut [Candidate]) -> bool {
        self.due = (self.scored as f32 * GROWTH) as usize;
        best.select_nth_unstable(self.k - 1);
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
        look.extend(best[..self.k].iter().map(Candidate::score));
        self.looks.push_back(look);
        is_done
    }
}

fn is_full(looks: &VecDeque<Vec<f32>>) -> bool {
    looks.len() == 2 * LOOKS_PER_DOUBLING
}
