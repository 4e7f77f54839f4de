//! Every algorithm once, over what differs between instruction sets: a trait of a few operations, and a macro that
//! compiles the algorithm for an instruction set.
//!
//! Nothing here names an instruction. Each `scalar.rs`, `neon.rs`, `x86/avx2.rs` and `x86/avx512.rs` implements the traits
//! and calls the macros.

pub(in crate::kernel) mod codes;
pub(in crate::kernel) mod float;
pub(in crate::kernel) mod near;
pub(in crate::kernel) mod nibbles;
pub(in crate::kernel) mod packed;
pub(in crate::kernel) mod select;
