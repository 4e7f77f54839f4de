//! Nearness: whether one of some rows is near to a row.

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;

/// Components after which a tile is given up if all of its rows are too far.
const STRIDE: usize = 8;

/// One number for each row of a tile.
type Lanes = [f32; TILE_ROWS];

/// Whether the squared L2 distance between `row` and one of the rows of a tile is less than `bound`. `tile`: `[dim × TILE_ROWS]`, the first
/// component of every row first. A row of the tile that is not there has infinite components.
#[inline(always)]
pub(in crate::kernel) fn is_near(row: &[f32], tile: &[f32], bound: f32) -> bool {
    let (columns, _) = tile.as_chunks::<TILE_ROWS>();
    let (strides, rest) = row.as_chunks::<STRIDE>();
    let (of_strides, of_rest) = columns.as_chunks::<STRIDE>();
    let mut sums = [0f32; TILE_ROWS];
    for ([a, b, c, d, e, f, g, h], of) in strides.iter().zip(of_strides) {
        // A tree of sums: few of them wait for each other.
        let first =
            add(add(square(*a, &of[0]), square(*b, &of[1])), add(square(*c, &of[2]), square(*d, &of[3])));
        let second =
            add(add(square(*e, &of[4]), square(*f, &of[5])), add(square(*g, &of[6]), square(*h, &of[7])));
        sums = add(sums, add(first, second));
        if !is_any_less(&sums, bound) {
            return false;
        }
    }
    for (value, column) in rest.iter().zip(of_rest) {
        sums = add(sums, square(*value, column));
    }
    is_any_less(&sums, bound)
}

#[inline(always)]
fn square(value: f32, column: &Lanes) -> Lanes {
    column.map(|other| (value - other) * (value - other))
}

#[inline(always)]
fn add(mut one: Lanes, other: Lanes) -> Lanes {
    one.iter_mut().zip(other).for_each(|(one, other)| *one += other);
    one
}

#[inline(always)]
fn is_any_less(sums: &Lanes, bound: f32) -> bool {
    sums.iter().fold(false, |any, sum| any | (*sum < bound))
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
