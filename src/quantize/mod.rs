//! Codes: embeddings in a quarter of the bytes, good enough to choose among.
//!
//! What flows in: rows and queries in `f32` or `f16`. What flows out: 8-bit codes whose integer dot
//! product ranks rows nearly as their inner product does. Nothing here knows of graphs or files.

mod blocks;
mod sq8;

pub use blocks::{BlockSummary, ROWS_PER_BLOCK};
pub use sq8::{Affine, QueryCodes, Sq8};
