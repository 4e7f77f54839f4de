//! Which generation answers: finds publications, checks and measures them, swaps them in, removes old ones.
//!
//! What flows in: manifests in the folder of an index, and finished rebuilds. What flows out: the snapshot that
//! answers, and reports of what changed. Nothing here knows how a graph is built.
//!
//! | file | duty |
//! |---|---|
//! | `served.rs`   | one named index: its snapshot, and how it is swapped |
//! | `servable.rs` | whether a generation may answer |
//! | `gate.rs`     | the quality gate: measures a generation before it answers |
//! | `refresh.rs`  | the events that a refresh reports |
//! | `tidy.rs`     | removes old generations and log entries |

pub(crate) mod gate;
pub(crate) mod refresh;
pub(crate) mod servable;
pub(crate) mod served;
pub(crate) mod tidy;
