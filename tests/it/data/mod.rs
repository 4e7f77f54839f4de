//! Dataset files, attributes and synthetic catalogs.

mod attributes;
mod datasets;
mod embeddings;
mod hdf5;
mod hostile;
mod ids;
mod neighbors;
mod numbers;
mod parquet;
mod parquet_encodings;
mod records;
mod synth;
pub mod text_ids;
mod times;
