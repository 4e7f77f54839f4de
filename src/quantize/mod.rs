//! Codes: embeddings in a quarter of the bytes, good enough to choose among.
//!
//! What flows in: rows and queries in `f32` or `f16`. What flows out: 8-bit codes whose integer dot
//! product ranks rows nearly as their inner product does, and codes of four, two, one or no bits per axis of what
//! rows near each other differ by. Nothing here knows of graphs or files.
//!
//! | file | duty |
//! |---|---|
//! | `sq8.rs`      | 8 bits per dimension |
//! | `axes.rs`     | along which of them rows differ most for queries |
//! | `moment.rs`   | what queries look at: their second moment |
//! | `residual.rs` | some bits per axis for what a row differs from a center by |
//! | `blocks.rs`   | rows that lie beside each other: their means, and they in terms of those |

mod axes;
mod blocks;
mod moment;
mod residual;
mod sq8;

pub use axes::{Axes, FittedAxes};
pub use blocks::{BlockSummary, ROWS_PER_BLOCK};
pub use moment::SecondMoment;
pub use residual::{ResidualCodes, ResidualTable, are_widths, plain_widths, residual_block_bytes};
pub use sq8::{Affine, QueryCodes, Sq8};
