//! Embedding files, attributes and synthetic catalogs.

mod attributes;
mod files;
mod synth;
