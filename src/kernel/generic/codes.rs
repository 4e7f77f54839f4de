//! Integer kernels: signed 8-bit queries against unsigned 8-bit codes.
//!
//! Sums are exact 32-bit integers, so that every instruction set returns the same bits; the score is the sum as `f32`. Rows
//! are a whole number of cache lines long, so there are no tails.

use crate::kernel::prefetch::prefetch;

/// The length of a row is a multiple of this: one cache line.
pub const CODE_ALIGNMENT: usize = 64;

/// Prefetch distance, in rows.
const AHEAD: usize = 24;

/// Rows scored at a time: summing their registers across lanes takes as long as for one.
pub(in crate::kernel) const BATCH: usize = 4;

/// The dot product of one query with one row, and with several.
pub(in crate::kernel) trait CodeDot {
    /// # Safety
    ///
    /// The processor has the instruction set, and both pointers are valid for reading `len` bytes, a multiple of 64.
    unsafe fn dot(query: *const i8, row: *const u8, len: usize) -> i32;

    /// # Safety
    ///
    /// As for [`Self::dot`], for each of the rows.
    #[inline(always)]
    unsafe fn dots(query: *const i8, rows: [*const u8; BATCH], len: usize) -> [f32; BATCH] {
        let mut scores = [0.0; BATCH];
        for (score, row) in scores.iter_mut().zip(rows) {
            // SAFETY: required of the caller.
            *score = unsafe { Self::dot(query, row, len) } as f32;
        }
        scores
    }
}

/// Scores `rows` of `codes` into `out`.
///
/// # Safety
///
/// As for [`CodeTable`](crate::kernel::tables::CodeTable).
#[inline(always)]
pub(in crate::kernel) unsafe fn score_rows<D: CodeDot>(
    query: &[i8],
    codes: &[u8],
    rows: &[u32],
    out: &mut [f32],
) {
    let len = query.len();
    let row = |id: u32| {
        // SAFETY: required by `CodeTable`: the row is inside the matrix.
        unsafe { codes.get_unchecked(id as usize * len..(id as usize + 1) * len) }
    };
    rows.iter().take(AHEAD).for_each(|id| prefetch(row(*id)));
    let mut ahead = rows.iter().skip(AHEAD);
    let (mut groups, mut slots) = (rows.chunks_exact(BATCH), out.chunks_exact_mut(BATCH));
    for (group, scores) in groups.by_ref().zip(slots.by_ref()) {
        ahead.by_ref().take(BATCH).for_each(|id| prefetch(row(*id)));
        let group = [group[0], group[1], group[2], group[3]];
        // SAFETY: the rows are as long as the query.
        scores.copy_from_slice(&unsafe { D::dots(query.as_ptr(), group.map(|id| row(id).as_ptr()), len) });
    }
    for (id, score) in groups.remainder().iter().zip(slots.into_remainder()) {
        // SAFETY: the row is as long as the query.
        *score = unsafe { D::dot(query.as_ptr(), row(*id).as_ptr(), len) } as f32;
    }
}

/// Scores every row of `codes` into `out`.
///
/// # Safety
///
/// As for [`CodeTable`](crate::kernel::tables::CodeTable).
#[inline(always)]
pub(in crate::kernel) unsafe fn score_scan<D: CodeDot>(query: &[i8], codes: &[u8], out: &mut [f32]) {
    let len = query.len();
    if len == 0 {
        return out.fill(0.0);
    }
    let (mut groups, mut slots) = (codes.chunks_exact(BATCH * len), out.chunks_exact_mut(BATCH));
    for (group, scores) in groups.by_ref().zip(slots.by_ref()) {
        let first = group.as_ptr();
        let rows = [first, first.wrapping_add(len), first.wrapping_add(2 * len), first.wrapping_add(3 * len)];
        // SAFETY: the rows are as long as the query.
        scores.copy_from_slice(&unsafe { D::dots(query.as_ptr(), rows, len) });
    }
    for (row, score) in groups.remainder().chunks_exact(len).zip(slots.into_remainder()) {
        // SAFETY: the row is as long as the query.
        *score = unsafe { D::dot(query.as_ptr(), row.as_ptr(), len) } as f32;
    }
}

/// Returns the [`CodeTable`](crate::kernel::tables::CodeTable) of one instruction set, compiled for `$features`.
macro_rules! code_table {
    ($dot:ty $(, $features:tt)?) => {{
        use $crate::kernel::generic::codes;
        use $crate::kernel::tables::CodeTable;

        $(#[target_feature(enable = $features)])?
        unsafe fn rows(query: &[i8], codes: &[u8], rows: &[u32], out: &mut [f32]) {
            // SAFETY: as required by `CodeTable`.
            unsafe { codes::score_rows::<$dot>(query, codes, rows, out) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn scan(query: &[i8], codes: &[u8], out: &mut [f32]) {
            // SAFETY: as required by `CodeTable`.
            unsafe { codes::score_scan::<$dot>(query, codes, out) }
        }
        CodeTable { rows, scan }
    }};
}

pub(in crate::kernel) use code_table;
