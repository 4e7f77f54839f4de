//! Building generations, and the files and folders that hold them.

mod build;
mod format;
pub(crate) mod recall_curve;
mod store;
