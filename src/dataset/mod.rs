//! Embedding files become one thing: a row-major view that borrows the mapped bytes.
//!
//! What flows in: `.npy`, `.fvecs`, `.fbin` and Parquet files of embeddings, ids and attributes. What flows out: an
//! [`EmbeddingsView`], one [`crate::base::id::VideoId`] per row, and attribute columns. Nothing here knows of graphs.
//!
//! No file is trusted: reading any bytes returns rows, or a [`DatasetError`] that names the place and the reason.
//!
//! | file | duty |
//! |---|---|
//! | `input.rs`      | [`Dataset`]: embeddings, ids and attributes, opened together and checked against each other |
//! | `embeddings.rs` | one embeddings file, mapped where possible; finite and non-zero checks |
//! | `ids.rs`        | ids from `.npy` or text |
//! | `neighbors.rs`  | ground truth, read and written |
//! | `column.rs`     | attribute columns in memory |
//! | `parquet/`      | the columns of a Parquet file |
//! | `npy.rs` `npy_writer.rs` | the `.npy` format |
//! | `view.rs`       | typed rows of any embeddings |
//! | `limits.rs` `error.rs` | the bounds of every format, and [`DatasetError`] |

mod column;
mod embeddings;
mod error;
mod ids;
mod input;
mod limits;
mod memory;
mod neighbors;
mod npy;
mod npy_writer;
mod parquet;
mod view;

pub use column::{AttributeColumn, ColumnValues, KeywordLists, Keywords, Numbers, Validity};
pub use embeddings::{Components, Embeddings};
pub use error::DatasetError;
pub use ids::{read_id_list, read_ids};
pub use input::{Dataset, DatasetFiles, EXPIRES_AT, IdSource, NEVER};
pub use neighbors::Neighbors;
pub use npy_writer::{NpyScalar, NpyWriter, write_npy};
pub use view::{EmbeddingsView, Rows};
