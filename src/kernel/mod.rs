//! SIMD kernels: slices in, `f32` out.
//!
//! What flows in: a query in `f32` and rows in `f32` or `f16`. What flows out: dot products,
//! squared L2 distances and squared norms, in `f32`. Kernels know nothing of graphs, files or
//! metrics.
//!
//! | file | duty |
//! |---|---|
//! | `scalar.rs` | the definition of correct |
//! | `simd.rs`   | each algorithm once, over a `Simd` register type |
//! | `x86.rs`    | AVX2+FMA+F16C and AVX-512 register types and their entry points |
//! | `neon.rs`   | the NEON register type and its entry points |
//!
//! The instruction set is chosen once per process ([`Kernels::get`]); `SHORTLIST_KERNEL` forces it.
