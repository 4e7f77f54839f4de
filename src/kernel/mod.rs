//! SIMD kernels: slices in, `f32` out.
//!
//! In: a query in `f32` and rows in `f32` or `f16`, or both in 8-bit codes. Out: dot products, squared L2 distances and
//! squared norms, in `f32`. Kernels know nothing of graphs, files or metrics.
//!
//! | file | duty |
//! |---|---|
//! | `kernels.rs`    | dispatch: the instruction set of this process, and checked methods over its functions |
//! | `isa.rs`        | the instruction sets, by name |
//! | `tables.rs`     | the functions that an instruction set provides, and what they rely on |
//! | `generic/`      | every algorithm once: `float.rs`, `codes.rs` (8 bits), `packed.rs` (8 bits, many queries against many rows), `nibbles.rs` (4 bits), `select.rs` (thresholds, bitmaps), `near.rs` (is one of some rows near) |
//! | `scalar.rs`     | plain loops: the definition of correct |
//! | `x86/avx2.rs`   | everything of AVX2 with FMA and F16C |
//! | `x86/avx512.rs` | everything of AVX-512, with and without VNNI |
//! | `neon.rs`       | everything of NEON |
//! | `norm.rs`       | the bound of norms |
//! | `normalize.rs`  | scaling to unit norm |
//! | `prefetch.rs`   | cache-line prefetching |
//! | `kernels/tests.rs` | every detected instruction set against scalar |
//!
//! An instruction set is one file: it detects its features, implements the traits of `generic/` and exports a table, which
//! gets a row in `Kernels::detected`. The instruction set is chosen once per process ([`Kernels::get`]);
//! `SHORTLIST_KERNEL` forces it.
//!
//! Within one instruction set a (query, row) pair has one score, to the bit, whether it is computed by a single call, by
//! `*_rows` or by `*_scan`. Scores of different instruction sets differ by rounding.
#![allow(unsafe_code)] // SIMD intrinsics and the calls into them

mod generic;
mod isa;
mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
mod norm;
mod normalize;
mod prefetch;
mod scalar;
mod tables;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use generic::codes::CODE_ALIGNMENT;
pub use generic::near::TILE_ROWS;
pub use generic::nibbles::{MAX_ENTRY, NIBBLE_ROWS, TABLE_BYTES, row_of};
pub use generic::packed::{PACKED_ROWS, pack};
pub use generic::select::WORD_BITS;
pub use isa::{Isa, KernelError};
pub use kernels::{KERNEL_VARIABLE, Kernels};
pub use norm::{MAX_NORM, is_bounded, norm};
pub use normalize::normalize;
pub use prefetch::prefetch;
