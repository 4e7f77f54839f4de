//! Integer kernels for many queries against many rows: codes in packed blocks.
//!
//! A block has [`PACKED_ROWS`] rows, interleaved by four bytes. One register then has the same four bytes of every row of
//! the block, and the sums of a query are in neighboring lanes: no register is summed across its lanes, and each register
//! of rows is used for several queries.
//!
//! ```text
//! block: row 0 bytes 0..4 · row 1 bytes 0..4 · … row 15 bytes 0..4 · row 0 bytes 4..8 · …
//! ```

/// Rows per block.
pub const PACKED_ROWS: usize = 16;

/// Queries that share the loads of a block of rows.
const TILE: usize = 8;

/// Appends `rows`, each `[len]`, to `packed` in blocks; the last block is padded with rows of zeros.
///
/// # Panics
/// If a row has another length, or `len` is not a multiple of 4.
pub fn pack<'a>(rows: impl Iterator<Item = &'a [u8]>, len: usize, packed: &mut Vec<u8>) {
    assert!(len.is_multiple_of(4), "expected rows of a multiple of 4 codes, found {len}");
    for (position, row) in rows.enumerate() {
        assert_eq!(row.len(), len, "a row has another length than the others");
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
pub(in crate::kernel) trait PackedDot {
    /// Writes the sums of `Q` queries with the rows of one block.
    ///
    /// # Safety
    ///
    /// The processor has the instruction set; `queries` is valid for reading `Q × len` bytes, `block` for `16 × len`, and
    /// `out` for writing 16 sums for each query, `stride` apart.
    unsafe fn tile<const Q: usize>(
        queries: *const i8,
        len: usize,
        block: *const u8,
        out: *mut i32,
        stride: usize,
    );
}

/// Writes the sums of all queries with all rows.
///
/// # Safety
///
/// As for [`PackedTable`](crate::kernel::tables::PackedTable).
#[inline(always)]
pub(in crate::kernel) unsafe fn score<D: PackedDot>(
    queries: &[i8],
    len: usize,
    packed: &[u8],
    out: &mut [i32],
) {
    if len == 0 {
        return out.fill(0);
    }
    let count = queries.len() / len;
    let rows = packed.len() / len;
    for (at, block) in packed.chunks_exact(PACKED_ROWS * len).enumerate() {
        let tiles = count / TILE * TILE;
        let slot = |query: usize| query * rows + at * PACKED_ROWS;
        for query in (0..tiles).step_by(TILE) {
            // SAFETY: there are `TILE` more queries, and slots for their sums.
            unsafe {
                let out = out.as_mut_ptr().add(slot(query));
                D::tile::<TILE>(queries.as_ptr().add(query * len), len, block.as_ptr(), out, rows);
            }
        }
        for query in tiles..count {
            // SAFETY: as above, for one query.
            unsafe {
                let out = out.as_mut_ptr().add(slot(query));
                D::tile::<1>(queries.as_ptr().add(query * len), len, block.as_ptr(), out, rows);
            }
        }
    }
}

/// `scores[i] = bias + scale · sums[i] − offsets[i]`.
#[inline(always)]
pub(in crate::kernel) fn scores(sums: &[i32], bias: f32, scale: f32, offsets: &[f32], scores: &mut [f32]) {
    for ((score, sum), offset) in scores.iter_mut().zip(sums).zip(offsets) {
        *score = bias + scale * *sum as f32 - offset;
    }
}

/// Returns the [`PackedTable`](crate::kernel::tables::PackedTable) of one instruction set, compiled for `$features`.
macro_rules! packed_table {
    ($dot:ty $(, $features:tt)?) => {{
        use $crate::kernel::generic::packed;
        use $crate::kernel::tables::PackedTable;

        $(#[target_feature(enable = $features)])?
        unsafe fn sums(queries: &[i8], len: usize, packed: &[u8], out: &mut [i32]) {
            // SAFETY: as required by `PackedTable`.
            unsafe { packed::score::<$dot>(queries, len, packed, out) }
        }
        $(#[target_feature(enable = $features)])?
        fn scores(sums: &[i32], bias: f32, scale: f32, offsets: &[f32], out: &mut [f32]) {
            packed::scores(sums, bias, scale, offsets, out)
        }
        PackedTable { sums, scores }
    }};
}

pub(in crate::kernel) use packed_table;
