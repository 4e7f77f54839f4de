//! Shortlist: the retrieval engine of a short-video recommender.

#![deny(unsafe_code)]

pub mod attributes;
pub mod build;
pub mod dataset;
pub mod element;
pub mod engine;
pub mod eval;
pub mod graph;
pub mod id;
pub mod index;
pub mod kernel;
pub mod mapped_file;
pub mod metric;
pub mod search;
pub mod synth;
