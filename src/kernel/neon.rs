//! NEON, which every AArch64 has: registers of 128 bits.
#![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one requirement of its trait

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::generic::codes::{CodeDot, code_table};
use super::generic::float::{Load, Simd, float_table};
use super::generic::near::near;
use super::generic::nibbles::{NIBBLE_ROWS, Nibbles, PAIR_BYTES, TABLE_BYTES, score_nibbles};
use super::scalar;
use super::tables::Tables;

pub(super) const TABLES: Tables = Tables {
    f32: floats::F32,
    f16: floats::F16,
    codes: code_table!(NeonCodes, "neon"),
    packed: scalar::PACKED,
    nibbles: score_nibbles!(NeonCodes, "neon"),
    select: scalar::SELECT,
    is_near: near!("neon"),
};

float_table!(floats, Neon, "neon");

/// Four `f32`.
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
        // The widening instruction is part of every AArch64; but its intrinsic is not in stable Rust.
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

/// Integer kernels. Both sides are widened to 16 bits: every AArch64 has the instructions.
struct NeonCodes;

impl CodeDot for NeonCodes {
    #[inline(always)]
    unsafe fn dot(query: *const i8, row: *const u8, len: usize) -> i32 {
        let mut sums = [vdupq_n_s32(0); 2];
        for at in (0..len).step_by(16) {
            let (q, x) = (vld1q_s8(query.add(at)), vld1q_u8(row.add(at)));
            let (q_low, q_high) = (vmovl_s8(vget_low_s8(q)), vmovl_s8(vget_high_s8(q)));
            let x_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x)));
            let x_high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(x)));
            sums[0] = vmlal_s16(sums[0], vget_low_s16(q_low), vget_low_s16(x_low));
            sums[1] = vmlal_s16(sums[1], vget_high_s16(q_low), vget_high_s16(x_low));
            sums[0] = vmlal_s16(sums[0], vget_low_s16(q_high), vget_low_s16(x_high));
            sums[1] = vmlal_s16(sums[1], vget_high_s16(q_high), vget_high_s16(x_high));
        }
        vaddvq_s32(vaddq_s32(sums[0], sums[1]))
    }
}

/// A quarter of the rows at a time; even and odd bytes are summed separately.
impl Nibbles for NeonCodes {
    #[inline(always)]
    unsafe fn sums(table: *const u8, codes: *const u8, pairs: usize, out: &mut [f32; NIBBLE_ROWS]) {
        for quarter in 0..4 {
            let (mut even, mut odd) = (vdupq_n_u16(0), vdupq_n_u16(0));
            for pair in 0..pairs {
                let table = table.add(pair * PAIR_BYTES);
                let both = vld1q_u8(codes.add(pair * NIBBLE_ROWS + 16 * quarter));
                let first = vqtbl1q_u8(vld1q_u8(table), vandq_u8(both, vdupq_n_u8(15)));
                let second = vqtbl1q_u8(vld1q_u8(table.add(TABLE_BYTES)), vshrq_n_u8::<4>(both));
                let sum = vreinterpretq_u16_u8(vaddq_u8(first, second));
                even = vaddq_u16(even, vandq_u16(sum, vdupq_n_u16(255)));
                odd = vaddq_u16(odd, vshrq_n_u16::<8>(sum));
            }
            for (half, sums) in [even, odd].into_iter().enumerate() {
                let to = out.as_mut_ptr().add(32 * half + 8 * quarter);
                vst1q_f32(to, vcvtq_f32_u32(vmovl_u16(vget_low_u16(sums))));
                vst1q_f32(to.add(4), vcvtq_f32_u32(vmovl_u16(vget_high_u16(sums))));
            }
        }
    }
}
