//! Parquet catalogs: the columns `video_id` and `embedding`, and one attribute under every other name.
//!
//! What flows in: a path, and which columns are wanted; no page of another column is read. What flows out: a
//! [`Table`] of ids, embeddings in one row-major vector, and attribute columns in the types that an index stores.
//! Nothing here knows of other files.
//!
//! | file | duty |
//! |---|---|
//! | `table.rs`      | [`Columns`] and [`Table`]: what is wanted and what was read |
//! | `decode.rs`     | one file: magic, row groups, the wanted columns of each |
//! | `expansion.rs`  | what reading a file may cost: footer, page headers, a budget |
//! | `format.rs`     | the structs of Parquet metadata, as a table |
//! | `compact.rs`    | reads these structs, in the compact protocol of Thrift |
//! | `schema.rs`     | the type of a column, and how its lists are encoded |
//! | `records.rs`    | the rows of one column of one row group, in batches |
//! | `embeddings.rs` | lists of f32 or f16, all of one length |
//! | `attributes.rs` | ids and attributes |
//!
//! Without the feature `parquet`, only `table.rs` is compiled, and every file is refused.

#[cfg(feature = "parquet")]
mod attributes;
#[cfg(feature = "parquet")]
mod compact;
#[cfg(feature = "parquet")]
mod decode;
#[cfg(feature = "parquet")]
mod embeddings;
#[cfg(feature = "parquet")]
mod expansion;
#[cfg(feature = "parquet")]
mod format;
#[cfg(feature = "parquet")]
mod records;
#[cfg(feature = "parquet")]
mod schema;
mod table;

#[cfg(feature = "parquet")]
pub(super) use decode::read;
pub(super) use table::{Columns, Decoded, Table};

/// Refuses the file.
#[cfg(not(feature = "parquet"))]
pub(super) fn read(path: &std::path::Path, _columns: Columns) -> Result<Table, super::error::DatasetError> {
    Err(super::error::DatasetError::WithoutParquet { path: path.to_owned() })
}
