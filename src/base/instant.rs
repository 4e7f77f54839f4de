//! Points in time of the years -9999 to 9999, to the nanosecond.
//!
//! The range is that of the calendar of `jiff`, and includes every `google.protobuf.Timestamp`. `jiff::Timestamp` ends
//! at 9999-12-30 22:00 UTC, so that a local time of any offset has a year of four digits. It cannot hold 9999-12-31,
//! which data often has for "never".

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::{SignedDuration, Timestamp};

const NANOS_PER_MICRO: i128 = 1_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A point in time, UTC, between [`Instant::MIN`] and [`Instant::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Nanoseconds since 1970-01-01 00:00 UTC.
    nanos: i128,
}

/// A number that is no [`Instant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time from {} to {}, found {found} {unit} since 1970", Instant::MIN, Instant::MAX)]
pub struct OutOfRange {
    /// The number.
    pub found: i128,
    /// Its unit, such as `microseconds`.
    pub unit: &'static str,
}

/// A text that is no [`Instant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time with a UTC offset, such as 2026-01-31T12:00:00Z, or a date")]
pub struct NoInstant;

impl Instant {
    /// -9999-01-01 00:00 UTC.
    pub const MIN: Self = Self { nanos: -377_705_116_800 * NANOS_PER_SECOND };
    /// The last nanosecond of 9999-12-31 UTC.
    pub const MAX: Self = Self { nanos: 253_402_300_800 * NANOS_PER_SECOND - 1 };

    /// Returns the point in time this many nanoseconds after 1970-01-01 00:00 UTC.
    ///
    /// # Errors
    /// If it is before [`Instant::MIN`] or after [`Instant::MAX`].
    pub fn from_nanosecond(nanos: i128) -> Result<Self, OutOfRange> {
        let instant = Self { nanos };
        let found = OutOfRange { found: nanos, unit: "nanoseconds" };
        (Self::MIN..=Self::MAX).contains(&instant).then_some(instant).ok_or(found)
    }

    /// Returns the point in time this many microseconds after 1970-01-01 00:00 UTC.
    ///
    /// # Errors
    /// If it is before [`Instant::MIN`] or after [`Instant::MAX`].
    pub fn from_microsecond(micros: i64) -> Result<Self, OutOfRange> {
        Self::from_nanosecond(i128::from(micros) * NANOS_PER_MICRO)
            .map_err(|_| OutOfRange { found: micros.into(), unit: "microseconds" })
    }

    /// Returns the nanoseconds since 1970-01-01 00:00 UTC.
    pub fn as_nanosecond(self) -> i128 {
        self.nanos
    }

    /// Returns the microseconds since 1970-01-01 00:00 UTC, rounded down, also before 1970.
    pub fn as_microsecond(self) -> i64 {
        // Every instant fits: 2.5 × 10^17 microseconds at most.
        self.nanos.div_euclid(NANOS_PER_MICRO) as i64
    }

    /// Returns the point in time this much earlier, but not before [`Instant::MIN`] nor after [`Instant::MAX`].
    pub fn saturating_sub(self, duration: SignedDuration) -> Self {
        Self { nanos: self.nanos - duration.as_nanos() }.clamp(Self::MIN, Self::MAX)
    }
}

impl From<Timestamp> for Instant {
    fn from(timestamp: Timestamp) -> Self {
        Self { nanos: timestamp.as_nanosecond() }
    }
}

/// Parses RFC 3339 with a UTC offset, or a date, which is its midnight UTC.
impl FromStr for Instant {
    type Err = NoInstant;

    fn from_str(text: &str) -> Result<Self, NoInstant> {
        let pieces = Pieces::parse(text).map_err(|_| NoInstant)?;
        let offset = match (pieces.offset(), pieces.time(), pieces.time_zone_annotation()) {
            (Some(offset), ..) => offset.to_numeric_offset().seconds(),
            (None, None, None) => 0,
            // A local time is ambiguous.
            (None, ..) => return Err(NoInstant),
        };
        let local = pieces.date().to_datetime(pieces.time().unwrap_or_default()).duration_since(EPOCH);
        Self::from_nanosecond(local.as_nanos() - i128::from(offset) * NANOS_PER_SECOND).map_err(|_| NoInstant)
    }
}

/// Prints RFC 3339, UTC.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = SignedDuration::from_nanos_i128(self.nanos);
        let civil = EPOCH.checked_add(since).expect("the calendar has every instant");
        write!(f, "{civil}Z")
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<Instant> {
        text.parse().ok()
    }

    #[test]
    fn the_range_is_that_of_the_calendar() {
        assert_eq!(Instant::MIN.to_string(), format!("{}Z", DateTime::MIN));
        assert_eq!(Instant::MAX.to_string(), format!("{}Z", DateTime::MAX));
        for instant in [Instant::MIN, Instant::MAX] {
            assert_eq!(parsed(&instant.to_string()), Some(instant));
        }
        for nanos in [Instant::MIN.nanos - 1, Instant::MAX.nanos + 1, i128::MIN, i128::MAX] {
            let error = Instant::from_nanosecond(nanos).unwrap_err();
            assert!(error.to_string().ends_with(&format!("found {nanos} nanoseconds since 1970")), "{error}");
        }
        for micros in [i64::MIN, i64::MAX, Instant::MAX.as_microsecond() + 1] {
            let error = Instant::from_microsecond(micros).unwrap_err();
            assert!(
                error.to_string().ends_with(&format!("found {micros} microseconds since 1970")),
                "{error}"
            );
        }
    }

    #[test]
    fn offsets_and_dates_are_read_over_the_whole_range() {
        let last = Instant::from_nanosecond(Instant::MAX.nanos - 999_999_999).unwrap();
        assert_eq!(parsed("9999-12-31T23:59:59Z"), Some(last));
        assert_eq!(parsed("9999-12-31T22:59:59-01:00"), Some(last));
        assert_eq!(parsed("9999-12-31T23:59:59-00:01"), None, "after the last instant");
        assert_eq!(parsed("-009999-01-01T00:00:00+00:01"), None, "before the first instant");
        assert_eq!(parsed("9999-12-31").map(Instant::as_microsecond), Some(253_402_214_400_000_000));
        assert_eq!(parsed("0001-01-01").map(Instant::as_microsecond), Some(-62_135_596_800_000_000));
        for text in [
            "",
            "2026",
            "2026-02-30",
            "2026-01-01T00:00",
            "2026-01-01 00:00:00",
            "12:00",
            "12:00Z",
            "2026-01-01[Asia/Tokyo]",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_timestamps_mean_the_same_instant(
            nanos in prop_oneof![
                Instant::MIN.nanos..=Instant::MAX.nanos,
                -2_000_000_000..=2_000_000_000i128,
                Instant::MAX.nanos - 100_000_000_000_000..=Instant::MAX.nanos,
            ],
            offset in -1_439..=1_439i128,
        ) {
            let instant = Instant::from_nanosecond(nanos).unwrap();
            prop_assert_eq!(parsed(&instant.to_string()), Some(instant));
            let micros = i128::from(instant.as_microsecond()) * 1_000;
            prop_assert!(micros <= nanos && nanos < micros + 1_000);
            if let Ok(timestamp) = Timestamp::from_nanosecond(nanos) {
                prop_assert_eq!(instant, Instant::from(timestamp));
                prop_assert_eq!(instant.to_string(), timestamp.to_string());
            }
            // The same instant on a clock of another offset.
            if let Ok(local) = Instant::from_nanosecond(nanos + offset * 60 * NANOS_PER_SECOND) {
                let sign = if offset < 0 { '-' } else { '+' };
                let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
                let text = local.to_string().replace('Z', &format!("{sign}{hours:02}:{minutes:02}"));
                prop_assert_eq!(parsed(&text), Some(instant), "{}", text);
            }
        }
    }
}
