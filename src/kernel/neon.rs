//! The register type of AArch64, whose every processor has NEON.
#![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one promise of `Simd`

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::simd::{Load, Simd, entry_points};
use super::{Kernels, codes, select};

/// The NEON kernels.
pub(super) fn kernels() -> &'static Kernels {
    static NEON: Kernels = with_neon::kernels(codes::NEON, select::PORTABLE);
    &NEON
}

entry_points!(with_neon, Isa::Neon, Neon, "neon");

#[derive(Clone, Copy)]
struct Neon(float32x4_t);

impl Simd for Neon {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Neon(vdupq_n_f32(0.0))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Neon(vaddq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Neon(vsubq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        Neon(vfmaq_f32(sum.0, self.0, factor.0))
    }

    #[inline(always)]
    unsafe fn sums(four: [Self; 4]) -> [f32; 4] {
        let [Neon(a), Neon(b), Neon(c), Neon(d)] = four;
        std::mem::transmute(vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)))
    }
}

impl Load<f32> for Neon {
    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        Neon(vld1q_f32(source))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f32, count: usize) -> Self {
        let mut head = [0.0; Self::LANES];
        for (lane, value) in head.iter_mut().take(count).enumerate() {
            *value = *source.add(lane);
        }
        <Self as Load<f32>>::load(head.as_ptr())
    }
}

impl Load<f16> for Neon {
    #[inline(always)]
    unsafe fn load(source: *const f16) -> Self {
        // The widening instruction is part of every AArch64; only its intrinsic is not in stable Rust.
        let halves = vld1_u16(source.cast());
        let widened: float32x4_t;
        asm!(
            "fcvtl {widened:v}.4s, {halves:v}.4h",
            halves = in(vreg) halves,
            widened = lateout(vreg) widened,
            options(pure, nomem, nostack, preserves_flags),
        );
        Neon(widened)
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f16, count: usize) -> Self {
        let mut head = [f16::ZERO; Self::LANES];
        for (lane, value) in head.iter_mut().take(count).enumerate() {
            *value = *source.add(lane);
        }
        <Self as Load<f16>>::load(head.as_ptr())
    }
}
