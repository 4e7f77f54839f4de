//! Integer kernels for many queries against many rows: codes in packed blocks.
//!
//! A block holds [`PACKED_ROWS`] rows, four bytes of each in turn. One register then holds the same four
//! bytes of every row of the block, and the sums of a query end up side by side: nothing is added up
//! across a register, and each register of rows serves several queries.
//!
//! ```text
//! block: row 0 bytes 0..4 · row 1 bytes 0..4 · … row 15 bytes 0..4 · row 0 bytes 4..8 · …
//! ```
#![allow(unsafe_code)]

/// Rows per block.
pub const PACKED_ROWS: usize = 16;

/// Queries that share a register of rows.
const TILE: usize = 8;

/// `out[q × rows + r] = queries[q] · row r`, for whole blocks of rows.
///
/// # Safety
///
/// The processor has the instruction set; `len` is a multiple of 4, `queries` a multiple of it and
/// `packed` a multiple of 16 times it; `out` has a place for each query and row.
pub(super) type ScorePacked = unsafe fn(queries: &[i8], len: usize, packed: &[u8], out: &mut [i32]);

/// Appends `rows`, each `[len]`, to `packed` in blocks; the last block is filled up with zeros.
///
/// # Panics
/// If a row has another length, or `len` is not a multiple of 4.
pub fn pack<'a>(rows: impl Iterator<Item = &'a [u8]>, len: usize, packed: &mut Vec<u8>) {
    assert!(len.is_multiple_of(4), "rows of {len} codes are no whole number of words");
    for (position, row) in rows.enumerate() {
        assert_eq!(row.len(), len, "a row of another length");
        let lane = position % PACKED_ROWS;
        if lane == 0 {
            packed.resize(packed.len() + PACKED_ROWS * len, 0);
        }
        let start = packed.len() - PACKED_ROWS * len;
        let block = packed[start..].chunks_exact_mut(4 * PACKED_ROWS);
        for (word, four) in block.zip(row.chunks_exact(4)) {
            word[4 * lane..4 * lane + 4].copy_from_slice(four);
        }
    }
}

/// The sums of up to [`TILE`] queries with one block.
trait PackedDot {
    /// # Safety
    ///
    /// The instruction set is there; `queries` leads to `Q × len` bytes, `block` to `16 × len`, and `out`
    /// to 16 places for each query, `stride` apart.
    unsafe fn tile<const Q: usize>(
        queries: *const i8,
        len: usize,
        block: *const u8,
        out: *mut i32,
        stride: usize,
    );
}

#[inline(always)]
unsafe fn score<D: PackedDot>(queries: &[i8], len: usize, packed: &[u8], out: &mut [i32]) {
    if len == 0 {
        return out.fill(0);
    }
    let count = queries.len() / len;
    let rows = packed.len() / len;
    for (at, block) in packed.chunks_exact(PACKED_ROWS * len).enumerate() {
        let tiles = count / TILE * TILE;
        let place = |query: usize| query * rows + at * PACKED_ROWS;
        for query in (0..tiles).step_by(TILE) {
            // SAFETY: the queries from here to the end of the tile are there, and so are their places.
            unsafe {
                let out = out.as_mut_ptr().add(place(query));
                D::tile::<TILE>(queries.as_ptr().add(query * len), len, block.as_ptr(), out, rows);
            }
        }
        for query in tiles..count {
            // SAFETY: as above, for one query.
            unsafe {
                let out = out.as_mut_ptr().add(place(query));
                D::tile::<1>(queries.as_ptr().add(query * len), len, block.as_ptr(), out, rows);
            }
        }
    }
}

/// `scores[i] = bias + scale · sums[i] − offsets[i]`.
#[inline(always)]
fn scores(sums: &[i32], bias: f32, scale: f32, offsets: &[f32], scores: &mut [f32]) {
    for ((score, sum), offset) in scores.iter_mut().zip(sums).zip(offsets) {
        *score = bias + scale * *sum as f32 - offset;
    }
}

/// The functions of one instruction set.
///
/// # Safety
///
/// The processor has the instruction set; for `sums`, also what [`ScorePacked`] says.
pub(super) struct PackedTable {
    pub(super) sums: ScorePacked,
    pub(super) scores: unsafe fn(sums: &[i32], bias: f32, scale: f32, offsets: &[f32], scores: &mut [f32]),
}

/// Stamps out the functions of one instruction set, compiled for `$features`.
macro_rules! packed_table {
    ($table:ident, $dot:ty $(, $features:tt)?) => {
        pub(super) const $table: PackedTable = {
            $(#[target_feature(enable = $features)])?
            unsafe fn sums(queries: &[i8], len: usize, packed: &[u8], out: &mut [i32]) {
                // SAFETY: the promises of `ScorePacked`.
                unsafe { score::<$dot>(queries, len, packed, out) }
            }
            $(#[target_feature(enable = $features)])?
            fn all_scores(sums: &[i32], bias: f32, scale: f32, offsets: &[f32], out: &mut [f32]) {
                scores(sums, bias, scale, offsets, out)
            }
            PackedTable { sums, scores: all_scores }
        };
    };
}

/// The definition of correct, and what AArch64 runs: compilers turn it into vector code.
struct Portable;

impl PackedDot for Portable {
    #[inline(always)]
    unsafe fn tile<const Q: usize>(
        queries: *const i8,
        len: usize,
        block: *const u8,
        out: *mut i32,
        stride: usize,
    ) {
        for q in 0..Q {
            let mut sums = [0i32; PACKED_ROWS];
            for at in (0..len).step_by(4) {
                // SAFETY: the caller's promise: `at + 4 <= len`.
                let (query, word) = unsafe {
                    let query = std::slice::from_raw_parts(queries.add(q * len + at), 4);
                    (query, std::slice::from_raw_parts(block.add(PACKED_ROWS * at), 4 * PACKED_ROWS))
                };
                for (sum, four) in sums.iter_mut().zip(word.chunks_exact(4)) {
                    *sum += four.iter().zip(query).map(|(c, q)| i32::from(*c) * i32::from(*q)).sum::<i32>();
                }
            }
            // SAFETY: the caller's promise: 16 places for each query.
            unsafe { out.add(q * stride).copy_from_nonoverlapping(sums.as_ptr(), PACKED_ROWS) };
        }
    }
}

packed_table!(PORTABLE, Portable);

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_op_in_unsafe_fn)] // each function is a few intrinsics under the one promise of `PackedDot`

    use std::arch::x86_64::*;

    use super::{PACKED_ROWS, PackedDot};

    /// Even and odd bytes as 16-bit lanes: the 8-bit multiply-add of AVX2 saturates.
    pub(super) struct Avx2;

    impl PackedDot for Avx2 {
        #[inline(always)]
        unsafe fn tile<const Q: usize>(
            queries: *const i8,
            len: usize,
            block: *const u8,
            out: *mut i32,
            stride: usize,
        ) {
            let low = _mm256_set1_epi16(0xff);
            // Eight rows at a time: with sixteen, the sums of a tile would not fit into the registers.
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

    /// One instruction per 64 products.
    pub(super) struct Vnni;

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
}

#[cfg(target_arch = "x86_64")]
packed_table!(AVX2, x86::Avx2, "avx2");
#[cfg(target_arch = "x86_64")]
packed_table!(AVX512_VNNI, x86::Vnni, "avx512f,avx512bw,avx512vl,avx512vnni");
