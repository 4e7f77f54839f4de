//! Scores by table lookup: rows of 4-bit codes, 64 at a time.
//!
//! Every 4-bit code of a row selects one of sixteen bytes of a table, and the row scores their sum. With the table of a
//! query in a register, one instruction looks up the codes of a whole register of rows (André,
//! Kermarrec and Le Scouarnec, "Cache locality is not enough", 2015).
//!
//! ```text
//! block of 64 rows: for each pair of codes (a, b): 64 bytes, byte 2j + h of row 32h + j: a | b << 4
//! table:            for each code: 16 bytes, each at most 127
//! ```

/// Rows per block.
pub const NIBBLE_ROWS: usize = 64;
/// Table bytes per code.
pub const TABLE_BYTES: usize = 16;
/// The largest table entry: the sum of two fits into a byte.
pub const MAX_ENTRY: u8 = 127;

/// Table bytes per pair of codes.
pub(in crate::kernel) const PAIR_BYTES: usize = 2 * TABLE_BYTES;
/// The number of pairs whose sum fits into 16 bits.
pub(in crate::kernel) const MAX_PAIRS: usize = 256;

/// Scores of one block.
pub(in crate::kernel) trait Nibbles {
    /// Sums the table entries of up to [`MAX_PAIRS`] pairs for each row.
    ///
    /// # Safety
    ///
    /// The processor has the instruction set; `table` is valid for reading `pairs` × [`PAIR_BYTES`] bytes, `codes` for
    /// `pairs` × [`NIBBLE_ROWS`].
    unsafe fn sums(table: *const u8, codes: *const u8, pairs: usize, out: &mut [f32; NIBBLE_ROWS]);

    /// Converts sums to scores.
    ///
    /// # Safety
    ///
    /// The processor has the instruction set.
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

/// Scores one block of any number of pairs.
///
/// # Safety
///
/// As for [`ScoreNibbles`](crate::kernel::tables::ScoreNibbles).
#[inline(always)]
pub(in crate::kernel) unsafe fn score_block<N: Nibbles>(
    table: &[u8],
    codes: &[u8],
    affine: (f32, f32),
    least: f32,
    out: &mut [f32; NIBBLE_ROWS],
) -> u64 {
    let pairs = table.len() / PAIR_BYTES;
    let first = pairs.min(MAX_PAIRS);
    // SAFETY: the table and the block have at least `first` pairs.
    unsafe { N::sums(table.as_ptr(), codes.as_ptr(), first, out) };
    for start in (first..pairs).step_by(MAX_PAIRS) {
        let mut more = [0.0; NIBBLE_ROWS];
        let (table, codes) = (&table[start * PAIR_BYTES..], &codes[start * NIBBLE_ROWS..]);
        // SAFETY: as above, for the rest of them.
        unsafe { N::sums(table.as_ptr(), codes.as_ptr(), (pairs - start).min(MAX_PAIRS), &mut more) };
        out.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    // SAFETY: required of the caller.
    unsafe { N::scores(affine, least, out) }
}

/// Returns the row whose codes are in this byte of every pair.
pub const fn row_of(byte: usize) -> usize {
    NIBBLE_ROWS / 2 * (byte % 2) + byte / 2
}

/// Returns the [`ScoreNibbles`](crate::kernel::tables::ScoreNibbles) of one instruction set, compiled for `$features`.
macro_rules! score_nibbles {
    ($nibbles:ty $(, $features:tt)?) => {{
        use $crate::kernel::generic::nibbles::{self, NIBBLE_ROWS};

        $(#[target_feature(enable = $features)])?
        unsafe fn score(
            table: &[u8],
            codes: &[u8],
            affine: (f32, f32),
            least: f32,
            out: &mut [f32; NIBBLE_ROWS],
        ) -> u64 {
            // SAFETY: as required by `ScoreNibbles`.
            unsafe { nibbles::score_block::<$nibbles>(table, codes, affine, least, out) }
        }
        score
    }};
}

pub(in crate::kernel) use score_nibbles;
