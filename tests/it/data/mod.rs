//! Embedding files, attributes and made-up catalogs.

mod attributes;
mod files;
mod synth;
