//! The scan: estimates of the nodes of the best blocks, and a better look at the best of those.

use super::super::beam::{BeamStats, Outcome, Scratch, chosen};
use super::super::candidates::{Candidate, drop_worse, keep_best};
use super::super::scorer::Score;
use super::bounds::Bounds;
use super::yields::Yields;
use super::{BlockQuery, Blocks, Scanned};
use crate::kernel::prefetch;
use crate::node_set::NodeSet;
use crate::quantize::ROWS_PER_BLOCK;

/// Blocks scanned between two looks at what came of it.
const BLOCKS_AT_ONCE: usize = 8;
/// Blocks that are on their way while one is scanned.
const AHEAD: usize = 4;
/// Nodes scored before the first look at what the last doublings brought.
const FIRST_SCORED: usize = 512;
/// So few nodes of a block are scored by their 8-bit codes at once: the residual codes of it are more bytes.
const SPARSE: u32 = 12;
/// Nodes are scored again by 8-bit codes that are estimated so many standard deviations of what estimates are off by
/// below the k-th best, where this share of the best may be missed or more; one more for every time that it is a quarter
/// of that, but not more than so many.
const ERRORS_BELOW: f32 = 2.0;
const MISSED: f32 = 0.013;
const MAX_ERRORS_BELOW: f32 = 6.0;
/// However many they are: so many for each that is kept.
const MAX_ESTIMATED: usize = 64;

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
    at: u32,
    /// A bit per row.
    members: u64,
}

/// What a scan has in hand; kept and reused.
#[derive(Debug, Default)]
pub(in super::super) struct BlockScratch {
    bounds: Bounds,
    dense: Vec<Dense>,
    /// The best k at the last look, the worst of them at the end.
    best: Vec<Candidate>,
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
    let Scratch {
        blocks: BlockScratch { bounds, dense, best, yields },
        found,
        batch,
        batch_scores,
        selection,
        watched,
        has_scanned,
        ..
    } = scratch;
    let watched = watched.map(|node| node as usize / ROWS_PER_BLOCK);
    let scanned = Scanned { blocks, queries, matches };
    bounds.bound_regions(scanned, stats);
    yields.reset(scan.k, scan.missed, FIRST_SCORED.max(2 * scan.keep));
    found.clear();
    // The k-th best at the last look, and the least estimate that is worth another look.
    let (mut last, mut least) = (Candidate::last_of(f32::NEG_INFINITY), f32::NEG_INFINITY);
    let most = (MAX_ESTIMATED * scan.keep).max(scan.k);
    let (mut slack, mut crowd) = (None, most);
    let mut estimates = [0.0; ROWS_PER_BLOCK];
    while bounds.next(scanned, selection, stats) {
        let ready = bounds.ready();
        let slack = *slack.get_or_insert_with(|| {
            let spreads: f32 = ready.iter().map(|ready| blocks.spreads[bounds.block(ready.node())]).sum();
            let error = queries.iter().map(|query| query.residuals.error()).fold(0.0, f32::max);
            let slack = scan.errors_below() * error * spreads / ready.len() as f32;
            // In a damaged file a spread may be anything.
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
                let mut likely = members & estimate(blocks, *block, queries, centers, least, &mut estimates);
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
                // What was no better than the k-th best is not among the best k now.
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

fn push_members(mut members: u64, block: usize, batch: &mut Vec<u32>) {
    while members != 0 {
        batch.push((block * ROWS_PER_BLOCK) as u32 + members.trailing_zeros());
        members &= members - 1;
    }
}
