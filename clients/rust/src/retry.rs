//! Which calls are repeated, and when.
//!
//! What flows in: the status of an attempt. What flows out: the delay before the next one, or none. Every call of
//! `shortlist.v1` may be repeated: writes are idempotent. A budget keeps clients from multiplying the load of servers that
//! fail: once more than about one call in ten fails, retries stop until most succeed again.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tonic::{Code, Status};

use crate::error::Error;

/// Attempts per call, the first included.
pub(crate) const MAX_ATTEMPTS: u32 = 4;
/// The longest first delay. It doubles with each attempt, and is drawn at random up to this.
const FIRST_DELAY: Duration = Duration::from_millis(25);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// The tokens of a client: a failure takes one, a success gives a tenth, and retries need more than half of the most.
#[derive(Debug)]
pub(crate) struct Budget(AtomicI64);

impl Budget {
    const MAX: i64 = 100;
    const FAILURE: i64 = 10;

    pub(crate) fn full() -> Self {
        Self(AtomicI64::new(Self::MAX))
    }

    pub(crate) fn succeed(&self) {
        self.add(1);
    }

    /// Counts a failure. Returns whether a retry is affordable.
    fn fail(&self) -> bool {
        self.add(-Self::FAILURE) > Self::MAX / 2
    }

    fn add(&self, tokens: i64) -> i64 {
        let sum = |held: i64| (held + tokens).clamp(0, Self::MAX);
        let held = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(sum(held)));
        sum(held.unwrap_or_else(|held| held))
    }
}

/// Returns the delay before the next attempt, or `None` if this failure is final. `has_other`: whether another server has
/// not been asked yet.
pub(crate) fn delay(budget: &Budget, status: &Status, attempt: u32, has_other: bool) -> Option<Duration> {
    let retry_after = Error::from(status).retry_after;
    let may_help = match status.code() {
        Code::Unavailable => true,
        // The server suggests it, because it has too much to do.
        Code::ResourceExhausted => retry_after.is_some(),
        // The connection broke. A status that a server sent has no source.
        Code::Unknown | Code::Internal | Code::Cancelled => std::error::Error::source(status).is_some(),
        _ => false,
    };
    if !may_help || !budget.fail() || attempt + 1 >= MAX_ATTEMPTS {
        return None;
    }
    if has_other {
        return Some(Duration::ZERO);
    }
    let longest = FIRST_DELAY.saturating_mul(1 << attempt).min(MAX_DELAY);
    // At random, so that callers that failed together do not come back together.
    let drawn = longest.mul_f64(rand::random_range(0.5..1.0));
    Some(retry_after.map_or(drawn, |suggested| suggested + drawn / 4))
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn only_what_another_attempt_may_answer_is_repeated() {
        let is_repeated = |status: &Status| delay(&Budget::full(), status, 0, false).is_some();
        assert!(is_repeated(&Status::unavailable("")));
        assert!(!is_repeated(&Status::resource_exhausted("")));
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(100)));
        let shed = Status::with_error_details(Code::ResourceExhausted, "", details);
        let waits = delay(&Budget::full(), &shed, 0, false).unwrap();
        assert!(waits >= Duration::from_millis(100), "{waits:?}");
        assert_eq!(delay(&Budget::full(), &shed, 0, true), Some(Duration::ZERO));
        for status in [Status::invalid_argument(""), Status::internal(""), Status::not_found("")] {
            assert!(!is_repeated(&status), "{status}");
        }
        let broken = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        assert!(is_repeated(&broken), "{broken}");
        assert_eq!(delay(&Budget::full(), &Status::unavailable(""), MAX_ATTEMPTS - 1, true), None);
    }

    #[test]
    fn delays_grow_and_retries_stop_when_most_calls_fail() {
        let budget = Budget::full();
        let failed = Status::unavailable("");
        let first = delay(&budget, &failed, 0, false).unwrap();
        assert!((FIRST_DELAY / 2..FIRST_DELAY).contains(&first), "{first:?}");
        let second = delay(&budget, &failed, 1, false).unwrap();
        assert!((FIRST_DELAY..2 * FIRST_DELAY).contains(&second), "{second:?}");
        while delay(&budget, &failed, 0, true).is_some() {}
        (0..100).for_each(|_| budget.succeed());
        assert!(delay(&budget, &failed, 0, true).is_some());
    }
}
