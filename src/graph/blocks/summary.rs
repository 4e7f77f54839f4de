//! Blocks, regions and queries as the scan reads them.

use super::super::scorer::CodeScorer;
use crate::kernel::WORD_BITS;
use crate::node_set::NodeSet;
use crate::quantize::{BlockSummary, ROWS_PER_BLOCK, ResidualCodes, ResidualTable};

/// Words of a [`NodeSet`] per block.
const WORDS_PER_BLOCK: usize = ROWS_PER_BLOCK / WORD_BITS;

/// The blocks of an index and their regions: the fields of a [`BlockSummary`] and what is derived from them.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    /// The number of nodes in blocks. The nodes after these are scored one by one.
    pub rows: usize,
    /// The number of all nodes.
    pub nodes: usize,
    /// `[regions + 1]`: the first block of each region, then the number of blocks.
    pub regions: &'a [u32],
    /// `[(blocks + regions) × stride]`.
    pub means: &'a [u8],
    /// `[blocks + regions]`.
    pub spreads: &'a [f32],
    /// `[regions]`: see [`BlockSummary::largest_spreads`].
    pub largest_spreads: &'a [f32],
    /// The decoder of the residual codes.
    pub codes: ResidualCodes<'a>,
    /// `[blocks × bytes per block]`.
    pub row_residuals: &'a [u8],
}

impl Blocks<'_> {
    pub(super) fn len(&self) -> usize {
        BlockSummary::blocks(self.rows)
    }

    /// The blocks of a region. Clamped to the blocks that exist.
    fn of_region(&self, region: usize) -> std::ops::Range<usize> {
        let (first, end) = (self.regions[region] as usize, self.regions[region + 1] as usize);
        first.min(self.len())..end.clamp(first.min(self.len()), self.len())
    }

    pub(super) fn residuals(&self, block: usize) -> &[u8] {
        let bytes = self.row_residuals.len() / self.len();
        &self.row_residuals[block * bytes..(block + 1) * bytes]
    }

    /// Appends to `list` the blocks of a region that have members.
    pub(super) fn list_with_members(&self, region: usize, matches: Option<&NodeSet>, list: &mut Vec<u32>) {
        let range = self.of_region(region);
        let words = matches.map_or(&[][..], |matches| matches.words().as_chunks::<WORDS_PER_BLOCK>().0);
        let whole = words.len().clamp(range.start, range.end);
        let (first, mut count) = (list.len(), 0);
        list.resize(first + whole - range.start, 0);
        // Branch-free: always store the block; advance `count` only if it has members.
        for (block, words) in (range.start..whole).zip(words.get(range.start..whole).unwrap_or_default()) {
            list[first + count] = block as u32;
            count += usize::from(words[0] | words[1] != 0);
        }
        list.truncate(first + count);
        let rest = (whole..range.end).filter(|block| self.members(*block, matches) != 0);
        list.extend(rest.map(|block| block as u32));
    }

    /// One bit per row of a block: whether the row is in the set. Without a set, whether the row exists.
    pub(super) fn members(&self, block: usize, matches: Option<&NodeSet>) -> u64 {
        let rows = u64::MAX >> (ROWS_PER_BLOCK - (self.rows - block * ROWS_PER_BLOCK).min(ROWS_PER_BLOCK));
        let first = block * WORDS_PER_BLOCK;
        let Some(matches) = matches else { return rows };
        let word = |at: usize| matches.words().get(first + at).map_or(0, |word| u64::from(*word));
        rows & (word(0) | word(1) << WORD_BITS)
    }

    /// The nodes of the set that are in no block.
    pub(super) fn outside<'s>(&self, matches: Option<&'s NodeSet>) -> impl Iterator<Item = u32> + 's {
        let is_member = move |node: &u32| matches.is_none_or(|matches| matches.contains(*node));
        (self.rows as u32..self.nodes as u32).filter(is_member)
    }
}

/// One of the queries of a scan of blocks: scores means and residuals in the units of the scan.
#[derive(Clone, Copy, Debug)]
pub struct BlockQuery<'a> {
    /// Scores the means. In units of the scan, the score of a mean is `offset + scale · score`.
    pub means: CodeScorer<'a>,
    /// In units of the scan.
    pub offset: f32,
    /// Units of the scan per unit of [`Self::means`].
    pub scale: f32,
    /// In units of the scan.
    pub residuals: &'a ResidualTable,
}

/// The input of a scan.
#[derive(Clone, Copy)]
pub(super) struct Scanned<'a> {
    pub(super) blocks: &'a Blocks<'a>,
    pub(super) queries: &'a [BlockQuery<'a>],
    pub(super) matches: Option<&'a NodeSet>,
}
