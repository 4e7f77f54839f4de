//! The delta: videos written since the build of a generation, searched next to it.
//!
//! | file | duty |
//! |---|---|
//! | `rows.rs`     | rows of upserts or of segments become the dataset of a segment |
//! | `fits.rs`     | whether an upsert fits a generation |
//! | `segments.rs` | the generation and its delta segments, with their tombstones |
//! | `superseded.rs` | which entries of the log no replay needs |
//! | `state.rs`    | applies log entries to segments; compaction |

pub(crate) mod fits;
pub(crate) mod rows;
pub(crate) mod segments;
pub(crate) mod state;
pub(crate) mod superseded;
