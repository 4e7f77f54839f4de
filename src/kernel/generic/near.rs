//! Nearness: whether one of some rows is near to a row.

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;

/// Components after which a tile is given up if all of its rows are too far.
const STRIDE: usize = 16;

/// Whether the squared L2 distance between `row` and one of the rows of a tile is less than `bound`. `tile`: `[dim × TILE_ROWS]`, the first
/// component of every row first. A row of the tile that is not there has infinite components.
#[inline(always)]
pub(in crate::kernel) fn is_near(row: &[f32], tile: &[f32], bound: f32) -> bool {
    let (columns, _) = tile.as_chunks::<TILE_ROWS>();
    let mut sums = [0f32; TILE_ROWS];
    for (values, columns) in row.chunks(STRIDE).zip(columns.chunks(STRIDE)) {
        for (value, column) in values.iter().zip(columns) {
            for (sum, other) in sums.iter_mut().zip(column) {
                let difference = value - other;
                *sum += difference * difference;
            }
        }
        if !sums.iter().fold(false, |any, sum| any | (*sum < bound)) {
            return false;
        }
    }
    true
}

/// Returns [`is_near`], compiled for `$features`.
macro_rules! near {
    ($($features:tt)?) => {{
        $(#[target_feature(enable = $features)])?
        fn is_near(row: &[f32], tile: &[f32], bound: f32) -> bool {
            $crate::kernel::generic::near::is_near(row, tile, bound)
        }
        is_near
    }};
}

pub(in crate::kernel) use near;
