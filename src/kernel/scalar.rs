//! Plain loops, for every processor: the definition of correct. All other instruction sets are tested against this file.

use super::generic::codes::{CodeDot, code_table};
use super::generic::near::near;
use super::generic::nibbles::{NIBBLE_ROWS, Nibbles, PAIR_BYTES, TABLE_BYTES, row_of, score_nibbles};
use super::generic::packed::{PACKED_ROWS, PackedDot, packed_table};
use super::generic::select::{self, select_table};
use super::tables::{FloatTable, PackedTable, SelectTable, Tables};
use crate::base::element::Element;

pub(super) const TABLES: Tables = Tables {
    f32: float_table(),
    f16: float_table(),
    codes: code_table!(Scalar),
    packed: PACKED,
    nibbles: score_nibbles!(Scalar),
    select: SELECT,
    is_near: near!(),
};
pub(super) const PACKED: PackedTable = packed_table!(Scalar);
pub(super) const SELECT: SelectTable =
    select_table!(select::absent, select::at_least, select::count, select::ones);

const fn float_table<T: Element>() -> FloatTable<T> {
    FloatTable { dot, l2_squared, norm_squared, dot_rows, l2_squared_rows, dot_scan, l2_squared_scan }
}

fn dot<T: Element>(query: &[f32], row: &[T]) -> f32 {
    query.iter().zip(row).map(|(q, x)| q * x.to_f32()).sum()
}

fn l2_squared<T: Element>(query: &[f32], row: &[T]) -> f32 {
    query.iter().zip(row).map(|(q, x)| (q - x.to_f32()) * (q - x.to_f32())).sum()
}

fn norm_squared<T: Element>(row: &[T]) -> f32 {
    row.iter().map(|x| x.to_f32() * x.to_f32()).sum()
}

fn dot_rows<T: Element>(query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]) {
    for (score, &id) in out.iter_mut().zip(rows) {
        *score = dot(query, row(matrix, id as usize, query.len()));
    }
}

fn l2_squared_rows<T: Element>(query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]) {
    for (score, &id) in out.iter_mut().zip(rows) {
        *score = l2_squared(query, row(matrix, id as usize, query.len()));
    }
}

fn dot_scan<T: Element>(query: &[f32], matrix: &[T], out: &mut [f32]) {
    for (i, score) in out.iter_mut().enumerate() {
        *score = dot(query, row(matrix, i, query.len()));
    }
}

fn l2_squared_scan<T: Element>(query: &[f32], matrix: &[T], out: &mut [f32]) {
    for (i, score) in out.iter_mut().enumerate() {
        *score = l2_squared(query, row(matrix, i, query.len()));
    }
}

fn row<T>(matrix: &[T], row: usize, dim: usize) -> &[T] {
    &matrix[row * dim..][..dim]
}

/// Integer kernels one component at a time.
struct Scalar;

impl CodeDot for Scalar {
    #[inline(always)]
    unsafe fn dot(query: *const i8, row: *const u8, len: usize) -> i32 {
        // SAFETY: required of the caller.
        let (query, row) =
            unsafe { (std::slice::from_raw_parts(query, len), std::slice::from_raw_parts(row, len)) };
        query.iter().zip(row).map(|(q, code)| i32::from(*q) * i32::from(*code)).sum()
    }
}

/// Compilers turn this into vector code, which is what AArch64 runs, too.
impl PackedDot for Scalar {
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
                // SAFETY: required of the caller: `at + 4 <= len`.
                let (query, word) = unsafe {
                    let query = std::slice::from_raw_parts(queries.add(q * len + at), 4);
                    (query, std::slice::from_raw_parts(block.add(PACKED_ROWS * at), 4 * PACKED_ROWS))
                };
                for (sum, four) in sums.iter_mut().zip(word.chunks_exact(4)) {
                    *sum += four.iter().zip(query).map(|(c, q)| i32::from(*c) * i32::from(*q)).sum::<i32>();
                }
            }
            // SAFETY: required of the caller: 16 sums for each query.
            unsafe { out.add(q * stride).copy_from_nonoverlapping(sums.as_ptr(), PACKED_ROWS) };
        }
    }
}

impl Nibbles for Scalar {
    #[inline(always)]
    unsafe fn sums(table: *const u8, codes: *const u8, pairs: usize, out: &mut [f32; NIBBLE_ROWS]) {
        // SAFETY: required of the caller.
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
