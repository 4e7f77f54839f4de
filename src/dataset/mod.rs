//! Embedding files become one thing: a row-major view that borrows the mapped bytes.
//!
//! What flows in: `.npy`, `.fvecs`, `.fbin` and Parquet files, ids and attributes. What flows out:
//! an [`EmbeddingsView`], one [`crate::id::VideoId`] per row and Arrow columns. Nothing here knows of graphs.

mod view;

pub use view::{EmbeddingsView, Rows};
