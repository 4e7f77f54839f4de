//! Which columns of a Parquet file are wanted, and what was read.

use half::f16;

use crate::base::id::VideoId;
use crate::dataset::column::AttributeColumn;

/// Which columns are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataset) enum Columns {
    /// Only `embedding`, which must exist.
    Embedding,
    /// All columns; `embedding` must exist.
    All,
    /// All columns except `embedding`.
    AllButEmbedding,
}

/// The decoded columns.
#[derive(Debug)]
pub(in crate::dataset) struct Table {
    /// Rows of every column.
    pub rows: usize,
    /// `Some` if wanted.
    pub embeddings: Option<Decoded>,
    /// `Some` if wanted and the file has a column `video_id`.
    pub ids: Option<Vec<VideoId>>,
    /// In the order of the file.
    pub attributes: Vec<AttributeColumn>,
}

/// Embeddings in the component type of the file, `[rows × dim]` row-major.
#[derive(Debug)]
#[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "only the Parquet reader creates it"))]
pub(in crate::dataset) enum Decoded {
    F32 { dim: usize, values: Vec<f32> },
    F16 { dim: usize, values: Vec<f16> },
}
