//! A scan of the nodes of a set that reads only the blocks where good nodes are likely.
//!
//! Nodes with near numbers are near each other. A block of them is described by its mean and the spread around it, and a
//! region of blocks by the mean and spread of the means of its blocks. For a query, the scores of a block lie around the
//! score of its mean, in proportion to the spread. The scan reads the best blocks first and ends when the last doublings
//! of the number of scored nodes brought almost none of the best nodes.
//!
//! ```text
//! means of regions   8-bit codes, all of them          a bound of the best node of every region
//! means of blocks    8-bit codes, best bound first     a bound of the best node of the block
//! nodes of a block   residual codes, best bound first  an estimate of every node
//! nodes              8-bit codes, best estimates
//! ```
//!
//! The scan does not depend on where the nodes of the set are or how many there are, whereas a traversal of the graph
//! gets lost where a filter removed the neighborhood of the query. It uses no edges.
//!
//! | file | duty |
//! |---|---|
//! | `summary.rs` | blocks, regions and queries as the scan reads them |
//! | `bounds.rs`  | which blocks come next |
//! | `yields.rs`  | when enough was scanned |
//! | `scan.rs`    | the scan |

mod bounds;
mod scan;
mod summary;
#[cfg(test)]
mod tests;
mod yields;

pub use scan::{BlockScan, BlockScorers, BlockScratch, scan_blocks};
pub use summary::{BlockQuery, Blocks};
