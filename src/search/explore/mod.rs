//! Exploring one segment: the nodes among which the hits are, found as its plan says, until enough of them pass the
//! rules.
//!
//! What flows in: a [`SegmentPlan`](super::plan::SegmentPlan), scorers and rules. What flows out: candidates that pass
//! the rules, scored approximately. Nothing here knows of pages or of other segments.
//!
//! | file | duty |
//! |---|---|
//! | `explorer.rs` | the state of one exploration, and which way it goes |
//! | `traverse.rs` | traversals, resumed until enough candidates pass |
//! | `scan.rs`     | scans of everything, of matches and of blocks, repeated until enough candidates pass |
//! | `plain.rs`    | the fast path of a plain search, which has nothing to sieve |

mod explorer;
mod plain;
mod scan;
mod traverse;

pub(super) use explorer::{Explored, Memory, Wanted, explore};
pub(super) use plain::{Plain, explore_plain, explore_plain_each};
