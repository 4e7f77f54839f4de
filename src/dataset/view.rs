//! Row-major views of embeddings, independent of the file format.

use half::f16;

use crate::base::element::{Dtype, Element};
use crate::kernel::prefetch;

/// `rows × dim` components of one type, row-major, each row `stride` components after the last.
///
/// A stride larger than `dim` skips data between rows: `.fvecs` repeats the dimension before each row.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    data: &'a [T],
    rows: usize,
    dim: usize,
    stride: usize,
}

impl<'a, T: Element> Rows<'a, T> {
    /// A view of contiguous rows. `data`: `[rows × dim]`.
    ///
    /// # Panics
    /// If `dim` is 0 or does not divide `data.len()`.
    pub fn contiguous(data: &'a [T], dim: usize) -> Self {
        Self::strided(data, dim, dim)
    }

    /// A view of rows that start `stride` components apart; the last one may end with `data`.
    ///
    /// # Panics
    /// If `dim` is 0, larger than `stride`, or `data` does not end on a row.
    pub fn strided(data: &'a [T], dim: usize, stride: usize) -> Self {
        assert!(dim > 0 && dim <= stride, "rows of {dim} components cannot lie {stride} apart");
        let gap = stride - dim;
        assert!(data.is_empty() || (data.len() + gap).is_multiple_of(stride), "the last row is incomplete");
        let rows = if data.is_empty() { 0 } else { (data.len() + gap) / stride };
        Self { data, rows, dim, stride }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Components per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `row`, `[dim]`.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    #[inline]
    pub fn row(&self, row: usize) -> &'a [T] {
        let start = row * self.stride;
        &self.data[start..start + self.dim]
    }

    /// The first `count` rows, or all if there are fewer.
    pub fn first(self, count: usize) -> Self {
        let rows = count.min(self.rows);
        let length = rows.checked_sub(1).map_or(0, |last| last * self.stride + self.dim);
        Self { data: &self.data[..length], rows, ..self }
    }

    /// Returns all rows as one slice `[rows × dim]`, if they are contiguous.
    pub fn as_contiguous(&self) -> Option<&'a [T]> {
        (self.stride == self.dim).then_some(self.data)
    }

    /// Iterates over the rows in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [T]> + use<'a, T> {
        let view = *self;
        (0..view.rows).map(move |row| view.row(row))
    }
}

/// Embeddings of either component type.
#[derive(Clone, Copy, Debug)]
pub enum EmbeddingsView<'a> {
    /// Single precision.
    F32(Rows<'a, f32>),
    /// Half precision.
    F16(Rows<'a, f16>),
}

/// Runs `$body` with `$rows` bound to the typed rows of an [`EmbeddingsView`].
#[macro_export]
macro_rules! with_rows {
    ($view:expr, $rows:ident => $body:expr) => {
        match $view {
            $crate::dataset::EmbeddingsView::F32($rows) => $body,
            $crate::dataset::EmbeddingsView::F16($rows) => $body,
        }
    };
}

impl<'a> EmbeddingsView<'a> {
    /// The first `count` rows, or all if there are fewer.
    pub fn first(self, count: usize) -> EmbeddingsView<'a> {
        match self {
            Self::F32(rows) => Self::F32(rows.first(count)),
            Self::F16(rows) => Self::F16(rows.first(count)),
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        with_rows!(self, rows => rows.len())
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Components per row.
    pub fn dim(&self) -> usize {
        with_rows!(self, rows => rows.dim())
    }

    /// The stored component type.
    pub fn dtype(&self) -> Dtype {
        match self {
            EmbeddingsView::F32(_) => Dtype::F32,
            EmbeddingsView::F16(_) => Dtype::F16,
        }
    }

    /// Prefetches a row, which is read soon.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    pub fn prefetch_row(&self, row: usize) {
        with_rows!(self, rows => prefetch(rows.row(row)));
    }

    /// Row `row` widened into `out`, `[dim]`.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    pub fn copy_row(&self, row: usize, out: &mut Vec<f32>) {
        out.clear();
        with_rows!(self, rows => out.extend_from_slice(&Element::widen(rows.row(row))));
    }
}
