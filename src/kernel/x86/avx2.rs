//! AVX2 with FMA and F16C: registers of 256 bits.
#![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one requirement of its trait

use std::arch::x86_64::*;

use half::f16;

use crate::kernel::generic::codes::{BATCH, CodeDot, code_table};
use crate::kernel::generic::float::{Load, Simd, float_table};
use crate::kernel::generic::near::near;
use crate::kernel::generic::nibbles::{NIBBLE_ROWS, Nibbles, PAIR_BYTES, TABLE_BYTES, score_nibbles};
use crate::kernel::generic::packed::{PACKED_ROWS, PackedDot, packed_table};
use crate::kernel::generic::select::{self, select_table};
use crate::kernel::tables::{PackedTable, Tables};

/// Requires [`is_detected`].
pub(in crate::kernel) const TABLES: Tables = Tables {
    f32: floats::F32,
    f16: floats::F16,
    codes: code_table!(Avx2Codes, "avx2"),
    packed: PACKED,
    nibbles: score_nibbles!(Avx2Codes, "avx2"),
    select: select_table!(select::absent, select::at_least, select::count, select::ones, "avx2"),
    is_near: near!("avx2,fma"),
};
pub(super) const PACKED: PackedTable = packed_table!(Avx2Codes, "avx2");

float_table!(floats, Avx2, "avx2,fma,f16c");

/// Returns whether this processor has AVX2, FMA and F16C.
pub(in crate::kernel) fn is_detected() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// Eight `f32`.
#[derive(Clone, Copy)]
struct Avx2(__m256);

impl Simd for Avx2 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Avx2(_mm256_setzero_ps())
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Avx2(_mm256_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Avx2(_mm256_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        Avx2(_mm256_fmadd_ps(self.0, factor.0, sum.0))
    }

    #[inline(always)]
    unsafe fn sums(four: [Self; 4]) -> [f32; 4] {
        let pairs =
            _mm256_hadd_ps(_mm256_hadd_ps(four[0].0, four[1].0), _mm256_hadd_ps(four[2].0, four[3].0));
        std::mem::transmute(_mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs)))
    }
}

impl Load<f32> for Avx2 {
    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        Avx2(_mm256_loadu_ps(source))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f32, count: usize) -> Self {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes);
        Avx2(_mm256_maskload_ps(source, mask))
    }
}

impl Load<f16> for Avx2 {
    #[inline(always)]
    unsafe fn load(source: *const f16) -> Self {
        Avx2(_mm256_cvtph_ps(_mm_loadu_si128(source.cast())))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f16, count: usize) -> Self {
        // AVX2 masks loads by 32 bits: load whole pairs, then insert the last component.
        let pairs = _mm_cmpgt_epi32(_mm_set1_epi32((count / 2) as i32), _mm_setr_epi32(0, 1, 2, 3));
        let pairs = _mm_maskload_epi32(source.cast(), pairs);
        let last = (*source.add(count - 1)).to_bits() as i16;
        let at = _mm_cmpeq_epi16(_mm_set1_epi16(count as i16 - 1), _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7));
        Avx2(_mm256_cvtph_ps(_mm_or_si128(pairs, _mm_and_si128(_mm_set1_epi16(last), at))))
    }
}

/// Integer kernels. Codes are widened to 16 bits first: the 8-bit multiply-add of AVX2 saturates.
struct Avx2Codes;

impl CodeDot for Avx2Codes {
    #[inline(always)]
    unsafe fn dot(query: *const i8, row: *const u8, len: usize) -> i32 {
        let mut sums = [_mm256_setzero_si256(); 2];
        for at in (0..len).step_by(32) {
            for (half, sum) in sums.iter_mut().enumerate() {
                let q = _mm256_cvtepi8_epi16(_mm_loadu_si128(query.add(at + 16 * half).cast()));
                let x = _mm256_cvtepu8_epi16(_mm_loadu_si128(row.add(at + 16 * half).cast()));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(q, x));
            }
        }
        let eight = _mm256_add_epi32(sums[0], sums[1]);
        let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
    }

    #[inline(always)]
    unsafe fn dots(query: *const i8, rows: [*const u8; BATCH], len: usize) -> [f32; BATCH] {
        let mut sums = [_mm256_setzero_si256(); BATCH];
        for at in (0..len).step_by(16) {
            let q = _mm256_cvtepi8_epi16(_mm_loadu_si128(query.add(at).cast()));
            for (sum, row) in sums.iter_mut().zip(rows) {
                let x = _mm256_cvtepu8_epi16(_mm_loadu_si128(row.add(at).cast()));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(q, x));
            }
        }
        across(sums)
    }
}

/// Sums each register across its lanes.
#[inline(always)]
pub(super) unsafe fn across(sums: [__m256i; BATCH]) -> [f32; BATCH] {
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
    std::mem::transmute(_mm_cvtepi32_ps(sums))
}

/// Even and odd bytes are separate 16-bit lanes: the 8-bit multiply-add of AVX2 saturates.
impl PackedDot for Avx2Codes {
    #[inline(always)]
    unsafe fn tile<const Q: usize>(
        queries: *const i8,
        len: usize,
        block: *const u8,
        out: *mut i32,
        stride: usize,
    ) {
        let low = _mm256_set1_epi16(0xff);
        // Eight rows at a time: the sums of a tile for sixteen rows would not fit into the registers.
        for half in 0..2 {
            let mut sums = [_mm256_setzero_si256(); Q];
            for at in (0..len).step_by(4) {
                let word = _mm256_loadu_si256(block.add(PACKED_ROWS * at + 32 * half).cast());
                let (even, odd) = (_mm256_and_si256(word, low), _mm256_srli_epi16::<8>(word));
                for (q, sum) in sums.iter_mut().enumerate() {
                    let four = queries.add(q * len + at).cast::<[i8; 4]>().read();
                    let [a, b, c, d] = four.map(|code| i32::from(code) & 0xffff);
                    let query_even = _mm256_set1_epi32(a | c << 16);
                    let query_odd = _mm256_set1_epi32(b | d << 16);
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(even, query_even));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(odd, query_odd));
                }
            }
            for (q, sum) in sums.iter().enumerate() {
                _mm256_storeu_si256(out.add(q * stride + 8 * half).cast(), *sum);
            }
        }
    }
}

/// Half the rows at a time. Even and odd bytes are summed separately: the 16-bit sums of whole words have the sums of odd
/// bytes in their upper halves, which are subtracted at the end.
impl Nibbles for Avx2Codes {
    #[inline(always)]
    unsafe fn sums(table: *const u8, codes: *const u8, pairs: usize, out: &mut [f32; NIBBLE_ROWS]) {
        let low = _mm256_set1_epi8(15);
        let mut words = [_mm256_setzero_si256(); 2];
        let mut odd = words;
        for pair in 0..pairs {
            let entries = |code: usize| {
                let entries = table.add(pair * PAIR_BYTES + code * TABLE_BYTES);
                _mm256_broadcastsi128_si256(_mm_loadu_si128(entries.cast()))
            };
            let (even_entries, odd_entries) = (entries(0), entries(1));
            for half_block in 0..2 {
                let both = _mm256_loadu_si256(codes.add(pair * NIBBLE_ROWS + 32 * half_block).cast());
                let first = _mm256_shuffle_epi8(even_entries, _mm256_and_si256(both, low));
                let second =
                    _mm256_shuffle_epi8(odd_entries, _mm256_and_si256(_mm256_srli_epi16::<4>(both), low));
                let sum = _mm256_add_epi8(first, second);
                words[half_block] = _mm256_add_epi16(words[half_block], sum);
                odd[half_block] = _mm256_add_epi16(odd[half_block], _mm256_srli_epi16::<8>(sum));
            }
        }
        for half_block in 0..2 {
            let even = _mm256_sub_epi16(words[half_block], _mm256_slli_epi16::<8>(odd[half_block]));
            for (half, sums) in [even, odd[half_block]].into_iter().enumerate() {
                for (eighth, sums) in [_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums)]
                    .into_iter()
                    .enumerate()
                {
                    let sums = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums));
                    _mm256_storeu_ps(out.as_mut_ptr().add(32 * half + 16 * half_block + 8 * eighth), sums);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn scores((base, step): (f32, f32), least: f32, out: &mut [f32; NIBBLE_ROWS]) -> u64 {
        let (base, step, least) = (_mm256_set1_ps(base), _mm256_set1_ps(step), _mm256_set1_ps(least));
        let mut reached = 0;
        for at in (0..NIBBLE_ROWS).step_by(8) {
            let to = out.as_mut_ptr().add(at);
            let scores = _mm256_add_ps(base, _mm256_mul_ps(step, _mm256_loadu_ps(to)));
            _mm256_storeu_ps(to, scores);
            let lanes = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(scores, least));
            reached |= u64::from(lanes as u8) << at;
        }
        reached
    }
}
