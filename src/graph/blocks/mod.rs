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
//! where a filter has taken away the neighborhood of the query.
//!
//! | file | duty |
//! |---|---|
//! | `bounds.rs` | which blocks come next |
//! | `yields.rs` | when enough were scanned |
//! | `scan.rs`   | the scan |

mod bounds;
mod scan;
#[cfg(test)]
mod tests;
mod yields;

pub(super) use scan::BlockScratch;
pub use scan::{BlockScan, scan_blocks};

use super::scorer::CodeScorer;
use crate::kernel::WORD_BITS;
use crate::node_set::NodeSet;
use crate::quantize::{BlockSummary, ROWS_PER_BLOCK, ResidualCodes, ResidualTable};

/// Words of a set that hold the nodes of a block.
const WORDS_PER_BLOCK: usize = ROWS_PER_BLOCK / WORD_BITS;

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

/// What a scan looks at.
#[derive(Clone, Copy)]
struct Scanned<'a> {
    blocks: &'a Blocks<'a>,
    queries: &'a [BlockQuery<'a>],
    matches: Option<&'a NodeSet>,
}
