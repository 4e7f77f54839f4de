//! Scores of rows of floats, over a register type.
//!
//! In: a register type ([`Simd`]), a term ([`Dot`], [`L2Squared`]) and slices whose lengths were checked. Out: scores.
//!
//! Everything is `#[inline(always)]` into the functions that [`float_table!`] generates, the only ones that are
//! compiled for an instruction set: a loop that is not inlined there would be compiled without it. There is no way to
//! force inlining of a closure, so hot loops here have none.

use crate::kernel::prefetch::prefetch;

/// Running sums per row. With `BATCH` rows at a time there are eight independent additions, which keep two pipelines of
/// four cycles busy and fit into the sixteen registers of AVX2.
const SUMS: usize = 2;

/// Rows scored at a time: they share the loads of the query, and their registers are summed across lanes together.
const BATCH: usize = 4;

/// Prefetch distance, in rows.
const ROWS_AHEAD: usize = 8;

/// How much of a row is prefetched, in bytes: after a few consecutive lines the hardware prefetcher takes over. At 768 dimensions of `f32`, prefetching whole rows takes 40% longer.
const PREFETCH_BYTES: usize = 1024;

/// A register of `LANES` `f32`.
///
/// # Safety
///
/// Every function, here and in [`Load`], may only be called where the processor has its instructions.
pub(in crate::kernel) trait Simd: Copy {
    /// Components of a register.
    const LANES: usize;
    /// All lanes zero.
    unsafe fn zero() -> Self;
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self − other`.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self × factor + sum`, rounded once.
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self;
    /// The sum of the lanes of each register, added in the same order for all four.
    unsafe fn sums(four: [Self; BATCH]) -> [f32; BATCH];
}

/// A register that loads components of type `T`, widening them exactly. No alignment is needed.
pub(in crate::kernel) trait Load<T>: Simd {
    /// Loads `LANES` components.
    ///
    /// # Safety
    ///
    /// `source` is valid for reading `LANES` components.
    unsafe fn load(source: *const T) -> Self;
    /// Loads `0 < count < LANES` components; the other lanes are zero.
    ///
    /// # Safety
    ///
    /// `source` is valid for reading `count` components; nothing is read past them.
    unsafe fn load_head(source: *const T, count: usize) -> Self;
}

/// The contribution of one component to the score: 0 for two zeros, which are in the lanes past the end of a row.
pub(in crate::kernel) trait Term {
    /// Adds the terms of one register of the query and one of the row to `sum`.
    unsafe fn accumulate<S: Simd>(query: S, row: S, sum: S) -> S;
}

/// `q · x`.
pub(in crate::kernel) struct Dot;

impl Term for Dot {
    #[inline(always)]
    unsafe fn accumulate<S: Simd>(query: S, row: S, sum: S) -> S {
        // SAFETY: the caller has the instruction set of `S`.
        unsafe { query.mul_add(row, sum) }
    }
}

/// `‖q − x‖²`.
pub(in crate::kernel) struct L2Squared;

impl Term for L2Squared {
    #[inline(always)]
    unsafe fn accumulate<S: Simd>(query: S, row: S, sum: S) -> S {
        // SAFETY: the caller has the instruction set of `S`.
        unsafe {
            let difference = query.sub(row);
            difference.mul_add(difference, sum)
        }
    }
}

/// Returns the score of one row.
///
/// # Safety
///
/// The processor has the instruction set of `S`; `query` and `row` have the same length.
#[inline(always)]
pub(in crate::kernel) unsafe fn score<S: Load<Q> + Load<T>, M: Term, Q, T>(query: &[Q], row: &[T]) -> f32 {
    // SAFETY: the row is as long as the query.
    unsafe { score_batch::<S, M, Q, T, 1>(query, [row.as_ptr()])[0] }
}

/// Scores `rows` of `matrix` into `out`.
///
/// # Safety
///
/// The processor has the instruction set of `S`; `out` is as long as `rows`; every row is inside
/// `matrix: [n × query.len()]`.
#[inline(always)]
pub(in crate::kernel) unsafe fn score_rows<S: Load<f32> + Load<T>, M: Term, T>(
    query: &[f32],
    matrix: &[T],
    rows: &[u32],
    out: &mut [f32],
) {
    let dim = query.len();
    let head = dim.min(PREFETCH_BYTES / std::mem::size_of::<T>());
    for &row in &rows[..ROWS_AHEAD.min(rows.len())] {
        // SAFETY: the row is inside the matrix.
        prefetch(unsafe { &row_of(matrix, row as usize, dim)[..head] });
    }
    let mut i = 0;
    while i + BATCH <= rows.len() {
        let next = (i + ROWS_AHEAD).min(rows.len());
        for &row in &rows[next..(next + BATCH).min(rows.len())] {
            // SAFETY: the row is inside the matrix.
            prefetch(unsafe { &row_of(matrix, row as usize, dim)[..head] });
        }
        // SAFETY: the batch ends within `rows` and so within `out`; its rows are inside the matrix.
        unsafe {
            let mut batch = [matrix.as_ptr(); BATCH];
            for (b, row) in batch.iter_mut().enumerate() {
                *row = row_of(matrix, *rows.get_unchecked(i + b) as usize, dim).as_ptr();
            }
            let scores = score_batch::<S, M, f32, T, BATCH>(query, batch);
            out.get_unchecked_mut(i..i + BATCH).copy_from_slice(&scores);
        }
        i += BATCH;
    }
    for (score_of_row, &row) in out[i..].iter_mut().zip(&rows[i..]) {
        // SAFETY: the row is inside the matrix.
        *score_of_row = unsafe { score::<S, M, f32, T>(query, row_of(matrix, row as usize, dim)) };
    }
}

/// Scores every row of `matrix` into `out`.
///
/// # Safety
///
/// The processor has the instruction set of `S`; `matrix: [out.len() × query.len()]`.
#[inline(always)]
pub(in crate::kernel) unsafe fn score_scan<S: Load<f32> + Load<T>, M: Term, T>(
    query: &[f32],
    matrix: &[T],
    out: &mut [f32],
) {
    let dim = query.len();
    let mut i = 0;
    while i + BATCH <= out.len() {
        // SAFETY: the matrix has `out.len()` rows.
        unsafe {
            let mut batch = [matrix.as_ptr(); BATCH];
            for (b, row) in batch.iter_mut().enumerate() {
                *row = row_of(matrix, i + b, dim).as_ptr();
            }
            let scores = score_batch::<S, M, f32, T, BATCH>(query, batch);
            out.get_unchecked_mut(i..i + BATCH).copy_from_slice(&scores);
        }
        i += BATCH;
    }
    for (b, score_of_row) in out[i..].iter_mut().enumerate() {
        // SAFETY: the matrix has `out.len()` rows.
        *score_of_row = unsafe { score::<S, M, f32, T>(query, row_of(matrix, i + b, dim)) };
    }
}

/// Returns the scores of `N` rows. The order of additions within a row does not depend on `N`.
///
/// # Safety
///
/// The processor has the instruction set of `S`; every row is valid for reading `query.len()` components.
#[allow(clippy::needless_range_loop)] // plain indices unroll into registers; iterators would be calls
#[inline(always)]
unsafe fn score_batch<S: Load<Q> + Load<T>, M: Term, Q, T, const N: usize>(
    query: &[Q],
    rows: [*const T; N],
) -> [f32; N] {
    let dim = query.len();
    let query = query.as_ptr();
    // SAFETY: `at + S::LANES <= dim` or `at + rest == dim` holds at each load, in the query and in
    // every row; the caller has the instruction set.
    unsafe {
        let mut sums = [[S::zero(); SUMS]; N];
        let mut at = 0;
        while at + SUMS * S::LANES <= dim {
            for s in 0..SUMS {
                let q: S = Load::<Q>::load(query.add(at + s * S::LANES));
                for n in 0..N {
                    let x: S = Load::<T>::load(rows[n].add(at + s * S::LANES));
                    sums[n][s] = M::accumulate(q, x, sums[n][s]);
                }
            }
            at += SUMS * S::LANES;
        }
        while at + S::LANES <= dim {
            let q: S = Load::<Q>::load(query.add(at));
            for n in 0..N {
                let x: S = Load::<T>::load(rows[n].add(at));
                sums[n][0] = M::accumulate(q, x, sums[n][0]);
            }
            at += S::LANES;
        }
        let rest = dim - at;
        if rest > 0 {
            let q: S = Load::<Q>::load_head(query.add(at), rest);
            for n in 0..N {
                let x: S = Load::<T>::load_head(rows[n].add(at), rest);
                sums[n][1] = M::accumulate(q, x, sums[n][1]);
            }
        }
        let mut registers = [S::zero(); BATCH];
        for n in 0..N {
            registers[n] = sums[n][0].add(sums[n][1]);
        }
        let mut scores = [0.0; N];
        scores.copy_from_slice(&S::sums(registers)[..N]);
        scores
    }
}

/// # Safety
///
/// The row is inside `matrix: [n × dim]`.
#[inline(always)]
unsafe fn row_of<T>(matrix: &[T], row: usize, dim: usize) -> &[T] {
    // SAFETY: required of the caller.
    unsafe { matrix.get_unchecked(row * dim..row * dim + dim) }
}

/// Generates `$module` with the constants `F32` and `F16`: the functions of one instruction set, compiled for
/// `$features`.
macro_rules! float_table {
    ($module:ident, $register:ty, $features:tt) => {
        mod $module {
            use super::*;
            use crate::kernel::generic::float::{self, Dot, L2Squared, Load};
            use crate::kernel::tables::FloatTable;

            pub(super) const F32: FloatTable<f32> = table();
            pub(super) const F16: FloatTable<f16> = table();

            const fn table<T>() -> FloatTable<T>
            where
                $register: Load<T>,
            {
                FloatTable {
                    dot,
                    l2_squared,
                    norm_squared,
                    dot_rows,
                    l2_squared_rows,
                    dot_scan,
                    l2_squared_scan,
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn dot<T>(query: &[f32], row: &[T]) -> f32
            where
                $register: Load<T>,
            {
                // SAFETY: as required by `FloatTable`.
                unsafe { float::score::<$register, Dot, f32, T>(query, row) }
            }

            #[target_feature(enable = $features)]
            unsafe fn l2_squared<T>(query: &[f32], row: &[T]) -> f32
            where
                $register: Load<T>,
            {
                // SAFETY: as required by `FloatTable`.
                unsafe { float::score::<$register, L2Squared, f32, T>(query, row) }
            }

            #[target_feature(enable = $features)]
            unsafe fn norm_squared<T>(row: &[T]) -> f32
            where
                $register: Load<T>,
            {
                // SAFETY: as required by `FloatTable`.
                unsafe { float::score::<$register, Dot, T, T>(row, row) }
            }

            #[target_feature(enable = $features)]
            unsafe fn dot_rows<T>(query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32])
            where
                $register: Load<T>,
            {
                // SAFETY: as required by `FloatTable`.
                unsafe { float::score_rows::<$register, Dot, T>(query, matrix, rows, out) }
            }

            #[target_feature(enable = $features)]
            unsafe fn l2_squared_rows<T>(query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32])
            where
                $register: Load<T>,
            {
                // SAFETY: as required by `FloatTable`.
                unsafe { float::score_rows::<$register, L2Squared, T>(query, matrix, rows, out) }
            }

            #[target_feature(enable = $features)]
            unsafe fn dot_scan<T>(query: &[f32], matrix: &[T], out: &mut [f32])
            where
                $register: Load<T>,
            {
                // SAFETY: as required by `FloatTable`.
                unsafe { float::score_scan::<$register, Dot, T>(query, matrix, out) }
            }

            #[target_feature(enable = $features)]
            unsafe fn l2_squared_scan<T>(query: &[f32], matrix: &[T], out: &mut [f32])
            where
                $register: Load<T>,
            {
                // SAFETY: as required by `FloatTable`.
                unsafe { float::score_scan::<$register, L2Squared, T>(query, matrix, out) }
            }
        }
    };
}

pub(in crate::kernel) use float_table;
