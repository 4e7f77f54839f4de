//! Admission: which calls are computed, in which order, and which are refused.
//!
//! What flows in: searches and writes with their callers, deadlines and expected cost. What flows out: permits, searches
//! on the threads of the compute pool, or refusals that say when to retry. Does not know HTTP/2 or the encoding of a call.
//!
//! | file | duty |
//! |---|---|
//! | `permits.rs`    | limits the searches and writes in flight |
//! | `quota.rs`      | what one caller may ask for |
//! | `rates.rs`      | searches and cost per client and second |
//! | `dispatcher.rs` | which admitted search is computed next, and which is refused |
//! | `queue.rs`      | the searches that wait, fair between clients and by deadline |
//! | `flows.rs`      | start-time fair queueing |
//! | `speed.rs`      | how measured cost compares with expected cost |

mod dispatcher;
mod flows;
mod permits;
mod queue;
pub(crate) mod quota;
mod rates;
mod speed;

pub(crate) use self::dispatcher::{Dispatcher, Queued, Turn};
pub(crate) use self::permits::{Admission, Permit, Work};
pub(crate) use self::queue::Place;
pub(crate) use self::quota::Quota;
