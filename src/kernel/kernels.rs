//! Dispatch: which instruction set this process uses, and checked methods over its functions.
//!
//! This is the border behind which code trusts its arguments. A [`Kernels`] is only handed out for an instruction set that
//! this processor has, and its methods check every length and row id before they call a function of a table.

use std::any::Any;
use std::sync::OnceLock;

use super::generic::codes::CODE_ALIGNMENT;
use super::generic::near::TILE_ROWS;
use super::generic::nibbles::{NIBBLE_ROWS, TABLE_BYTES};
use super::generic::packed::PACKED_ROWS;
use super::generic::select::WORD_BITS;
use super::isa::{Isa, KernelError};
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::scalar;
use super::tables::{FloatTable, Tables};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::base::element::{Dtype, Element};

/// The environment variable that forces an instruction set.
pub const KERNEL_VARIABLE: &str = "SHORTLIST_KERNEL";

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
    tables: Tables,
}

static SCALAR: Kernels = Kernels { isa: Isa::Scalar, tables: scalar::TABLES };
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = Kernels { isa: Isa::Avx2, tables: x86::avx2::TABLES };
#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = Kernels { isa: Isa::Avx512, tables: x86::avx512::TABLES };
#[cfg(target_arch = "x86_64")]
static AVX512_VNNI: Kernels = Kernels { isa: Isa::Avx512, tables: x86::avx512::WITH_VNNI };
#[cfg(target_arch = "aarch64")]
static NEON: Kernels = Kernels { isa: Isa::Neon, tables: neon::TABLES };

impl Kernels {
    /// Returns the kernels of this process, chosen on the first call: those that `SHORTLIST_KERNEL` names if
    /// they are available, otherwise the best of this machine. To refuse an invalid value rather than ignore it, call
    /// [`Kernels::from_environment`] first.
    pub fn get() -> &'static Kernels {
        static CHOSEN: OnceLock<&'static Kernels> = OnceLock::new();
        CHOSEN.get_or_init(|| Kernels::from_environment().unwrap_or_else(|_| Kernels::best()))
    }

    /// Returns the kernels that `SHORTLIST_KERNEL` names, or the best of this machine if it is unset.
    ///
    /// # Errors
    ///
    /// The variable has an unknown value, or names an instruction set this machine does not have.
    pub fn from_environment() -> Result<&'static Kernels, KernelError> {
        let word = std::env::var_os(KERNEL_VARIABLE);
        Kernels::named(word.as_ref().map(|word| word.to_string_lossy()).as_deref())
    }

    /// Returns the best kernels of one instruction set.
    ///
    /// # Errors
    ///
    /// This machine does not have the instruction set.
    pub fn for_isa(isa: Isa) -> Result<&'static Kernels, KernelError> {
        let best = Kernels::available().find(|kernels| kernels.isa == isa);
        best.ok_or_else(|| KernelError::Unavailable {
            isa,
            available: Kernels::available().map(Kernels::isa).collect(),
        })
    }

    /// Every set of kernels that this machine can run, best first, scalar last: the only place that detects features.
    /// An instruction set may have several, depending on its extensions.
    fn detected() -> impl Iterator<Item = &'static Kernels> {
        let mut detected: Vec<&'static Kernels> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            detected.extend(x86::avx512::has_vnni().then_some(&AVX512_VNNI));
            detected.extend(x86::avx512::is_detected().then_some(&AVX512));
            detected.extend(x86::avx2::is_detected().then_some(&AVX2));
        }
        #[cfg(target_arch = "aarch64")]
        detected.push(&NEON);
        detected.push(&SCALAR);
        detected.into_iter()
    }

    /// Returns the best kernels of each instruction set of this machine, best first; scalar is always last.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        Isa::ALL.into_iter().filter_map(|isa| Kernels::detected().find(|kernels| kernels.isa == isa))
    }

    /// Returns the instruction set of these kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns the dot product `query · row`, in `f32`.
    ///
    /// `query: [dim] f32`; `row: [dim]`.
    ///
    /// # Panics
    ///
    /// If the lengths of `query` and `row` differ.
    #[inline]
    pub fn dot<T: Element>(&self, query: &[f32], row: &[T]) -> f32 {
        check_row(query, row);
        // SAFETY: the lengths agree; the instruction set was detected before `self` was handed out.
        unsafe { (self.table::<T>().dot)(query, row) }
    }

    /// Returns the squared Euclidean distance `‖query − row‖²`, in `f32`.
    ///
    /// `query: [dim] f32`; `row: [dim]`.
    ///
    /// # Panics
    ///
    /// If the lengths of `query` and `row` differ.
    #[inline]
    pub fn l2_squared<T: Element>(&self, query: &[f32], row: &[T]) -> f32 {
        check_row(query, row);
        // SAFETY: the lengths agree; the instruction set was detected before `self` was handed out.
        unsafe { (self.table::<T>().l2_squared)(query, row) }
    }

    /// Returns the squared norm `‖row‖²`, in `f32`.
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
    /// If the lengths of `rows` and `out` differ, or a row is outside `matrix`.
    #[inline]
    pub fn dot_rows<T: Element>(&self, query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]) {
        check_rows(query, matrix, rows, out);
        // SAFETY: every row is inside the matrix and has a slot in `out`; the instruction set was
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
    /// If the lengths of `rows` and `out` differ, or a row is outside `matrix`.
    #[inline]
    pub fn l2_squared_rows<T: Element>(&self, query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]) {
        check_rows(query, matrix, rows, out);
        // SAFETY: every row is inside the matrix and has a slot in `out`; the instruction set was
        // detected before `self` was handed out.
        unsafe { (self.table::<T>().l2_squared_rows)(query, matrix, rows, out) }
    }

    /// Scores consecutive rows: `out[i] = query · matrix[i]`.
    ///
    /// `query: [dim] f32`; `matrix: [n × dim] row-major`; `out: [n]`.
    ///
    /// # Panics
    ///
    /// If `matrix` does not have exactly `out.len()` rows.
    #[inline]
    pub fn dot_scan<T: Element>(&self, query: &[f32], matrix: &[T], out: &mut [f32]) {
        check_scan(query, matrix, out);
        // SAFETY: the matrix has `out.len()` rows; the instruction set was detected
        // before `self` was handed out.
        unsafe { (self.table::<T>().dot_scan)(query, matrix, out) }
    }

    /// Scores consecutive rows: `out[i] = ‖query − matrix[i]‖²`.
    ///
    /// `query: [dim] f32`; `matrix: [n × dim] row-major`; `out: [n]`.
    ///
    /// # Panics
    ///
    /// If `matrix` does not have exactly `out.len()` rows.
    #[inline]
    pub fn l2_squared_scan<T: Element>(&self, query: &[f32], matrix: &[T], out: &mut [f32]) {
        check_scan(query, matrix, out);
        // SAFETY: the matrix has `out.len()` rows; the instruction set was detected
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
    /// If the lengths of `rows` and `out` differ, a row is outside `codes`, or the query is not a whole number of cache
    /// lines.
    #[inline]
    pub fn code_rows(&self, query: &[i8], codes: &[u8], rows: &[u32], out: &mut [f32]) {
        check_code_query(query);
        check_rows(query, codes, rows, out);
        // SAFETY: the query has no tail, every row is inside the matrix and has a slot in `out`; the
        // instruction set was detected before `self` was handed out.
        unsafe { (self.tables.codes.rows)(query, codes, rows, out) }
    }

    /// Scores consecutive rows of codes: `out[i] = query · codes[i]`.
    ///
    /// `query: [len]`, `len` a multiple of [`CODE_ALIGNMENT`]; `codes: [n × len] row-major`; `out: [n]`.
    ///
    /// # Panics
    ///
    /// If `codes` does not have exactly `out.len()` rows, or the query is not a whole number of cache lines.
    #[inline]
    pub fn code_scan(&self, query: &[i8], codes: &[u8], out: &mut [f32]) {
        check_code_query(query);
        check_scan(query, codes, out);
        // SAFETY: the query has no tail and the matrix has `out.len()` rows; the
        // instruction set was detected before `self` was handed out.
        unsafe { (self.tables.codes.scan)(query, codes, out) }
    }

    /// Scores packed rows of codes for several queries: `out[q × rows + r] = queries[q] · row r`, the same
    /// on every instruction set.
    ///
    /// `queries: [count × len]`; `packed`: whole blocks of rows `[len]` as made by [`pack`](super::pack);
    /// `out: [count × rows]`, including the rows of zeros at the end of the last block.
    ///
    /// # Panics
    ///
    /// If a length is wrong.
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
            "the lengths of queries ({} codes), packed rows ({} codes) and results ({}) do not agree at {len} codes each",
            queries.len(),
            packed.len(),
            out.len()
        );
        // SAFETY: as the assertion says; the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.packed.sums)(queries, len, packed, out) }
    }

    /// Converts sums to scores: `scores[i] = bias + scale · sums[i] − offsets[i]`, up to the length of the shortest slice.
    #[inline]
    pub fn scores_of_sums(&self, sums: &[i32], bias: f32, scale: f32, offsets: &[f32], scores: &mut [f32]) {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.packed.scores)(sums, bias, scale, offsets, scores) }
    }

    /// Scores a block of rows of 4-bit codes: `out[r] = base + step · Σ table[c][code c of row r]`, where `affine` is
    /// (base, step). The same on every instruction set. Bit r of the result is set if `out[r]` is `least` or more.
    ///
    /// `table: [codes × 16]`, an even number of codes, entries at most [`MAX_ENTRY`](super::MAX_ENTRY); `codes`: for each
    /// pair of codes 64 bytes, where byte b has both codes of row [`row_of`](super::row_of)`(b)`, the first in its lower
    /// half.
    ///
    /// # Panics
    ///
    /// If a length is wrong.
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
            "the lengths of the table ({} bytes) and of the block ({} bytes) do not agree",
            table.len(),
            codes.len()
        );
        // SAFETY: the lengths agree; the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.nibbles)(table, codes, affine, least, out) }
    }

    /// Appends to `found` the position of every score that is `least` or more, ascending.
    #[inline]
    pub fn at_least(&self, scores: &[f32], least: f32, found: &mut Vec<u32>) {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.select.at_least)(scores, least, found) }
    }

    /// Returns how many scores are `least` or more.
    #[inline]
    pub fn count_at_least(&self, scores: &[f32], least: f32) -> usize {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.select.count)(scores, least) }
    }

    /// Returns the number of set bits.
    #[inline]
    pub fn count_ones(&self, words: &[u32]) -> usize {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.select.ones)(words) }
    }

    /// Sets `maxima[j]` to the largest of `scores[j]`, `scores[j + maxima.len()]` and so on, or to −∞ if there are
    /// none. At least k scores reach the k-th largest maximum.
    ///
    /// # Panics
    ///
    /// If `maxima` is empty.
    #[inline]
    pub fn maxima(&self, scores: &[f32], maxima: &mut [f32]) {
        assert!(!maxima.is_empty(), "there must be room for a maximum");
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.select.maxima)(scores, maxima) }
    }

    /// Returns whether the squared L2 distance between `row` and one of the rows of a tile is less than `bound`. `tile`:
    /// `[dim × TILE_ROWS]`, the first component of every row first. Where the tile has no row, its components are infinite.
    ///
    /// # Panics
    ///
    /// If the tile has another number of components.
    #[inline]
    pub fn is_near(&self, row: &[f32], tile: &[f32], bound: f32) -> bool {
        assert_eq!(tile.len(), row.len() * TILE_ROWS, "the tile has rows of another length");
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.is_near)(row, tile, bound) }
    }

    /// Returns the smallest and the largest score; +∞ and −∞ if there are no scores.
    #[inline]
    pub fn range(&self, scores: &[f32]) -> (f32, f32) {
        // SAFETY: the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.select.range)(scores) }
    }

    /// Writes the `ids` that are below `limit` and whose bit in `words` is not set to the front of `out`, in order, and
    /// returns how many. The bit of `id` is bit `id % 32` of word `id / 32`.
    ///
    /// # Panics
    ///
    /// If `words` has fewer than `limit` bits, or `out` is shorter than `ids`.
    #[inline]
    pub fn absent(&self, words: &[u32], limit: u32, ids: &[u32], out: &mut [u32]) -> usize {
        let bits = words.len() * WORD_BITS;
        assert!(limit as usize <= bits, "a bitmap of {bits} bits for ids below {limit}");
        assert!(ids.len() <= out.len(), "{} ids into {} places", ids.len(), out.len());
        // SAFETY: as the assertions say; the instruction set was detected before `self` was handed out.
        unsafe { (self.tables.select.absent)(words, limit, ids, out) }
    }

    /// Returns the kernels that `word` names, or the best of this machine.
    fn named(word: Option<&str>) -> Result<&'static Kernels, KernelError> {
        match word {
            Some(word) => Kernels::for_isa(word.parse()?),
            None => Ok(Kernels::best()),
        }
    }

    fn best() -> &'static Kernels {
        Kernels::detected().next().unwrap_or(&SCALAR)
    }

    /// Returns the functions for rows of `T`; resolved at compile time.
    #[inline(always)]
    fn table<T: Element>(&self) -> &FloatTable<T> {
        let table: &dyn Any = match T::DTYPE {
            Dtype::F32 => &self.tables.f32,
            Dtype::F16 => &self.tables.f16,
        };
        table.downcast_ref().expect("Element::DTYPE names the type itself")
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kernels").field(&self.isa).finish()
    }
}

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

#[cfg(test)]
mod tests;
