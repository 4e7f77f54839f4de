//! Which generation of an index answers: finds publications, checks and measures them, swaps them in, removes old ones.
//!
//! What flows in: manifests in the folder of an index, and finished rebuilds. What flows out: the snapshot that
//! answers, and events for what changed. Nothing here knows how a request is answered.
//!
//! | file | duty |
//! |---|---|
//! | `refresh.rs`         | the events that a refresh reports |
//! | `gate.rs`            | measures a generation and compares it with the current one |
//! | `continuity.rs`      | what a generation must have in common with the current one |
//! | `servable.rs`        | returns whether a generation may answer |
//! | `quality_gate.rs`    | runs the gate once per generation and keeps its report |
//! | `start.rs`           | which generation a start serves |
//! | `serving.rs`         | whether an index answers, and what was refused |
//! | `scrub.rs`           | compares the checksums of what serves again and again |
//! | `tidy.rs`            | removes old generations and log entries |
//! | `detached.rs`        | why the files of an index are no longer those that were opened |
//! | `served.rs`          | an open index: its snapshot and its refreshes |
//! | `swap.rs`            | another generation takes the place of the one that answers |
//! | `activation.rs`      | a generation that an operator chose does |
//! | `checked.rs`         | compares the checksums of the generation that answers, and replaces it if it is damaged |
//! | `published.rs`       | what was published takes the place of the generation that answers |
//! | `residence.rs`       | the generation that answers is copied into memory, or the copy is given back |
//! | `residence_progress.rs` | what was decided about that copy |
//! | `state.rs`           | the state of an open index: attached to its files, writable, ready |
//! | `hosted.rs`          | one named index: opens its folder, again if its files were replaced |
//! | `next_generation.rs` | runs a rebuild of a served index and publishes it |
//! | `learn.rs`           | measures the default effort of an index without known users with the first that ask |
//! | `learner.rs`         | the thread that does |

mod activation;
mod checked;
pub(crate) mod continuity;
mod detached;
pub(crate) mod gate;
pub(crate) mod hosted;
mod learn;
mod learner;
pub(crate) mod next_generation;
mod published;
mod quality_gate;
pub(crate) mod refresh;
mod residence;
mod residence_progress;
mod scrub;
pub(super) mod servable;
pub(crate) mod served;
mod serving;
mod start;
mod state;
pub(crate) mod swap;
mod tidy;
