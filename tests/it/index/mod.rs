//! Builds of generations, their files and folders.

mod build;
mod format;
pub(crate) mod recall_curve;
mod store;
