//! Dataset files, attributes and synthetic catalogs.

mod attributes;
mod datasets;
mod embeddings;
mod hostile;
mod ids;
mod neighbors;
mod parquet;
mod parquet_encodings;
mod synth;
mod times;
