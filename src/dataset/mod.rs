//! Embedding files become one thing: a row-major view that borrows the mapped bytes.
//!
//! What flows in: `.npy`, `.fvecs`, `.fbin` and Parquet files, ids and attributes. What flows out:
//! an [`EmbeddingsView`], one [`crate::base::id::VideoId`] per row and Arrow columns. Nothing here knows of graphs.
//!
//! No file is trusted: whatever its bytes, the answer is rows or a [`DatasetError`] that says where and why.
//!
//! | file | duty |
//! |---|---|
//! | `input.rs`    | embeddings, ids and attributes opened together and checked against each other |
//! | `embeddings.rs` | one embeddings file, mapped where possible; finite and non-zero checks |
//! | `ids.rs`        | ids from `.npy` or text |
//! | `neighbors.rs`  | ground truth, read and written |
//! | `parquet.rs`    | the columns of a Parquet file |
//! | `npy.rs` `npy_writer.rs` | the `.npy` format |
//! | `view.rs`       | typed rows, whatever file they came from |
//! | `limits.rs` `error.rs` | bounds every format keeps, and what can be wrong |

mod embeddings;
mod error;
mod ids;
mod input;
mod limits;
mod neighbors;
mod npy;
mod npy_writer;
mod parquet;
mod view;

pub use embeddings::Embeddings;
pub use error::DatasetError;
pub use ids::{read_id_list, read_ids};
pub use input::{AttributeColumn, Dataset, DatasetFiles, EXPIRES_AT, NEVER};
pub use neighbors::Neighbors;
pub use npy_writer::{NpyScalar, NpyWriter, write_npy};
pub use view::{EmbeddingsView, Rows};
