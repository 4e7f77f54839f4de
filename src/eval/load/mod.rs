//! Open-loop load: searches are due at times that are fixed beforehand, whatever becomes of earlier ones.
//!
//! What flows in: a rate, and what became of each search. What flows out: the schedule, and rates and latencies. A latency counts
//! from when its search was due, so that a search that waits behind a slow one counts as slow, too.
//!
//! | file | duty |
//! |---|---|
//! | `schedule.rs` | when searches are due |
//! | `figures.rs`  | what became of them |

mod figures;
mod schedule;

pub use figures::{Ended, Load, LoadFigures};
pub use schedule::{Arrivals, schedule};
