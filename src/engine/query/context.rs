//! What every step of answering one request needs.

use std::time::Instant;

use crate::engine::options::Limits;
use crate::engine::query::budget::Budget;
use crate::search::Searcher;

/// The context of one request against one snapshot.
#[derive(Clone, Copy)]
pub(crate) struct RequestContext<'a> {
    /// The name of the index, for errors.
    pub(crate) name: &'a str,
    pub(crate) searcher: &'a Searcher,
    pub(crate) limits: &'a Limits,
    pub(crate) budget: &'a Budget,
}

impl RequestContext<'_> {
    /// The condition that interrupts the work on the request: checks for a cancellation every time and the clock every
    /// sixteenth time.
    pub(crate) fn is_over(&self) -> impl FnMut() -> bool {
        let (budget, stop_at) = (self.budget, self.budget.stop_at());
        let mut checked = 0u32;
        move || {
            checked = checked.wrapping_add(1);
            let is_late = || {
                budget.pause.rest();
                stop_at.is_some_and(|stop_at| Instant::now() >= stop_at)
            };
            budget.is_cancelled() || checked % 16 == 1 && is_late()
        }
    }
}
