//! The scan: estimates of the nodes of the best blocks, then 8-bit scores of the best estimates.

use super::super::candidates::{Candidate, drop_worse, keep_best};
use super::super::cost::Cost;
use super::super::scorer::Score;
use super::super::scratch::{Scratch, chosen};
use super::bounds::Bounds;
use super::summary::{BlockQuery, Blocks, Scanned};
use super::yields::Yields;
use crate::base::interrupt::Interrupt;
use crate::kernel::prefetch;
use crate::node_set::NodeSet;
use crate::quantize::ROWS_PER_BLOCK;

/// Blocks scanned between two checks of whether to go on.
const BLOCKS_AT_ONCE: usize = 8;
/// Nodes outside of the blocks that are scored between two checks of the interrupt.
const OUTSIDE_AT_ONCE: usize = 1024;
/// Blocks that are prefetched while one is scanned.
const AHEAD: usize = 4;
/// Nodes scored before the first check of what the last doublings brought.
const FIRST_SCORED: usize = 512;
/// Blocks with at most this many members are scored by 8-bit codes directly: the residual codes of a whole block are more
/// bytes than the codes of its members.
const SPARSE: u32 = 12;
/// How far below the k-th best estimate nodes are scored again by 8-bit codes, in standard deviations of the error of
/// estimates: [`ERRORS_BELOW`] if the share [`MISSED`] of the best or more may be missed, one more each time that share is
/// divided by four, at most [`MAX_ERRORS_BELOW`].
const ERRORS_BELOW: f32 = 2.0;
const MISSED: f32 = 0.013;
const MAX_ERRORS_BELOW: f32 = 6.0;
/// Most nodes that are scored again, per node that is kept.
const MAX_ESTIMATED: usize = 64;

/// The goal of a scan of blocks.
#[derive(Clone, Copy, Debug)]
pub struct BlockScan {
    /// How many of the best are wanted; at least 1.
    pub k: usize,
    /// How many are kept, to be rescored.
    pub keep: usize,
    /// The share of the best k that may be missed.
    pub missed: f32,
}

impl BlockScan {
    /// How far below the k-th best estimate nodes are scored again, in standard deviations of the error of estimates.
    fn errors_below(&self) -> f32 {
        let more = (MISSED / self.missed).max(1.0).log(4.0);
        (ERRORS_BELOW + more).min(MAX_ERRORS_BELOW)
    }
}

/// What scores nodes during a scan of blocks. The score of a node is its best over all `queries`.
#[derive(Clone, Copy, Debug)]
pub struct BlockScorers<'a, S> {
    /// Score means and residuals.
    pub queries: &'a [BlockQuery<'a>],
    /// Scores nodes by their codes, in the same units.
    pub nodes: &'a S,
}

/// A block with enough members to read its residual codes.
#[derive(Clone, Copy, Debug)]
struct Dense {
    block: usize,
    /// Its place in [`Bounds`].
    at: u32,
    /// One bit per row.
    members: u64,
}

/// The memory of a scan of blocks, kept from one scan to the next.
#[derive(Debug, Default)]
pub struct BlockScratch {
    bounds: Bounds,
    dense: Vec<Dense>,
    /// The best k at the last check, the worst of them last.
    best: Vec<Candidate>,
    yields: Yields,
}

/// Leaves the best `keep` nodes of `matches` that it finds in `scratch.found`, in no particular order.
///
/// `interrupt` is checked once per some hundred nodes.
pub fn scan_blocks<S: Score>(
    blocks: &Blocks<'_>,
    scorers: BlockScorers<'_, S>,
    matches: Option<&NodeSet>,
    scan: &BlockScan,
    scratch: &mut Scratch,
    block_scratch: &mut BlockScratch,
    interrupt: &mut Interrupt<'_>,
) -> Cost {
    let BlockScorers { queries, nodes } = scorers;
    let mut cost = Cost::default();
    let scanned = Scanned { blocks, queries, matches };
    scan_estimates(scanned, nodes, scan, scratch, block_scratch, &mut cost, interrupt);
    scratch.rescore(nodes, &mut cost);
    keep_best(&mut scratch.found, scan.keep);
    cost
}

/// Leaves the nodes with the best estimates in `scratch.found`, more than `keep` of them.
fn scan_estimates(
    scanned: Scanned<'_>,
    nodes: &impl Score,
    scan: &BlockScan,
    scratch: &mut Scratch,
    block_scratch: &mut BlockScratch,
    cost: &mut Cost,
    interrupt: &mut Interrupt<'_>,
) {
    let Scanned { blocks, queries, matches } = scanned;
    let BlockScratch { bounds, dense, best, yields } = block_scratch;
    let Scratch { found, batch, batch_scores, selection, watched, has_scanned, .. } = scratch;
    let watched_node = *watched;
    let watched = watched.map(|node| node as usize / ROWS_PER_BLOCK);
    bounds.bound_regions(scanned, cost);
    yields.reset(scan.k, scan.missed, FIRST_SCORED.max(2 * scan.keep));
    found.clear();
    let mut outside = blocks.outside(matches);
    loop {
        batch.clear();
        batch.extend(outside.by_ref().take(OUTSIDE_AT_ONCE));
        if batch.is_empty() || interrupt.should_stop() {
            break;
        }
        batch_scores.resize(batch.len(), 0.0);
        nodes.score_rows(batch, batch_scores);
        cost.distances += batch.len() as u64;
        *has_scanned |= watched_node.is_some_and(|node| batch.contains(&node));
        found.extend(batch.iter().zip(&*batch_scores).map(|(node, score)| Candidate::new(*node, *score)));
    }
    // The k-th best at the last check, and the least estimate that is scored again.
    let (mut last, mut least) = (Candidate::last_of(f32::NEG_INFINITY), f32::NEG_INFINITY);
    let most = (MAX_ESTIMATED * scan.keep).max(scan.k);
    let (mut slack, mut crowd) = (None, most);
    let mut estimates = [0.0; ROWS_PER_BLOCK];
    let has_terms = nodes.add_terms(0, &mut []);
    while bounds.next(scanned, selection, cost) {
        let ready = bounds.ready();
        let slack = *slack.get_or_insert_with(|| {
            let spreads: f32 = ready.iter().map(|ready| blocks.spreads[bounds.block(ready.node())]).sum();
            let error = queries.iter().map(|query| query.residuals.error()).fold(0.0, f32::max);
            let slack = scan.errors_below() * error * spreads / ready.len() as f32;
            // In a damaged file a spread may have any value.
            if slack.is_finite() { slack.max(0.0) } else { 0.0 }
        });
        for some in ready.chunks(BLOCKS_AT_ONCE) {
            batch.clear();
            dense.clear();
            for ready in some {
                let block = bounds.block(ready.node());
                let members = blocks.members(block, matches);
                *has_scanned |= watched == Some(block);
                yields.scored += members.count_ones() as usize;
                if members.count_ones() <= SPARSE {
                    push_members(members, block, batch);
                } else {
                    dense.push(Dense { block, at: ready.node(), members });
                }
            }
            let fetch = |dense: &Dense| prefetch(blocks.residuals(dense.block));
            dense.iter().take(AHEAD).for_each(fetch);
            for (next, Dense { block, at, members }) in dense.iter().enumerate() {
                dense.get(next + AHEAD).into_iter().for_each(fetch);
                let centers = bounds.centers(*at, queries.len());
                let limit = if has_terms { f32::NEG_INFINITY } else { least };
                let mut likely = members & estimate(blocks, *block, queries, centers, limit, &mut estimates);
                if has_terms {
                    nodes.add_terms((block * ROWS_PER_BLOCK) as u32, &mut estimates);
                    likely &= reached(&estimates, least);
                }
                cost.distances += ROWS_PER_BLOCK as u64;
                while likely != 0 {
                    let row = likely.trailing_zeros();
                    let node = (block * ROWS_PER_BLOCK) as u32 + row;
                    found.push(Candidate::new(node, estimates[row as usize]));
                    likely &= likely - 1;
                }
            }
            batch_scores.resize(batch.len(), 0.0);
            nodes.score_rows(batch, batch_scores);
            cost.distances += batch.len() as u64;
            found.extend(chosen(selection.at_least(batch_scores, least), batch, batch_scores));
            let is_due = yields.is_due() && found.len() >= scan.k;
            if is_due || found.len() >= crowd {
                // A node below the last k-th best is not among the best k now.
                best.clone_from(found);
                drop_worse(best, last);
                best.select_nth_unstable(scan.k - 1);
                best.truncate(scan.k);
                last = best[scan.k - 1];
                least = last.score() - slack;
                drop_worse(found, Candidate::last_of(least));
                keep_best(found, most);
                crowd = 2 * found.len() + most;
                if is_due && yields.are_done(best) {
                    return;
                }
            }
            if interrupt.should_stop() {
                return;
            }
        }
    }
}

/// Estimates the scores of the rows of a block from the scores of its mean for each query, `centers: [queries]`. Returns one
/// bit per row: whether its estimate is at least `least`.
#[inline]
fn estimate(
    blocks: &Blocks<'_>,
    block: usize,
    queries: &[BlockQuery<'_>],
    centers: &[f32],
    least: f32,
    estimates: &mut [f32; ROWS_PER_BLOCK],
) -> u64 {
    let (residuals, spread) = (blocks.residuals(block), blocks.spreads[block]);
    let mut reached = 0;
    for (at, (query, center)) in queries.iter().zip(centers).enumerate() {
        let around = (*center, spread);
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

/// One bit per row: whether its estimate is at least `least`.
fn reached(estimates: &[f32; ROWS_PER_BLOCK], least: f32) -> u64 {
    estimates.iter().rev().fold(0, |bits, estimate| bits << 1 | u64::from(*estimate >= least))
}

fn push_members(mut members: u64, block: usize, batch: &mut Vec<u32>) {
    while members != 0 {
        batch.push((block * ROWS_PER_BLOCK) as u32 + members.trailing_zeros());
        members &= members - 1;
    }
}
