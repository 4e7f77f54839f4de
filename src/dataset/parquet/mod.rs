//! Parquet catalogs: columns of ids, of embeddings and of attributes.
//!
//! What flows in: a path, and which columns are wanted; no page of another column is read. What flows out: a
//! [`Table`](super::table::Table) of ids, embeddings in one row-major vector, and attribute columns in the types that an
//! index stores. Nothing here knows of other files.
//!
//! | file | duty |
//! |---|---|
//! | `decode.rs`     | one file: magic, row groups, the wanted columns of each |
//! | `expansion.rs`  | what reading a file may cost: footer, page headers, a budget |
//! | `format.rs`     | the structs of Parquet metadata, as a table |
//! | `compact.rs`    | reads these structs, in the compact protocol of Thrift |
//! | `schema.rs`     | the type of a column, and how its lists are encoded |
//! | `records.rs`    | the rows of one column of one row group, in batches |
//! | `embeddings.rs` | lists of numbers, all of one length |
//! | `attributes.rs` | ids and attributes |
//!
//! Without the feature `parquet`, every file is refused.

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

#[cfg(feature = "parquet")]
pub(super) use decode::read;

/// Refuses the file.
#[cfg(not(feature = "parquet"))]
pub(super) fn read(
    path: &std::path::Path,
    _wanted: super::table::Wanted,
    _names: &super::table::ColumnNames,
) -> Result<super::table::Table, super::error::DatasetError> {
    Err(super::error::DatasetError::WithoutParquet { path: path.to_owned() })
}
