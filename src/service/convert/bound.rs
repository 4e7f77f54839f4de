//! Numbers, times and durations of filters, both ways.

use jiff::SignedDuration;

use super::path::Path;
use super::scalar::timestamp;
use crate::base::instant::Instant;
use crate::rules::{Number, Time};
use crate::service::error::InvalidField;
use crate::service::proto;

/// The longest duration that the proto allows, in seconds: 10,000 years.
const MAX_DURATION_S: i64 = 315_576_000_000;
const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// Reads a number.
///
/// # Errors
/// If no field is set, or the number is not finite.
pub(super) fn number(number: proto::Number, path: &Path<'_>) -> Result<Number, InvalidField> {
    use proto::number::Number as Wire;
    match number.number {
        None => Err(path.invalid("expected int64, uint64 or double, found none of them")),
        Some(Wire::Int64(value)) => Ok(Number::Int64(value)),
        Some(Wire::Uint64(value)) => Ok(Number::Uint64(value)),
        Some(Wire::Double(value)) if value.is_finite() => Ok(Number::Double(value)),
        Some(Wire::Double(value)) => {
            Err(path.field("double").invalid(format!("expected a finite number, found {value}")))
        }
    }
}

/// Reads a point in time, absolute or relative to now.
///
/// # Errors
/// If no field is set, or the domain cannot express the time.
pub(super) fn time(time: proto::Time, path: &Path<'_>) -> Result<Time, InvalidField> {
    use proto::time::Time as Wire;
    match time.time {
        None => Err(path.invalid("expected at or ago, found neither")),
        Some(Wire::At(at)) => instant(&at, &path.field("at")).map(Time::At),
        Some(Wire::Ago(ago)) => signed_duration(&ago, &path.field("ago")).map(Time::Ago),
    }
}

/// Reads an absolute point in time.
///
/// # Errors
/// If the domain cannot express the time.
pub(super) fn instant(wire: &prost_types::Timestamp, path: &Path<'_>) -> Result<Instant, InvalidField> {
    let prost_types::Timestamp { seconds, nanos } = *wire;
    if !(0..NANOS_PER_SECOND).contains(&nanos) {
        return Err(path.invalid(format!("expected 0 to 999999999 nanos, found {nanos}")));
    }
    let in_nanos = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    Instant::from_nanosecond(in_nanos).map_err(|_| {
        let (first, last) = (Instant::MIN, Instant::MAX);
        path.invalid(format!("expected a time from {first} to {last}, found {seconds} seconds since 1970"))
    })
}

/// Reads a duration of either sign.
///
/// # Errors
/// If it is longer than the proto allows, or seconds and nanoseconds have different signs.
pub(super) fn signed_duration(
    wire: &prost_types::Duration,
    path: &Path<'_>,
) -> Result<SignedDuration, InvalidField> {
    let prost_types::Duration { seconds, nanos } = *wire;
    if !(-MAX_DURATION_S..=MAX_DURATION_S).contains(&seconds) {
        let problem = format!("expected {} to {MAX_DURATION_S} seconds, found {seconds}", -MAX_DURATION_S);
        return Err(path.invalid(problem));
    }
    let agrees = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    if nanos.unsigned_abs() >= NANOS_PER_SECOND.unsigned_abs() || !agrees {
        return Err(path.invalid(format!(
            "expected up to 999999999 nanos with the sign of the seconds, found {nanos} with {seconds} seconds"
        )));
    }
    Ok(SignedDuration::new(seconds, nanos))
}

impl From<Number> for proto::Number {
    fn from(number: Number) -> Self {
        use proto::number::Number as Wire;
        let number = match number {
            Number::Int64(value) => Wire::Int64(value),
            Number::Uint64(value) => Wire::Uint64(value),
            Number::Double(value) => Wire::Double(value),
        };
        Self { number: Some(number) }
    }
}

impl From<Time> for proto::Time {
    fn from(time: Time) -> Self {
        use proto::time::Time as Wire;
        let time = match time {
            Time::At(at) => Wire::At(timestamp(at)),
            Time::Ago(ago) => {
                Wire::Ago(prost_types::Duration { seconds: ago.as_secs(), nanos: ago.subsec_nanos() })
            }
        };
        Self { time: Some(time) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, InvalidField>) -> (String, String) {
        match result {
            Err(InvalidField { path, problem }) => (path, problem),
            other => panic!("expected an invalid argument, found {other:?}"),
        }
    }

    fn at(seconds: i64, nanos: i32) -> Result<Time, InvalidField> {
        let at = prost_types::Timestamp { seconds, nanos };
        time(proto::Time { time: Some(proto::time::Time::At(at)) }, &Path::root("t"))
    }

    fn ago(seconds: i64, nanos: i32) -> Result<Time, InvalidField> {
        let ago = prost_types::Duration { seconds, nanos };
        time(proto::Time { time: Some(proto::time::Time::Ago(ago)) }, &Path::root("t"))
    }

    #[test]
    fn instants_lie_between_the_first_and_the_last_that_the_domain_holds() {
        let instant = |text: &str| Time::At(text.parse().unwrap());
        assert_eq!(at(-1, 999_999_999).unwrap(), instant("1969-12-31T23:59:59.999999999Z"));
        let (first, last) = (-377_705_116_800, 253_402_300_799);
        assert_eq!(at(first, 0).unwrap(), Time::At(Instant::MIN));
        assert_eq!(at(last, 999_999_999).unwrap(), Time::At(Instant::MAX));
        for seconds in [first - 1, last + 1, i64::MIN, i64::MAX] {
            let (field, problem) = refused(at(seconds, 0));
            assert_eq!(field, "t.at");
            assert!(problem.ends_with(&format!("found {seconds} seconds since 1970")), "{problem}");
        }
        for nanos in [-1, 1_000_000_000, i32::MIN] {
            let problem = format!("expected 0 to 999999999 nanos, found {nanos}");
            assert_eq!(refused(at(0, nanos)), ("t.at".to_owned(), problem));
        }
    }

    #[test]
    fn durations_are_of_one_sign_and_at_most_ten_thousand_years() {
        let of = |seconds, nanos| Time::Ago(SignedDuration::new(seconds, nanos));
        for (seconds, nanos) in [(0, -1), (0, 999_999_999), (-1, -1), (MAX_DURATION_S, 999_999_999)] {
            assert_eq!(ago(seconds, nanos).unwrap(), of(seconds, nanos));
        }
        for seconds in [MAX_DURATION_S + 1, -MAX_DURATION_S - 1, i64::MIN] {
            let problem = format!("expected -315576000000 to 315576000000 seconds, found {seconds}");
            assert_eq!(refused(ago(seconds, 0)), ("t.ago".to_owned(), problem));
        }
        for (seconds, nanos) in [(1, -1), (-1, 1), (0, 1_000_000_000), (0, i32::MIN)] {
            let (field, problem) = refused(ago(seconds, nanos));
            assert_eq!(field, "t.ago");
            assert!(problem.ends_with(&format!("found {nanos} with {seconds} seconds")), "{problem}");
        }
    }

    #[test]
    fn numbers_and_times_are_given_and_finite() {
        let nothing = number(proto::Number { number: None }, &Path::root("n"));
        assert_eq!(refused(nothing).1, "expected int64, uint64 or double, found none of them");
        let nothing = time(proto::Time { time: None }, &Path::root("t"));
        assert_eq!(refused(nothing), ("t".to_owned(), "expected at or ago, found neither".to_owned()));
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let wire = proto::Number { number: Some(proto::number::Number::Double(value)) };
            let problem = format!("expected a finite number, found {value}");
            assert_eq!(refused(number(wire, &Path::root("n"))), ("n.double".to_owned(), problem));
        }
    }
}
