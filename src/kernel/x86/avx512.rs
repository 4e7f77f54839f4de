//! AVX-512 F, BW and VL, with or without VNNI: registers of 512 bits.
#![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one requirement of its trait

use std::arch::x86_64::*;

use half::f16;

use super::avx2::{self, across};
use crate::kernel::generic::codes::{BATCH, CodeDot, code_table};
use crate::kernel::generic::float::{Load, Simd, float_table};
use crate::kernel::generic::near::near;
use crate::kernel::generic::nibbles::{NIBBLE_ROWS, Nibbles, PAIR_BYTES, TABLE_BYTES, score_nibbles};
use crate::kernel::generic::packed::{PACKED_ROWS, PackedDot, packed_table};
use crate::kernel::generic::select::{LANES, select_table};
use crate::kernel::tables::{IsNear, ScoreNibbles, SelectTable, Tables};

/// Requires [`is_detected`].
pub(in crate::kernel) const TABLES: Tables = Tables {
    f32: floats::F32,
    f16: floats::F16,
    codes: code_table!(Avx512Codes, "avx512f,avx512bw,avx512vl"),
    packed: avx2::PACKED,
    nibbles: NIBBLES,
    select: SELECT,
    is_near: IS_NEAR,
};

/// Requires [`has_vnni`].
pub(in crate::kernel) const WITH_VNNI: Tables = Tables {
    f32: floats::F32,
    f16: floats::F16,
    codes: code_table!(Vnni, "avx512f,avx512bw,avx512vl,avx512vnni"),
    packed: packed_table!(Vnni, "avx512f,avx512bw,avx512vl,avx512vnni"),
    nibbles: NIBBLES,
    select: SELECT,
    is_near: IS_NEAR,
};

const IS_NEAR: IsNear = near!("avx512f,avx512bw,avx512vl");
const NIBBLES: ScoreNibbles = score_nibbles!(Avx512Codes, "avx512f,avx512bw,avx512vl");
const SELECT: SelectTable = select_table!(absent, at_least, count, ones, "avx512f,popcnt");

float_table!(floats, Avx512, "avx512f,avx512bw,avx512vl");

/// Returns whether this processor has AVX-512 F, BW and VL.
pub(in crate::kernel) fn is_detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// Returns whether it also has VNNI, 8-bit dot products.
pub(in crate::kernel) fn has_vnni() -> bool {
    is_detected() && is_x86_feature_detected!("avx512vnni")
}

/// Sixteen `f32`.
#[derive(Clone, Copy)]
struct Avx512(__m512);

impl Simd for Avx512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Avx512(_mm512_setzero_ps())
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Avx512(_mm512_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Avx512(_mm512_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        Avx512(_mm512_fmadd_ps(self.0, factor.0, sum.0))
    }

    #[inline(always)]
    unsafe fn sums(four: [Self; 4]) -> [f32; 4] {
        let [Avx512(a), Avx512(b), Avx512(c), Avx512(d)] = four;
        // Add halves of 256 bits, then quarters, then within each quarter: every register ends up in one quarter.
        let ab = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
            _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
        );
        let cd = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d),
            _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d),
        );
        let quarters = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd),
        );
        let pairs = _mm512_add_ps(quarters, _mm512_permute_ps::<0b01_00_11_10>(quarters));
        let sums = _mm512_add_ps(pairs, _mm512_permute_ps::<0b10_11_00_01>(pairs));
        let firsts = _mm512_maskz_compress_ps(0b0001_0001_0001_0001, sums);
        std::mem::transmute(_mm512_castps512_ps128(firsts))
    }
}

impl Load<f32> for Avx512 {
    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        Avx512(_mm512_loadu_ps(source))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f32, count: usize) -> Self {
        Avx512(_mm512_maskz_loadu_ps((1 << count) - 1, source))
    }
}

impl Load<f16> for Avx512 {
    #[inline(always)]
    unsafe fn load(source: *const f16) -> Self {
        Avx512(_mm512_cvtph_ps(_mm256_loadu_si256(source.cast())))
    }

    #[inline(always)]
    unsafe fn load_head(source: *const f16, count: usize) -> Self {
        Avx512(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16((1 << count) - 1, source.cast())))
    }
}

/// Adds the upper half to the lower half.
#[inline(always)]
unsafe fn halves(sum: __m512i) -> __m256i {
    _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum))
}

/// Integer kernels without VNNI: codes are widened to 16 bits, as for AVX2.
struct Avx512Codes;

impl CodeDot for Avx512Codes {
    #[inline(always)]
    unsafe fn dot(query: *const i8, row: *const u8, len: usize) -> i32 {
        let mut sums = [_mm512_setzero_si512(); 2];
        for at in (0..len).step_by(64) {
            for (half, sum) in sums.iter_mut().enumerate() {
                let q = _mm512_cvtepi8_epi16(_mm256_loadu_si256(query.add(at + 32 * half).cast()));
                let x = _mm512_cvtepu8_epi16(_mm256_loadu_si256(row.add(at + 32 * half).cast()));
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(q, x));
            }
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
    }

    #[inline(always)]
    unsafe fn dots(query: *const i8, rows: [*const u8; BATCH], len: usize) -> [f32; BATCH] {
        let mut sums = [_mm512_setzero_si512(); BATCH];
        for at in (0..len).step_by(32) {
            let q = _mm512_cvtepi8_epi16(_mm256_loadu_si256(query.add(at).cast()));
            for (sum, row) in sums.iter_mut().zip(rows) {
                let x = _mm512_cvtepu8_epi16(_mm256_loadu_si256(row.add(at).cast()));
                *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(q, x));
            }
        }
        across([halves(sums[0]), halves(sums[1]), halves(sums[2]), halves(sums[3])])
    }
}

/// Integer kernels with VNNI: one instruction per 64 products.
struct Vnni;

impl CodeDot for Vnni {
    #[inline(always)]
    unsafe fn dot(query: *const i8, row: *const u8, len: usize) -> i32 {
        let mut sum = _mm512_setzero_si512();
        for at in (0..len).step_by(64) {
            let q = _mm512_loadu_si512(query.add(at).cast());
            let x = _mm512_loadu_si512(row.add(at).cast());
            sum = _mm512_dpbusd_epi32(sum, x, q);
        }
        _mm512_reduce_add_epi32(sum)
    }

    #[inline(always)]
    unsafe fn dots(query: *const i8, rows: [*const u8; BATCH], len: usize) -> [f32; BATCH] {
        let mut sums = [_mm512_setzero_si512(); BATCH];
        for at in (0..len).step_by(64) {
            let q = _mm512_loadu_si512(query.add(at).cast());
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_loadu_si512(row.add(at).cast()), q);
            }
        }
        across([halves(sums[0]), halves(sums[1]), halves(sums[2]), halves(sums[3])])
    }
}

impl PackedDot for Vnni {
    #[inline(always)]
    unsafe fn tile<const Q: usize>(
        queries: *const i8,
        len: usize,
        block: *const u8,
        out: *mut i32,
        stride: usize,
    ) {
        let mut sums = [_mm512_setzero_si512(); Q];
        for at in (0..len).step_by(4) {
            let word = _mm512_loadu_si512(block.add(PACKED_ROWS * at).cast());
            for (q, sum) in sums.iter_mut().enumerate() {
                let four = _mm512_set1_epi32(queries.add(q * len + at).cast::<i32>().read_unaligned());
                *sum = _mm512_dpbusd_epi32(*sum, word, four);
            }
        }
        for (q, sum) in sums.iter().enumerate() {
            _mm512_storeu_si512(out.add(q * stride).cast(), *sum);
        }
    }
}

/// Even and odd bytes are summed separately: the 16-bit sums of whole words have the sums of odd bytes in their upper
/// halves, which are subtracted at the end.
impl Nibbles for Avx512Codes {
    #[inline(always)]
    unsafe fn sums(table: *const u8, codes: *const u8, pairs: usize, out: &mut [f32; NIBBLE_ROWS]) {
        let low = _mm512_set1_epi8(15);
        let (mut words, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for pair in 0..pairs {
            let both = _mm512_loadu_si512(codes.add(pair * NIBBLE_ROWS).cast());
            let entries = |code: usize| {
                let entries = table.add(pair * PAIR_BYTES + code * TABLE_BYTES);
                _mm512_broadcast_i32x4(_mm_loadu_si128(entries.cast()))
            };
            let first = _mm512_shuffle_epi8(entries(0), _mm512_and_si512(both, low));
            let second = _mm512_shuffle_epi8(entries(1), _mm512_and_si512(_mm512_srli_epi16::<4>(both), low));
            let sum = _mm512_add_epi8(first, second);
            words = _mm512_add_epi16(words, sum);
            odd = _mm512_add_epi16(odd, _mm512_srli_epi16::<8>(sum));
        }
        let even = _mm512_sub_epi16(words, _mm512_slli_epi16::<8>(odd));
        for (half, sums) in [even, odd].into_iter().enumerate() {
            for (quarter, sums) in
                [_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums)].into_iter().enumerate()
            {
                let sums = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));
                _mm512_storeu_ps(out.as_mut_ptr().add(32 * half + 16 * quarter), sums);
            }
        }
    }

    #[inline(always)]
    unsafe fn scores((base, step): (f32, f32), least: f32, out: &mut [f32; NIBBLE_ROWS]) -> u64 {
        let (base, step, least) = (_mm512_set1_ps(base), _mm512_set1_ps(step), _mm512_set1_ps(least));
        let mut reached = 0;
        for at in (0..NIBBLE_ROWS).step_by(16) {
            let to = out.as_mut_ptr().add(at);
            // Not a fused multiply-add: every instruction set rounds the same way.
            let scores = _mm512_add_ps(base, _mm512_mul_ps(step, _mm512_loadu_ps(to)));
            _mm512_storeu_ps(to, scores);
            reached |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, least)) << at;
        }
        reached
    }
}

/// Returns a mask of the first `values` lanes, at most all.
fn lanes(values: usize) -> __mmask16 {
    (1u32 << values).wrapping_sub(1) as __mmask16
}

/// Writes the `values` in `mask` to `to` and the following places, and returns how many.
///
/// # Safety
///
/// The processor has AVX-512 F; there is room for that many.
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn compress(mask: __mmask16, values: __m512i, to: *mut u32) -> usize {
    let count = mask.count_ones() as usize;
    // Compress in a register first: compressing to memory is microcoded on some processors.
    let packed = _mm512_maskz_compress_epi32(mask, values);
    // SAFETY: required of the caller.
    unsafe { _mm512_mask_storeu_epi32(to.cast(), lanes(count), packed) };
    count
}

/// Tests sixteen ids at a time, with their words gathered.
///
/// # Safety
///
/// As for [`SelectTable`](crate::kernel::tables::SelectTable).
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn absent(words: &[u32], limit: u32, ids: &[u32], out: &mut [u32]) -> usize {
    let (limit, one) = (_mm512_set1_epi32(limit as i32), _mm512_set1_epi32(1));
    let mut count = 0;
    for chunk in ids.chunks(LANES) {
        let lanes = lanes(chunk.len());
        // SAFETY: only lanes of the chunk are read; the words of ids below the limit are there; at most as
        // many are written as were read.
        unsafe {
            let ids = _mm512_maskz_loadu_epi32(lanes, chunk.as_ptr().cast());
            let inside = _mm512_mask_cmplt_epu32_mask(lanes, ids, limit);
            let at = _mm512_srli_epi32::<5>(ids);
            let gathered = _mm512_mask_i32gather_epi32::<4>(one, inside, at, words.as_ptr().cast());
            let bits = _mm512_sllv_epi32(one, _mm512_and_si512(ids, _mm512_set1_epi32(31)));
            let absent = _mm512_mask_testn_epi32_mask(inside, gathered, bits);
            count += compress(absent, ids, out.as_mut_ptr().add(count));
        }
    }
    count
}

#[target_feature(enable = "avx512f,popcnt")]
fn at_least(scores: &[f32], least: f32, found: &mut Vec<u32>) {
    let least = _mm512_set1_ps(least);
    let mut at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for chunk in scores.chunks(LANES) {
        found.reserve(LANES);
        // SAFETY: only lanes of the chunk are read; there is room for all of them, and the length grows by the
        // number written.
        unsafe {
            let scores = _mm512_maskz_loadu_ps(lanes(chunk.len()), chunk.as_ptr());
            let reached = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(lanes(chunk.len()), scores, least);
            let count = compress(reached, at, found.as_mut_ptr().add(found.len()));
            found.set_len(found.len() + count);
        }
        at = _mm512_add_epi32(at, _mm512_set1_epi32(LANES as i32));
    }
}

/// Counts 64 bits per instruction, which is faster than compiler-generated vector code.
#[target_feature(enable = "popcnt")]
fn ones(words: &[u32]) -> usize {
    let (pairs, rest) = words.as_chunks::<2>();
    let pairs = pairs.iter().map(|[low, high]| u64::from(*low) | u64::from(*high) << 32);
    let count = |count: usize, ones: u32| count + ones as usize;
    let of_pairs = pairs.map(u64::count_ones).fold(0, count);
    rest.iter().map(|word| word.count_ones()).fold(of_pairs, count)
}

#[target_feature(enable = "avx512f,popcnt")]
fn count(scores: &[f32], least: f32) -> usize {
    let least = _mm512_set1_ps(least);
    let mut count = 0;
    for chunk in scores.chunks(LANES) {
        // SAFETY: only lanes of the chunk are read.
        let scores = unsafe { _mm512_maskz_loadu_ps(lanes(chunk.len()), chunk.as_ptr()) };
        let reached = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(lanes(chunk.len()), scores, least);
        count += reached.count_ones() as usize;
    }
    count
}
