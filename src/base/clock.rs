//! The time that two clocks agree on.

use std::sync::LazyLock;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Both clocks when the process first looked at them.
static BEGAN: LazyLock<(Timestamp, Instant)> = LazyLock::new(|| (Timestamp::now(), Instant::now()));

/// Returns the earlier of the time of day and the time of day at the start of the process plus the time that has passed
/// since. A time of day that was set forward by mistake is not counted: use it to decide what is dropped for good.
pub fn settled_now() -> Timestamp {
    let (began, monotonic) = *BEGAN;
    settled(
        began,
        SignedDuration::try_from(monotonic.elapsed()).unwrap_or(SignedDuration::MAX),
        Timestamp::now(),
    )
}

fn settled(began: Timestamp, elapsed: SignedDuration, now: Timestamp) -> Timestamp {
    began.saturating_add(elapsed).map_or(now, |steady| steady.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_forward_is_not_counted_and_a_step_back_is() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let elapsed = SignedDuration::from_secs(10);
        assert_eq!(settled(at(1000), elapsed, at(1010)), at(1010));
        assert_eq!(settled(at(1000), elapsed, at(9000)), at(1010));
        assert_eq!(settled(at(1000), elapsed, at(500)), at(500));
    }
}
