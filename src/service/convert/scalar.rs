//! Times, durations and counts, to the wire.

use crate::base::instant::Instant;

/// Converts a point in time. The proto requires nanoseconds that count forward, also before 1970.
pub(crate) fn timestamp(at: impl Into<Instant>) -> prost_types::Timestamp {
    const NANOS_PER_SECOND: i128 = 1_000_000_000;
    let nanos = at.into().as_nanosecond();
    prost_types::Timestamp {
        seconds: nanos.div_euclid(NANOS_PER_SECOND) as i64,
        nanos: nanos.rem_euclid(NANOS_PER_SECOND) as i32,
    }
}

/// Converts a duration; saturates at `i64::MAX` seconds.
pub(crate) fn duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

/// Converts a count; saturates at `u32::MAX`.
pub(super) fn saturate(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_forward() {
        let just_before = Instant::from_microsecond(-1).unwrap();
        assert_eq!(timestamp(just_before), prost_types::Timestamp { seconds: -1, nanos: 999_999_000 });
        let after = Instant::from_microsecond(1_500_000).unwrap();
        assert_eq!(timestamp(after), prost_types::Timestamp { seconds: 1, nanos: 500_000_000 });
    }
}
