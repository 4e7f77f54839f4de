//! A real router over four real servers of shards, against one server with all videos.

mod callers;
mod failures;
pub(crate) mod fixture;
mod rules;
mod same;
