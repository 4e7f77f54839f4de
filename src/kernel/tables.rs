//! The functions that an instruction set provides: one table of function pointers each, and what they rely on.
//!
//! These functions trust their arguments; [`super::kernels`] checks them.

use super::generic::nibbles::NIBBLE_ROWS;

/// All functions of one instruction set.
pub(super) struct Tables {
    pub(super) f32: FloatTable<f32>,
    pub(super) f16: FloatTable<half::f16>,
    pub(super) codes: CodeTable,
    pub(super) packed: PackedTable,
    pub(super) nibbles: ScoreNibbles,
    pub(super) select: SelectTable,
    pub(super) is_near: IsNear,
}

/// Functions for rows of `T`.
///
/// # Safety
///
/// The processor has the instruction set; lengths agree as the methods of [`super::Kernels`] of the same name
/// require; every row id is inside the matrix.
pub(super) struct FloatTable<T> {
    pub(super) dot: Score<T>,
    pub(super) l2_squared: Score<T>,
    pub(super) norm_squared: unsafe fn(row: &[T]) -> f32,
    pub(super) dot_rows: ScoreRows<T>,
    pub(super) l2_squared_rows: ScoreRows<T>,
    pub(super) dot_scan: ScoreScan<T>,
    pub(super) l2_squared_scan: ScoreScan<T>,
}

type Score<T> = unsafe fn(query: &[f32], row: &[T]) -> f32;
type ScoreRows<T> = unsafe fn(query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]);
type ScoreScan<T> = unsafe fn(query: &[f32], matrix: &[T], out: &mut [f32]);

/// Scores rows by id.
pub(super) type ScoreCodeRows = unsafe fn(query: &[i8], codes: &[u8], rows: &[u32], out: &mut [f32]);

/// Functions for 8-bit codes.
///
/// # Safety
///
/// The processor has the instruction set; the length of the query is a multiple of
/// [`CODE_ALIGNMENT`](super::CODE_ALIGNMENT); every row id is inside the matrix and has a slot in `out`.
pub(super) struct CodeTable {
    pub(super) rows: ScoreCodeRows,
    pub(super) scan: unsafe fn(query: &[i8], codes: &[u8], out: &mut [f32]),
}

/// Functions for packed 8-bit codes.
///
/// # Safety
///
/// The processor has the instruction set. For `sums`, which computes `out[q × rows + r] = queries[q] · row r` for
/// whole blocks of rows: `len` is a multiple of 4, the length of `queries` a multiple of `len` and that of `packed` a
/// multiple of 16 × `len`; `out` has a slot for each query and row.
pub(super) struct PackedTable {
    pub(super) sums: unsafe fn(queries: &[i8], len: usize, packed: &[u8], out: &mut [i32]),
    pub(super) scores: unsafe fn(sums: &[i32], bias: f32, scale: f32, offsets: &[f32], scores: &mut [f32]),
}

/// Scores a block of rows of 4-bit codes: `out[row] = base + step · sum`. Bit `row` of the result is set if the score
/// is `least` or more.
///
/// # Safety
///
/// The processor has the instruction set; `table` is a whole number of pairs long, and `codes` a block of that many
/// pairs.
pub(super) type ScoreNibbles = unsafe fn(
    table: &[u8],
    codes: &[u8],
    affine: (f32, f32),
    least: f32,
    out: &mut [f32; NIBBLE_ROWS],
) -> u64;

/// Whether one of the rows of a tile is nearer to a row than a bound.
///
/// # Safety
///
/// The processor has the instruction set.
pub(super) type IsNear = unsafe fn(row: &[f32], tile: &[f32], bound: f32) -> bool;

/// Functions that select among scores or ids.
///
/// # Safety
///
/// The processor has the instruction set. For `absent`: `words` has a bit for every id below `limit`, and `out` a
/// slot for every id.
pub(super) struct SelectTable {
    pub(super) absent: unsafe fn(words: &[u32], limit: u32, ids: &[u32], out: &mut [u32]) -> usize,
    pub(super) at_least: unsafe fn(scores: &[f32], least: f32, found: &mut Vec<u32>),
    pub(super) count: unsafe fn(scores: &[f32], least: f32) -> usize,
    pub(super) maxima: unsafe fn(scores: &[f32], maxima: &mut [f32]),
    pub(super) range: unsafe fn(scores: &[f32]) -> (f32, f32),
    pub(super) ones: unsafe fn(words: &[u32]) -> usize,
}
