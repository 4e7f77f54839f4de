//! Quantization: embeddings in a quarter of the bytes or fewer, precise enough to choose candidates for rescoring.
//!
//! In: rows and queries in `f32` or `f16`. Out: 8-bit codes whose integer dot product ranks rows nearly as their score does
//! (under L2 with one number more per row); the rows that codes cannot represent; and residual codes of 4, 2, 1 or 0 bits per
//! axis for the difference between a row and the mean of its block. Nothing here knows of graphs or files.
//!
//! | file | duty |
//! |---|---|
//! | `quantizer.rs`   | the trait of a quantizer |
//! | `registry.rs`    | the table of quantizers |
//! | `bounds.rs`      | the range of each dimension, with or without extremes |
//! | `fitted.rs`      | quantizers for given rows, and the rows that they do not represent |
//! | `query_codes.rs` | encoded queries |
//! | `sq8.rs`         | a quantizer: 8 bits per dimension |
//! | `fine.rs`        | 8 more bits per dimension, and queries against them |
//! | `vector_code.rs` | arithmetic that compiles to vector code |
//! | `moment.rs`      | the second moment of queries |
//! | `widths.rs`      | bits per axis of residuals, and how axes share codes |
//! | `axes.rs`        | query-aware principal axes of residuals |
//! | `residual.rs`    | residual codes and the lookup table of a query |
//! | `blocks.rs`      | blocks of rows: means, spreads, residual codes |
//!
//! # Adding a quantizer
//!
//! 1. Write a file like `sq8.rs`: a type that implements the trait `Quantize`. `serves` names the metrics; `represents` tells
//!    which rows its codes can stand for; with an `origin`, codes come with the `half_norm` of their row.
//! 2. Add a row to the table at the end of the macro in `registry.rs`.
//!
//! Builds, index files, searches, the command line and error messages follow from the table: an index stores `stride`
//! bytes per row in the section of codes and `parameter_count` numbers in the section of levels.

mod axes;
mod blocks;
mod bounds;
mod fine;
mod fitted;
mod moment;
mod quantizer;
mod query_codes;
mod registry;
mod residual;
mod sq8;
mod vector_code;
mod widths;

pub use axes::{Axes, FittedAxes};
pub use blocks::{BlockSummary, ROWS_PER_BLOCK};
pub use bounds::Bounds;
pub use fine::{FineDots, FineQuery};
pub use fitted::{Fitted, fit, fit_tightest};
pub use moment::SecondMoment;
pub use query_codes::{Affine, QueryCodes};
pub use registry::{Codes, Quantizer, RowCodes};
pub use residual::{ResidualCodes, ResidualTable};
pub use widths::{are_widths, plain_widths, residual_block_bytes};
