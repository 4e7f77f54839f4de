//! Shortlist: the retrieval engine of a short-video recommender.
#![deny(unsafe_code)]

pub mod dataset;
pub mod element;
pub mod id;
pub mod kernel;
pub mod mapped_file;
pub mod metric;
