//! Embedding files become one thing: a row-major view that borrows the mapped bytes.
//!
//! What flows in: files of embeddings, ids and attributes. What flows out: an [`EmbeddingsView`], one
//! [`crate::base::id::VideoId`] per row, and attribute columns. Nothing here knows of graphs.
//!
//! No file is trusted: reading any bytes returns rows, or a [`DatasetError`] that names the place and the reason.
//!
//! | file | duty |
//! |---|---|
//! | `input.rs`      | [`Dataset`]: embeddings, ids and attributes, opened together and checked against each other |
//! | `files.rs`      | the files of one argument as one table, each read by its extension |
//! | `sources.rs`    | the files that a folder or a pattern names |
//! | `places.rs`     | the file and the row that a row of several files is |
//! | `table.rs`      | which columns are wanted, and what was read |
//! | `embeddings.rs` | embeddings, mapped where possible; finite and non-zero checks |
//! | `memory.rs`     | [`Dataset`] from values in memory |
//! | `select.rs`     | some rows of a [`Dataset`] |
//! | `ids.rs`        | ids from `.npy` or text |
//! | `neighbors.rs`  | ground truth, read and written |
//! | `column.rs`     | attribute columns in memory |
//! | `parquet/`      | the columns of a Parquet file |
//! | `hdf5/`         | the rows, queries and neighbors of a public benchmark |
//! | `benchmark.rs`  | [`BenchmarkSet`]: a public benchmark |
//! | `jsonl/`        | the columns of objects of JSON, one per line |
//! | `npy.rs` `npy_writer.rs` `vecs.rs` `bins.rs` | the formats of arrays |
//! | `array.rs` `scalar.rs` | where the numbers of an array lie, and their conversion |
//! | `components.rs` `view.rs` | components in memory, and typed rows of any embeddings |
//! | `limits.rs` `error.rs` | the bounds of every format, and [`DatasetError`] |

mod array;
mod benchmark;
mod bins;
mod column;
mod components;
mod embeddings;
mod error;
mod files;
mod hdf5;
mod ids;
mod input;
mod jsonl;
mod limits;
mod memory;
mod neighbors;
mod npy;
mod npy_writer;
mod parquet;
mod places;
mod scalar;
mod select;
mod sources;
mod table;
mod vecs;
mod view;

pub use benchmark::BenchmarkSet;
pub use column::{AttributeColumn, ColumnValues, KeywordLists, Keywords, Numbers, Validity};
pub use components::Components;
pub use embeddings::Embeddings;
pub use error::DatasetError;
pub use hdf5::metric_of;
pub use ids::{Ids, MAX_TEXT_ID, read_id_list, read_ids};
pub use input::{Dataset, DatasetFiles, DatasetOptions, EXPIRES_AT, IdSource, NEVER, ReadReport};
pub use neighbors::Neighbors;
pub use npy_writer::{NpyScalar, NpyWriter, write_npy};
pub use table::{ColumnNames, EMBEDDING_COLUMN, ID_COLUMN};
pub use view::{EmbeddingsView, Rows};
