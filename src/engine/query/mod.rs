//! One request against one snapshot.
//!
//! What flows in: a request and its budget. What flows out: the answer, or the explanation of one video in it. Nothing
//! here knows how snapshots are replaced, written to or built.
//!
//! | file | duty |
//! |---|---|
//! | `request.rs`        | request and answer types |
//! | `budget.rs`         | when to stop, and the room for the answer |
//! | `answer_size.rs`    | the size of an answer while it is built |
//! | `context.rs`        | what every step of a request needs: name, searcher, limits, budget |
//! | `resolved_query.rs` | the query vectors in terms of one generation |
//! | `rules.rs`          | the rules of a request, in the same terms |
//! | `recent_matches.rs` | the matches of the filters that requests used last |
//! | `calibrated.rs`     | the measured recall of a generation |
//! | `text_ids.rs`       | ids that are text |
//! | `usage.rs`          | what requests used of a generation |
//! | `snapshot.rs`       | one generation with its delta, searchable |
//! | `estimate.rs`       | what a request is expected to cost |
//! | `explain.rs`        | why a video is or is not in an answer |
//! | `builder.rs`        | a search request, one call per field |

pub(crate) mod answer_size;
pub(crate) mod budget;
mod builder;
pub(crate) mod calibrated;
pub(crate) mod context;
pub(crate) mod estimate;
pub(crate) mod explain;
mod recent_matches;
pub(crate) mod request;
pub(crate) mod resolved_query;
pub(crate) mod rules;
pub(crate) mod snapshot;
mod text_ids;
pub(crate) mod usage;
