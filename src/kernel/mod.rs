//! SIMD kernels: slices in, `f32` out.
//!
//! What flows in: a query in `f32` and rows in `f32` or `f16`, or both in 8-bit codes. What flows out:
//! dot products, squared L2 distances and squared norms, in `f32`. Kernels know nothing of graphs,
//! files or metrics.
//!
//! | file | duty |
//! |---|---|
//! | `scalar.rs`   | the definition of correct |
//! | `simd.rs`     | each algorithm once, over a `Simd` register type |
//! | `x86.rs`      | the AVX2+FMA+F16C and AVX-512 register types |
//! | `neon.rs`     | the NEON register type |
//! | `codes.rs`    | integer kernels over 8-bit codes, every instruction set |
//! | `nibbles.rs`  | scores by looked-up bytes, for rows of 4-bit codes |
//! | `packed.rs`   | the same for many queries against many rows |
//! | `select.rs`   | scores above a threshold, ids that a bitmap lacks |
//! | `prefetch.rs` | cache-line prefetching |
//! | `tests.rs`    | every available instruction set against scalar |
//!
//! The instruction set is chosen once per process ([`Kernels::get`]); `SHORTLIST_KERNEL` forces it.
//!
//! Safety is settled at one border. A [`Kernels`] can only be had for an instruction set that this
//! processor has, and its methods check every length and row id before they enter code that trusts
//! them.
//!
//! Within one instruction set a (query, row) pair has one score, to the bit, whether it comes from a
//! single call, from `*_rows` or from `*_scan`. Scores of different instruction sets differ by rounding.
#![allow(unsafe_code)] // SIMD intrinsics and the calls into them

mod codes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod nibbles;
mod packed;
mod prefetch;
mod scalar;
mod select;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod simd;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::any::Any;
use std::sync::OnceLock;

use half::f16;

use crate::base::element::{Dtype, Element};

use codes::CodeTable;
use select::SelectTable;

pub use codes::CODE_ALIGNMENT;
pub use nibbles::{MAX_ENTRY, NIBBLE_ROWS, TABLE_BYTES, row_of};
pub use packed::{PACKED_ROWS, pack};
pub use prefetch::prefetch;
pub use select::WORD_BITS;

/// The environment variable that forces an instruction set.
pub const KERNEL_VARIABLE: &str = "SHORTLIST_KERNEL";

/// An instruction set that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain loops: the definition of correct.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512 F, BW and VL: 16 lanes.
    Avx512,
    /// AArch64: 4 lanes.
    Neon,
}

impl Isa {
    /// Every instruction set, in order of preference.
    pub const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Scalar];

    /// The word for this instruction set in `SHORTLIST_KERNEL`, logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Isa {
    type Err = KernelError;

    fn from_str(word: &str) -> Result<Self, KernelError> {
        Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == word)
            .ok_or_else(|| KernelError::Unknown { word: word.to_owned() })
    }
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No instruction set has this name.
    #[error("unknown kernel {word:?}: expected {}", listed(Isa::ALL))]
    Unknown {
        /// What was asked for.
        word: String,
    },
    /// This processor, or this build, does not have the instruction set.
    #[error(
        "kernel {isa} is not available on this machine: available are {}",
        listed(Kernels::available().map(Kernels::isa))
    )]
    Unavailable {
        /// What was asked for.
        isa: Isa,
    },
}

/// The kernels of one instruction set.
///
/// # Examples
///
/// ```
/// use shortlist::kernel::Kernels;
///
/// assert_eq!(Kernels::get().dot(&[1.0, 2.0], &[3.0_f32, 4.0]), 11.0);
/// ```
pub struct Kernels {
    isa: Isa,
    f32: Table<f32>,
    f16: Table<f16>,
    codes: CodeTable,
    select: SelectTable,
}

impl Kernels {
    /// The kernels of this process, chosen on the first call: those that `SHORTLIST_KERNEL` names if
    /// it names available ones, otherwise the best of this machine. A program that wants a wrong word
    /// refused rather than passed over asks [`Kernels::from_environment`] first.
    pub fn get() -> &'static Kernels {
        static CHOSEN: OnceLock<&'static Kernels> = OnceLock::new();
        CHOSEN.get_or_init(|| Kernels::from_environment().unwrap_or_else(|_| Kernels::best()))
    }

    /// The kernels that `SHORTLIST_KERNEL` names, or the best of this machine where it is unset.
    ///
    /// # Errors
    ///
    /// The variable holds an unknown word, or names an instruction set this machine does not have.
    pub fn from_environment() -> Result<&'static Kernels, KernelError> {
        let word = std::env::var_os(KERNEL_VARIABLE);
        Kernels::named(word.as_ref().map(|word| word.to_string_lossy()).as_deref())
    }

    /// The kernels of one instruction set.
    ///
    /// # Errors
    ///
    /// This machine does not have the instruction set.
    pub fn for_isa(isa: Isa) -> Result<&'static Kernels, KernelError> {
        let kernels = match isa {
            Isa::Scalar => Some(&scalar::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::avx512(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Some(neon::kernels()),
            _ => None,
        };
        kernels.ok_or(KernelError::Unavailable { isa })
    }

    /// The kernels this machine can run, best first; scalar is always the last.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        Isa::ALL.into_iter().filter_map(|isa| Kernels::for_isa(isa).ok())
    }

    /// The instruction set of these kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The dot product `query · row`, in `f32`.
    ///
    /// `query: [dim] f32`; `row: [dim]`.
    ///
    /// # Panics
    ///
    /// `query` and `row` differ in length.
    #[inline]
    pub fn dot<T: Element>(&self, query: &[f32], row: &[T]) -> f32 {
        check_row(query, row);
        // SAFETY: the lengths agree; the instruction set was detected before `self` was handed out.
        unsafe { (self.table::<T>().dot)(query, row) }
    }

    /// The squared Euclidean distance `‖query − row‖²`, in `f32`.
    ///
    /// `query: [dim] f32`; `row: [dim]`.
    ///
    /// # Panics
    ///
    /// `query` and `row` differ in length.
    #[inline]
    pub fn l2_squared<T: Element>(&self, query: &[f32], row: &[T]) -> f32 {
        check_row(query, row);
        // SAFETY: the lengths agree; the instruction set was detected before `self` was handed out.
        unsafe { (self.table::<T>().l2_squared)(query, row) }
    }

    /// The squared norm `‖row‖²`, in `f32`.
    #[inline]
    pub fn norm_squared<T: Element>(&self, row: &[T]) -> f32 {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.table::<T>().norm_squared)(row) }
    }

    /// Scores scattered rows: `out[i] = query · matrix[rows[i]]`. Rows are prefetched ahead of the one
    /// being scored.
    ///
    /// `query: [dim] f32`; `matrix: [n × dim] row-major`; `rows: [k]`, each below `n`, in any order;
    /// `out: [k]`.
    ///
    /// # Panics
    ///
    /// `rows` and `out` differ in length, or `matrix` does not hold one of the rows.
    #[inline]
    pub fn dot_rows<T: Element>(&self, query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]) {
        check_rows(query, matrix, rows, out);
        // SAFETY: every row lies inside the matrix and has its place in `out`; the instruction set was
        // detected before `self` was handed out.
        unsafe { (self.table::<T>().dot_rows)(query, matrix, rows, out) }
    }

    /// Scores scattered rows: `out[i] = ‖query − matrix[rows[i]]‖²`. Rows are prefetched ahead of the
    /// one being scored.
    ///
    /// `query: [dim] f32`; `matrix: [n × dim] row-major`; `rows: [k]`, each below `n`, in any order;
    /// `out: [k]`.
    ///
    /// # Panics
    ///
    /// `rows` and `out` differ in length, or `matrix` does not hold one of the rows.
    #[inline]
    pub fn l2_squared_rows<T: Element>(&self, query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]) {
        check_rows(query, matrix, rows, out);
        // SAFETY: every row lies inside the matrix and has its place in `out`; the instruction set was
        // detected before `self` was handed out.
        unsafe { (self.table::<T>().l2_squared_rows)(query, matrix, rows, out) }
    }

    /// Scores consecutive rows: `out[i] = query · matrix[i]`.
    ///
    /// `query: [dim] f32`; `matrix: [n × dim] row-major`; `out: [n]`.
    ///
    /// # Panics
    ///
    /// `matrix` does not hold exactly `out.len()` rows.
    #[inline]
    pub fn dot_scan<T: Element>(&self, query: &[f32], matrix: &[T], out: &mut [f32]) {
        check_scan(query, matrix, out);
        // SAFETY: the matrix has as many rows as `out` has places; the instruction set was detected
        // before `self` was handed out.
        unsafe { (self.table::<T>().dot_scan)(query, matrix, out) }
    }

    /// Scores consecutive rows: `out[i] = ‖query − matrix[i]‖²`.
    ///
    /// `query: [dim] f32`; `matrix: [n × dim] row-major`; `out: [n]`.
    ///
    /// # Panics
    ///
    /// `matrix` does not hold exactly `out.len()` rows.
    #[inline]
    pub fn l2_squared_scan<T: Element>(&self, query: &[f32], matrix: &[T], out: &mut [f32]) {
        check_scan(query, matrix, out);
        // SAFETY: the matrix has as many rows as `out` has places; the instruction set was detected
        // before `self` was handed out.
        unsafe { (self.table::<T>().l2_squared_scan)(query, matrix, out) }
    }

    /// Scores scattered rows of codes: `out[i] = query · codes[rows[i]]`, summed exactly in integers and
    /// the same on every instruction set. Rows are prefetched ahead of the one being scored.
    ///
    /// `query: [len]`, `len` a multiple of [`CODE_ALIGNMENT`]; `codes: [n × len] row-major`; `rows: [k]`,
    /// each below `n`; `out: [k]`.
    ///
    /// # Panics
    ///
    /// `rows` and `out` differ in length, `codes` does not hold one of the rows, or the query is not a
    /// whole number of cache lines.
    #[inline]
    pub fn code_rows(&self, query: &[i8], codes: &[u8], rows: &[u32], out: &mut [f32]) {
        check_code_query(query);
        check_rows(query, codes, rows, out);
        // SAFETY: the query has no tail, every row lies inside the matrix and has its place in `out`; the
        // instruction set was detected before `self` was handed out.
        unsafe { (self.codes.rows)(query, codes, rows, out) }
    }

    /// Scores consecutive rows of codes: `out[i] = query · codes[i]`.
    ///
    /// `query: [len]`, `len` a multiple of [`CODE_ALIGNMENT`]; `codes: [n × len] row-major`; `out: [n]`.
    ///
    /// # Panics
    ///
    /// `codes` does not hold exactly `out.len()` rows, or the query is not a whole number of cache lines.
    #[inline]
    pub fn code_scan(&self, query: &[i8], codes: &[u8], out: &mut [f32]) {
        check_code_query(query);
        check_scan(query, codes, out);
        // SAFETY: the query has no tail and the matrix has as many rows as `out` has places; the
        // instruction set was detected before `self` was handed out.
        unsafe { (self.codes.scan)(query, codes, out) }
    }

    /// Scores packed rows of codes for several queries: `out[q × rows + r] = queries[q] · row r`, the same
    /// on every instruction set.
    ///
    /// `queries: [count × len]`; `packed`: whole blocks as [`pack`] makes them of rows `[len]`;
    /// `out: [count × rows]`, the rows that fill up the last block included.
    ///
    /// # Panics
    ///
    /// The lengths are not those.
    #[inline]
    pub fn code_packed(&self, queries: &[i8], len: usize, packed: &[u8], out: &mut [i32]) {
        let count = queries.len().checked_div(len).unwrap_or_default();
        let rows = packed.len().checked_div(len).unwrap_or_default();
        assert!(
            len.is_multiple_of(4)
                && queries.len() == count * len
                && packed.len() == rows * len
                && rows.is_multiple_of(PACKED_ROWS)
                && out.len() == count * rows,
            "{} codes of queries, {} of packed rows and {} places do not go together at {len} codes each",
            queries.len(),
            packed.len(),
            out.len()
        );
        // SAFETY: as the assertion says; the instruction set was detected before `self` was handed out.
        unsafe { (self.codes.packed.sums)(queries, len, packed, out) }
    }

    /// Turns sums into scores: `scores[i] = bias + scale · sums[i] − offsets[i]`, as far as all three go.
    #[inline]
    pub fn scores_of_sums(&self, sums: &[i32], bias: f32, scale: f32, offsets: &[f32], scores: &mut [f32]) {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.codes.packed.scores)(sums, bias, scale, offsets, scores) }
    }

    /// Scores a block of rows of 4-bit codes: `out[r] = base + step · Σ table[c][code c of r]`, for `affine` = (base,
    /// step), the same on every instruction set. Bit r of what is given is set if that is `least` or more.
    ///
    /// `table: [codes × 16]`, an even number of codes, entries at most [`MAX_ENTRY`]; `codes`: for each pair of codes
    /// 64 bytes, of which byte b has both codes of row [`row_of`] b, the first in its lower half.
    ///
    /// # Panics
    ///
    /// The lengths are not those.
    #[inline]
    pub fn nibble_scores(
        &self,
        table: &[u8],
        codes: &[u8],
        affine: (f32, f32),
        least: f32,
        out: &mut [f32; NIBBLE_ROWS],
    ) -> u64 {
        let pairs = table.len() / (2 * TABLE_BYTES);
        assert!(
            table.len().is_multiple_of(2 * TABLE_BYTES) && codes.len() == pairs * NIBBLE_ROWS,
            "a table of {} bytes and a block of {}",
            table.len(),
            codes.len()
        );
        // SAFETY: the lengths agree; the instruction set was detected before `self` was handed out.
        unsafe { (self.codes.nibbles)(table, codes, affine, least, out) }
    }

    /// Appends to `found` the position of every score that is `least` or more, ascending.
    #[inline]
    pub fn at_least(&self, scores: &[f32], least: f32, found: &mut Vec<u32>) {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.select.at_least)(scores, least, found) }
    }

    /// How many scores are `least` or more.
    #[inline]
    pub fn count_at_least(&self, scores: &[f32], least: f32) -> usize {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.select.count)(scores, least) }
    }

    /// How many bits are set.
    #[inline]
    pub fn count_ones(&self, words: &[u32]) -> usize {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.select.ones)(words) }
    }

    /// `maxima[j]` becomes the largest of `scores[j]`, `scores[j + maxima.len()]` and so on, −∞ where there
    /// are none. The k-th largest of them is a score that at least k reach.
    ///
    /// # Panics
    ///
    /// `maxima` is empty.
    #[inline]
    pub fn maxima(&self, scores: &[f32], maxima: &mut [f32]) {
        assert!(!maxima.is_empty(), "no place for a maximum");
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.select.maxima)(scores, maxima) }
    }

    /// The smallest and the largest score; +∞ and −∞ where there is none.
    #[inline]
    pub fn range(&self, scores: &[f32]) -> (f32, f32) {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.select.range)(scores) }
    }

    /// Writes those of `ids` that are below `limit` and whose bit in `words` is not set to the front of `out`,
    /// in order, and gives their number. Bit `id % 32` of word `id / 32` is that of `id`.
    ///
    /// # Panics
    ///
    /// `words` has fewer than `limit` bits, or `out` fewer places than there are ids.
    #[inline]
    pub fn absent(&self, words: &[u32], limit: u32, ids: &[u32], out: &mut [u32]) -> usize {
        let bits = words.len() * WORD_BITS;
        assert!(limit as usize <= bits, "a bitmap of {bits} bits for ids below {limit}");
        assert!(ids.len() <= out.len(), "{} ids into {} places", ids.len(), out.len());
        // SAFETY: as the assertions say; the instruction set was detected before `self` was handed out.
        unsafe { (self.select.absent)(words, limit, ids, out) }
    }

    /// The kernels that `word` names, or the best of this machine without one.
    fn named(word: Option<&str>) -> Result<&'static Kernels, KernelError> {
        match word {
            Some(word) => Kernels::for_isa(word.parse()?),
            None => Ok(Kernels::best()),
        }
    }

    fn best() -> &'static Kernels {
        Kernels::available().next().unwrap_or(&scalar::KERNELS)
    }

    /// The functions for rows of `T`; resolved at compile time.
    #[inline(always)]
    fn table<T: Element>(&self) -> &Table<T> {
        let table: &dyn Any = match T::DTYPE {
            Dtype::F32 => &self.f32,
            Dtype::F16 => &self.f16,
        };
        table.downcast_ref().expect("Element::DTYPE names the type itself")
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kernels").field(&self.isa).finish()
    }
}

/// The functions of one instruction set for rows of `T`.
///
/// # Safety
///
/// The processor has the instruction set; lengths agree as the methods of [`Kernels`] of the same name
/// say; every row id lies inside the matrix.
struct Table<T> {
    dot: Score<T>,
    l2_squared: Score<T>,
    norm_squared: unsafe fn(row: &[T]) -> f32,
    dot_rows: ScoreRows<T>,
    l2_squared_rows: ScoreRows<T>,
    dot_scan: ScoreScan<T>,
    l2_squared_scan: ScoreScan<T>,
}

type Score<T> = unsafe fn(query: &[f32], row: &[T]) -> f32;
type ScoreRows<T> = unsafe fn(query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]);
type ScoreScan<T> = unsafe fn(query: &[f32], matrix: &[T], out: &mut [f32]);

#[inline(always)]
fn check_row<T>(query: &[f32], row: &[T]) {
    assert!(
        query.len() == row.len(),
        "the query has dimension {}, the row has dimension {}",
        query.len(),
        row.len()
    );
}

#[inline(always)]
fn check_code_query(query: &[i8]) {
    assert!(
        query.len().is_multiple_of(CODE_ALIGNMENT),
        "a query of {} codes is not a whole number of cache lines",
        query.len()
    );
}

#[inline(always)]
fn check_rows<Q, T>(query: &[Q], matrix: &[T], rows: &[u32], out: &[f32]) {
    assert!(rows.len() == out.len(), "{} rows to score into {} places", rows.len(), out.len());
    // One pass for the largest id, then one multiplication: cheaper than a division or a check per row.
    let Some(last) = rows.iter().copied().max() else { return };
    let end = (last as usize).checked_add(1).and_then(|count| count.checked_mul(query.len()));
    assert!(
        end.is_some_and(|end| end <= matrix.len()),
        "row {last} of dimension {} is outside a matrix of {} components",
        query.len(),
        matrix.len()
    );
}

#[inline(always)]
fn check_scan<Q, T>(query: &[Q], matrix: &[T], out: &[f32]) {
    assert!(
        out.len().checked_mul(query.len()) == Some(matrix.len()),
        "a matrix of {} components is not {} rows of dimension {}",
        matrix.len(),
        out.len(),
        query.len()
    );
}

/// The words for a choice of instruction sets, for error texts.
fn listed(isas: impl IntoIterator<Item = Isa>) -> String {
    isas.into_iter().map(Isa::name).collect::<Vec<_>>().join(", ")
}
