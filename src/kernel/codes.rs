//! Integer kernels: signed 8-bit queries against unsigned 8-bit codes.
//!
//! Sums are exact 32-bit integers on every instruction set, so all of them agree to the bit; the score
//! is that sum as `f32`. Rows are a whole number of cache lines long, so there are no tails.
#![allow(unsafe_code)]

use super::nibbles::{self, ScoreNibbles};
use super::packed::{self, PackedTable};
use super::prefetch::prefetch;

/// Rows are this long or a multiple of it: one cache line.
pub const CODE_ALIGNMENT: usize = 64;

/// How many rows are on their way while one is scored.
const AHEAD: usize = 24;

/// The functions of one instruction set.
///
/// # Safety
///
/// The processor has the instruction set; the query is a multiple of [`CODE_ALIGNMENT`] long; every row
/// id lies inside the matrix and has its place in `out`.
pub(super) struct CodeTable {
    pub(super) rows: ScoreCodeRows,
    pub(super) scan: ScoreCodes,
    pub(super) packed: PackedTable,
    pub(super) nibbles: ScoreNibbles,
}

type ScoreCodeRows = unsafe fn(query: &[i8], codes: &[u8], rows: &[u32], out: &mut [f32]);
type ScoreCodes = unsafe fn(query: &[i8], codes: &[u8], out: &mut [f32]);

/// Rows scored together: their sums are added up across the registers at the price of one.
const TOGETHER: usize = 4;

/// The dot product of one query with one row, and with several.
trait CodeDot {
    /// # Safety
    ///
    /// The instruction set is there, and both pointers lead to `len` bytes, a multiple of 64.
    unsafe fn dot(query: *const i8, row: *const u8, len: usize) -> i32;

    /// # Safety
    ///
    /// As for [`Self::dot`], with each of the rows.
    #[inline(always)]
    unsafe fn dots(query: *const i8, rows: [*const u8; TOGETHER], len: usize) -> [f32; TOGETHER] {
        let mut scores = [0.0; TOGETHER];
        for (score, row) in scores.iter_mut().zip(rows) {
            // SAFETY: the caller's promise.
            *score = unsafe { Self::dot(query, row, len) } as f32;
        }
        scores
    }
}

#[inline(always)]
unsafe fn score_rows<D: CodeDot>(query: &[i8], codes: &[u8], rows: &[u32], out: &mut [f32]) {
    let len = query.len();
    let row = |id: u32| {
        // SAFETY: the promise of `CodeTable`: the row lies inside the matrix.
        unsafe { codes.get_unchecked(id as usize * len..(id as usize + 1) * len) }
    };
    rows.iter().take(AHEAD).for_each(|id| prefetch(row(*id)));
    let mut ahead = rows.iter().skip(AHEAD);
    let (mut groups, mut places) = (rows.chunks_exact(TOGETHER), out.chunks_exact_mut(TOGETHER));
    for (group, scores) in groups.by_ref().zip(places.by_ref()) {
        ahead.by_ref().take(TOGETHER).for_each(|id| prefetch(row(*id)));
        let group = [group[0], group[1], group[2], group[3]];
        // SAFETY: the rows are as long as the query.
        scores.copy_from_slice(&unsafe { D::dots(query.as_ptr(), group.map(|id| row(id).as_ptr()), len) });
    }
    for (id, score) in groups.remainder().iter().zip(places.into_remainder()) {
        // SAFETY: the row is as long as the query.
        *score = unsafe { D::dot(query.as_ptr(), row(*id).as_ptr(), len) } as f32;
    }
}

#[inline(always)]
unsafe fn score_scan<D: CodeDot>(query: &[i8], codes: &[u8], out: &mut [f32]) {
    let len = query.len();
    if len == 0 {
        return out.fill(0.0);
    }
    let (mut groups, mut places) = (codes.chunks_exact(TOGETHER * len), out.chunks_exact_mut(TOGETHER));
    for (group, scores) in groups.by_ref().zip(places.by_ref()) {
        let first = group.as_ptr();
        let rows = [first, first.wrapping_add(len), first.wrapping_add(2 * len), first.wrapping_add(3 * len)];
        // SAFETY: the rows are as long as the query.
        scores.copy_from_slice(&unsafe { D::dots(query.as_ptr(), rows, len) });
    }
    for (row, score) in groups.remainder().chunks_exact(len).zip(places.into_remainder()) {
        // SAFETY: the row is as long as the query.
        *score = unsafe { D::dot(query.as_ptr(), row.as_ptr(), len) } as f32;
    }
}

/// Stamps out the functions of one instruction set, compiled for `$features`.
macro_rules! code_table {
    ($table:ident, $dot:ty, $packed:path, $nibbles:path $(, $features:tt)?) => {
        pub(super) const $table: CodeTable = {
            $(#[target_feature(enable = $features)])?
            unsafe fn rows(query: &[i8], codes: &[u8], rows: &[u32], out: &mut [f32]) {
                // SAFETY: the promises of `CodeTable`.
                unsafe { score_rows::<$dot>(query, codes, rows, out) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn scan(query: &[i8], codes: &[u8], out: &mut [f32]) {
                // SAFETY: the promises of `CodeTable`.
                unsafe { score_scan::<$dot>(query, codes, out) }
            }
            CodeTable { rows, scan, packed: $packed, nibbles: $nibbles }
        };
    };
}

/// The definition of correct.
struct Scalar;

impl CodeDot for Scalar {
    #[inline(always)]
    unsafe fn dot(query: *const i8, row: *const u8, len: usize) -> i32 {
        // SAFETY: the caller's promise.
        let (query, row) =
            unsafe { (std::slice::from_raw_parts(query, len), std::slice::from_raw_parts(row, len)) };
        query.iter().zip(row).map(|(q, code)| i32::from(*q) * i32::from(*code)).sum()
    }
}

code_table!(SCALAR, Scalar, packed::PORTABLE, nibbles::PORTABLE);

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one promise of `CodeDot`

    use std::arch::x86_64::*;

    use super::{CodeDot, TOGETHER};

    /// Widens to 16 bits first: the 8-bit multiply-add of AVX2 saturates.
    pub(super) struct Avx2;

    impl CodeDot for Avx2 {
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
        unsafe fn dots(query: *const i8, rows: [*const u8; TOGETHER], len: usize) -> [f32; TOGETHER] {
            let mut sums = [_mm256_setzero_si256(); TOGETHER];
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

    /// Each register added up across its lanes.
    #[inline(always)]
    unsafe fn across(sums: [__m256i; TOGETHER]) -> [f32; TOGETHER] {
        let pairs =
            _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
        let sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
        std::mem::transmute(_mm_cvtepi32_ps(sums))
    }

    #[inline(always)]
    unsafe fn halves(sum: __m512i) -> __m256i {
        _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum))
    }

    /// The same, twice as wide, for AVX-512 without VNNI.
    pub(super) struct Avx512;

    impl CodeDot for Avx512 {
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
        unsafe fn dots(query: *const i8, rows: [*const u8; TOGETHER], len: usize) -> [f32; TOGETHER] {
            let mut sums = [_mm512_setzero_si512(); TOGETHER];
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

    /// One instruction per 64 products.
    pub(super) struct Vnni;

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
        unsafe fn dots(query: *const i8, rows: [*const u8; TOGETHER], len: usize) -> [f32; TOGETHER] {
            let mut sums = [_mm512_setzero_si512(); TOGETHER];
            for at in (0..len).step_by(64) {
                let q = _mm512_loadu_si512(query.add(at).cast());
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = _mm512_dpbusd_epi32(*sum, _mm512_loadu_si512(row.add(at).cast()), q);
                }
            }
            across([halves(sums[0]), halves(sums[1]), halves(sums[2]), halves(sums[3])])
        }
    }
}

#[cfg(target_arch = "x86_64")]
code_table!(AVX2, x86::Avx2, packed::AVX2, nibbles::AVX2, "avx2");
#[cfg(target_arch = "x86_64")]
code_table!(AVX512, x86::Avx512, packed::AVX2, nibbles::AVX512, "avx512f,avx512bw,avx512vl");
#[cfg(target_arch = "x86_64")]
code_table!(
    AVX512_VNNI,
    x86::Vnni,
    packed::AVX512_VNNI,
    nibbles::AVX512,
    "avx512f,avx512bw,avx512vl,avx512vnni"
);

#[cfg(target_arch = "aarch64")]
mod neon {
    #![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one promise of `CodeDot`

    use std::arch::aarch64::*;

    use super::CodeDot;

    /// Widens both sides to 16 bits: every AArch64 can.
    pub(super) struct Neon;

    impl CodeDot for Neon {
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
}

#[cfg(target_arch = "aarch64")]
code_table!(NEON, neon::Neon, packed::PORTABLE, nibbles::NEON, "neon");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every table this machine can run, by name.
    fn tables() -> Vec<(&'static str, CodeTable)> {
        let mut tables = vec![("scalar", SCALAR)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                tables.push(("avx2", AVX2));
            }
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
                tables.push(("avx512", AVX512));
                if is_x86_feature_detected!("avx512vnni") {
                    tables.push(("avx512 vnni", AVX512_VNNI));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        tables.push(("neon", NEON));
        tables
    }

    fn exact(query: &[i8], row: &[u8]) -> f32 {
        query.iter().zip(row).map(|(q, code)| i64::from(*q) * i64::from(*code)).sum::<i64>() as f32
    }

    proptest! {
        #[test]
        fn every_instruction_set_is_exact(
            lines in 1usize..20,
            rows in 1usize..40,
            shift in 0usize..16,
            seed in prop::collection::vec(any::<u8>(), 64),
        ) {
            let len = lines * CODE_ALIGNMENT;
            let byte = |at: usize| seed[at % 64].wrapping_mul(31).wrapping_add((at / 64) as u8 ^ (at % 251) as u8);
            let query: Vec<i8> = (0..len + shift).map(|at| byte(at * 7) as i8).collect();
            let query = &query[shift..];
            let matrix: Vec<u8> = (0..rows * len + shift).map(byte).collect();
            let matrix = &matrix[shift..];
            let ids: Vec<u32> = (0..rows as u32).rev().chain([0, 0]).collect();
            for (name, table) in tables() {
                let mut out = vec![0f32; ids.len()];
                // SAFETY: the instruction set was detected, the ids lie inside the matrix.
                unsafe { (table.rows)(query, matrix, &ids, &mut out) };
                for (id, score) in ids.iter().zip(&out) {
                    let row = &matrix[*id as usize * len..(*id as usize + 1) * len];
                    prop_assert_eq!(*score, exact(query, row), "{} row {}", name, id);
                }
                let mut scan = vec![0f32; rows];
                // SAFETY: as above.
                unsafe { (table.scan)(query, matrix, &mut scan) };
                scan.reverse();
                prop_assert_eq!(&scan[..], &out[..rows], "{}", name);
            }
        }

        #[test]
        fn packed_rows_have_the_same_sums(
            lines in 0usize..5,
            rows in 1usize..40,
            queries in 0usize..20,
            seed in prop::collection::vec(any::<u8>(), 64),
        ) {
            let len = lines * CODE_ALIGNMENT;
            let byte = |at: usize| seed[at % 64].wrapping_mul(31).wrapping_add((at / 64) as u8 ^ (at % 251) as u8);
            let queries: Vec<i8> = (0..queries * len).map(|at| byte(at * 7) as i8).collect();
            let matrix: Vec<u8> = (0..rows * len).map(byte).collect();
            let mut blocks = Vec::new();
            packed::pack((0..rows).map(|row| &matrix[row * len..(row + 1) * len]), len, &mut blocks);
            let count = queries.len().checked_div(len).unwrap_or_default();
            let padded = rows.next_multiple_of(packed::PACKED_ROWS);
            for (name, table) in tables() {
                let mut out = vec![-1; count * padded];
                // SAFETY: the instruction set was detected, and there is a place for each query and row.
                unsafe { (table.packed.sums)(&queries, len, &blocks, &mut out) };
                for (query, sums) in queries.chunks(len.max(1)).zip(out.chunks(padded)) {
                    let scores = matrix.chunks(len).map(|row| exact(query, row) as i32);
                    let expected: Vec<i32> = scores.chain(std::iter::repeat(0)).take(padded).collect();
                    prop_assert_eq!(sums, &expected[..], "{}", name);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn sums_become_scores(sums in prop::collection::vec(-1000i32..1000, 0..200)) {
            let offsets: Vec<f32> = (0..sums.len()).map(|at| (at % 7) as f32).collect();
            let expected: Vec<f32> =
                sums.iter().zip(&offsets).map(|(sum, offset)| 3.0 + 0.5 * *sum as f32 - offset).collect();
            for (name, table) in tables() {
                let mut scores = vec![0.0; sums.len()];
                // SAFETY: the instruction set was detected.
                unsafe { (table.packed.scores)(&sums, 3.0, 0.5, &offsets, &mut scores) };
                prop_assert_eq!(&scores, &expected, "{}", name);
            }
        }
    }

    #[test]
    fn the_largest_products_do_not_saturate() {
        for extreme in [i8::MIN, i8::MAX] {
            let (query, row) = (vec![extreme; 4096], vec![u8::MAX; 4096]);
            for (name, table) in tables() {
                let mut out = [0f32];
                // SAFETY: the instruction set was detected, row 0 lies inside the matrix.
                unsafe { (table.rows)(&query, &row, &[0], &mut out) };
                assert_eq!(out[0], exact(&query, &row), "{name}");
            }
        }
    }
}
