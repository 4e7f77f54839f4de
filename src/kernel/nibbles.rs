//! Scores by looked-up bytes: rows of 4-bit codes, 64 at a time.
//!
//! Every 4-bit code of a row picks one of sixteen bytes of a table, and their sum is what the row scores. With the
//! table of a query in a register, one instruction looks up the codes of a whole register of rows (André,
//! Kermarrec and Le Scouarnec, "Cache locality is not enough", 2015).
//!
//! ```text
//! block of 64 rows: for each pair of codes (a, b): 64 bytes, byte 2j + h of row 32h + j: a | b << 4
//! table:            for each code: 16 bytes, each at most 127
//! ```
#![allow(unsafe_code)]

/// Rows per block.
pub const NIBBLE_ROWS: usize = 64;
/// Bytes of a table for one code.
pub const TABLE_BYTES: usize = 16;
/// The largest byte of a table: two of them fit into one.
pub const MAX_ENTRY: u8 = 127;

/// Bytes of a table for a pair of codes.
const PAIR_BYTES: usize = 2 * TABLE_BYTES;
/// Pairs whose sums fit into 16 bits.
const MAX_PAIRS: usize = 256;

/// `out[row]` becomes `base + step · sum` for each row of the block `codes`; bit `row` of what is given is set if that
/// is `least` or more.
///
/// # Safety
///
/// The processor has the instruction set; `table` is whole pairs long, and `codes` a block of as many pairs.
pub(super) type ScoreNibbles = unsafe fn(
    table: &[u8],
    codes: &[u8],
    affine: (f32, f32),
    least: f32,
    out: &mut [f32; NIBBLE_ROWS],
) -> u64;

/// One block.
trait Nibbles {
    /// Sums up to [`MAX_PAIRS`] pairs.
    ///
    /// # Safety
    ///
    /// The instruction set is there; `table` leads to `pairs` times [`PAIR_BYTES`], `codes` to as many times
    /// [`NIBBLE_ROWS`].
    unsafe fn sums(table: *const u8, codes: *const u8, pairs: usize, out: &mut [f32; NIBBLE_ROWS]);

    /// Makes scores of sums.
    ///
    /// # Safety
    ///
    /// The instruction set is there.
    #[inline(always)]
    unsafe fn scores((base, step): (f32, f32), least: f32, out: &mut [f32; NIBBLE_ROWS]) -> u64 {
        let mut reached = 0;
        for (row, score) in out.iter_mut().enumerate() {
            *score = base + step * *score;
            reached |= u64::from(*score >= least) << row;
        }
        reached
    }
}

#[inline(always)]
unsafe fn score_block<N: Nibbles>(
    table: &[u8],
    codes: &[u8],
    affine: (f32, f32),
    least: f32,
    out: &mut [f32; NIBBLE_ROWS],
) -> u64 {
    let pairs = table.len() / PAIR_BYTES;
    let first = pairs.min(MAX_PAIRS);
    // SAFETY: the table and the block have that many pairs.
    unsafe { N::sums(table.as_ptr(), codes.as_ptr(), first, out) };
    for start in (first..pairs).step_by(MAX_PAIRS) {
        let mut more = [0.0; NIBBLE_ROWS];
        let (table, codes) = (&table[start * PAIR_BYTES..], &codes[start * NIBBLE_ROWS..]);
        // SAFETY: as above, for the rest of them.
        unsafe { N::sums(table.as_ptr(), codes.as_ptr(), (pairs - start).min(MAX_PAIRS), &mut more) };
        out.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    // SAFETY: the caller's promise.
    unsafe { N::scores(affine, least, out) }
}

/// The definition of correct.
struct Portable;

impl Nibbles for Portable {
    #[inline(always)]
    unsafe fn sums(table: *const u8, codes: *const u8, pairs: usize, out: &mut [f32; NIBBLE_ROWS]) {
        // SAFETY: the caller's promise.
        let (table, codes) = unsafe {
            let table = std::slice::from_raw_parts(table, pairs * PAIR_BYTES);
            (table, std::slice::from_raw_parts(codes, pairs * NIBBLE_ROWS))
        };
        let mut sums = [0u16; NIBBLE_ROWS];
        for (table, codes) in table.as_chunks::<PAIR_BYTES>().0.iter().zip(codes.chunks_exact(NIBBLE_ROWS)) {
            for (sum, code) in sums.iter_mut().zip(codes) {
                let (low, high) = (usize::from(code & 15), TABLE_BYTES + usize::from(code >> 4));
                *sum += u16::from(table[low]) + u16::from(table[high]);
            }
        }
        for (at, sum) in sums.into_iter().enumerate() {
            out[row_of(at)] = f32::from(sum);
        }
    }
}

/// The row whose codes are at this byte of every pair.
pub const fn row_of(byte: usize) -> usize {
    NIBBLE_ROWS / 2 * (byte % 2) + byte / 2
}

/// Stamps out the function of one instruction set, compiled for `$features`.
macro_rules! nibbles {
    ($name:ident, $nibbles:ty $(, $features:tt)?) => {
        pub(super) const $name: ScoreNibbles = {
            $(#[target_feature(enable = $features)])?
            unsafe fn score(
                table: &[u8],
                codes: &[u8],
                affine: (f32, f32),
                least: f32,
                out: &mut [f32; NIBBLE_ROWS],
            ) -> u64 {
                // SAFETY: the promises of `ScoreNibbles`.
                unsafe { score_block::<$nibbles>(table, codes, affine, least, out) }
            }
            score
        };
    };
}

nibbles!(PORTABLE, Portable);
#[cfg(target_arch = "x86_64")]
nibbles!(AVX2, x86::Avx2, "avx2");
#[cfg(target_arch = "x86_64")]
nibbles!(AVX512, x86::Avx512, "avx512f,avx512bw,avx512vl");

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one promise of `Nibbles`

    use std::arch::x86_64::*;

    use super::{NIBBLE_ROWS, Nibbles, PAIR_BYTES, TABLE_BYTES};

    /// Sums of even and odd bytes apart: 16-bit sums of whole words have the odd ones in their upper halves, and are
    /// rid of them at the end.
    pub(super) struct Avx512;

    impl Nibbles for Avx512 {
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
                let second =
                    _mm512_shuffle_epi8(entries(1), _mm512_and_si512(_mm512_srli_epi16::<4>(both), low));
                let sum = _mm512_add_epi8(first, second);
                words = _mm512_add_epi16(words, sum);
                odd = _mm512_add_epi16(odd, _mm512_srli_epi16::<8>(sum));
            }
            let even = _mm512_sub_epi16(words, _mm512_slli_epi16::<8>(odd));
            for (half, sums) in [even, odd].into_iter().enumerate() {
                for (quarter, sums) in [_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums)]
                    .into_iter()
                    .enumerate()
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
                // As every other instruction set rounds.
                let scores = _mm512_add_ps(base, _mm512_mul_ps(step, _mm512_loadu_ps(to)));
                _mm512_storeu_ps(to, scores);
                reached |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, least)) << at;
            }
            reached
        }
    }

    /// The same for half the rows at a time.
    pub(super) struct Avx2;

    impl Nibbles for Avx2 {
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
                for part in 0..2 {
                    let both = _mm256_loadu_si256(codes.add(pair * NIBBLE_ROWS + 32 * part).cast());
                    let first = _mm256_shuffle_epi8(even_entries, _mm256_and_si256(both, low));
                    let second =
                        _mm256_shuffle_epi8(odd_entries, _mm256_and_si256(_mm256_srli_epi16::<4>(both), low));
                    let sum = _mm256_add_epi8(first, second);
                    words[part] = _mm256_add_epi16(words[part], sum);
                    odd[part] = _mm256_add_epi16(odd[part], _mm256_srli_epi16::<8>(sum));
                }
            }
            for part in 0..2 {
                let even = _mm256_sub_epi16(words[part], _mm256_slli_epi16::<8>(odd[part]));
                for (half, sums) in [even, odd[part]].into_iter().enumerate() {
                    for (eighth, sums) in [_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums)]
                        .into_iter()
                        .enumerate()
                    {
                        let sums = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums));
                        _mm256_storeu_ps(out.as_mut_ptr().add(32 * half + 16 * part + 8 * eighth), sums);
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
}

#[cfg(target_arch = "aarch64")]
nibbles!(NEON, neon::Neon, "neon");

#[cfg(target_arch = "aarch64")]
mod neon {
    #![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one promise of `Nibbles`

    use std::arch::aarch64::*;

    use super::{NIBBLE_ROWS, Nibbles, PAIR_BYTES, TABLE_BYTES};

    /// As on x86-64, a quarter of the rows at a time.
    pub(super) struct Neon;

    impl Nibbles for Neon {
        #[inline(always)]
        unsafe fn sums(table: *const u8, codes: *const u8, pairs: usize, out: &mut [f32; NIBBLE_ROWS]) {
            for part in 0..4 {
                let (mut even, mut odd) = (vdupq_n_u16(0), vdupq_n_u16(0));
                for pair in 0..pairs {
                    let table = table.add(pair * PAIR_BYTES);
                    let both = vld1q_u8(codes.add(pair * NIBBLE_ROWS + 16 * part));
                    let first = vqtbl1q_u8(vld1q_u8(table), vandq_u8(both, vdupq_n_u8(15)));
                    let second = vqtbl1q_u8(vld1q_u8(table.add(TABLE_BYTES)), vshrq_n_u8::<4>(both));
                    let sum = vreinterpretq_u16_u8(vaddq_u8(first, second));
                    even = vaddq_u16(even, vandq_u16(sum, vdupq_n_u16(255)));
                    odd = vaddq_u16(odd, vshrq_n_u16::<8>(sum));
                }
                for (half, sums) in [even, odd].into_iter().enumerate() {
                    let to = out.as_mut_ptr().add(32 * half + 8 * part);
                    vst1q_f32(to, vcvtq_f32_u32(vmovl_u16(vget_low_u16(sums))));
                    vst1q_f32(to.add(4), vcvtq_f32_u32(vmovl_u16(vget_high_u16(sums))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every function this machine can run, by name.
    fn functions() -> Vec<(&'static str, ScoreNibbles)> {
        let mut functions = vec![("portable", PORTABLE)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                functions.push(("avx2", AVX2));
            }
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
                functions.push(("avx512", AVX512));
            }
        }
        #[cfg(target_arch = "aarch64")]
        functions.push(("neon", NEON));
        functions
    }

    fn check(pairs: usize, byte: impl Fn(usize) -> u8) {
        let table: Vec<u8> = (0..pairs * PAIR_BYTES).map(|at| byte(7 * at) & MAX_ENTRY).collect();
        let codes: Vec<u8> = (0..pairs * NIBBLE_ROWS).map(&byte).collect();
        let entry = |code: usize, nibble: u8| u32::from(table[code * TABLE_BYTES + usize::from(nibble)]);
        let mut sums = [0u32; NIBBLE_ROWS];
        for (at, code) in codes.iter().enumerate() {
            let pair = at / NIBBLE_ROWS;
            sums[row_of(at % NIBBLE_ROWS)] += entry(2 * pair, code & 15) + entry(2 * pair + 1, code >> 4);
        }
        let expected = sums.map(|sum| -3.0 + 0.25 * sum as f32);
        for least in [expected[5], f32::NEG_INFINITY, f32::INFINITY] {
            let reached = (0..NIBBLE_ROWS).map(|row| u64::from(expected[row] >= least) << row).sum::<u64>();
            for (name, score) in functions() {
                let mut out = [-1.0; NIBBLE_ROWS];
                // SAFETY: the instruction set was detected, and the lengths agree.
                let found = unsafe { score(&table, &codes, (-3.0, 0.25), least, &mut out) };
                assert_eq!((found, out), (reached, expected), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_has_the_same_scores(
            pairs in 0usize..70,
            seed in prop::collection::vec(any::<u8>(), 64),
        ) {
            check(pairs, |at| seed[at % 64].wrapping_mul(31).wrapping_add((at / 64) as u8 ^ (at % 251) as u8));
        }
    }

    #[test]
    fn the_largest_sums_of_the_longest_rows_do_not_overflow() {
        for pairs in [MAX_PAIRS - 1, MAX_PAIRS, MAX_PAIRS + 1, 3 * MAX_PAIRS + 5] {
            check(pairs, |_| u8::MAX);
        }
    }
}
