//! x86-64: one file per instruction set, with its detection, its functions and its table.

pub(in crate::kernel) mod avx2;
pub(in crate::kernel) mod avx512;
