//! Attribute values of a server as text.

use crate::base::instant::Instant;
use crate::service::proto::attribute_value::Value;

/// Renders the value of an attribute. It may contain characters that control a terminal.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Keyword(word) => word.clone(),
        Value::KeywordList(list) => list.values.join(", "),
        Value::Int64(value) => value.to_string(),
        Value::Uint64(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Timestamp(at) => instant(at),
    }
}

/// Renders a time as filters accept it.
pub(super) fn instant(at: &prost_types::Timestamp) -> String {
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    Instant::from_nanosecond(nanos).map_or_else(|error| error.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_is_text() {
        let at = |seconds, nanos| instant(&prost_types::Timestamp { seconds, nanos });
        assert_eq!(at(253_402_300_799, 999_999_999), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(at(-62_135_596_800, 0), "0001-01-01T00:00:00Z");
        assert_eq!(at(-1, 999_999_000), "1969-12-31T23:59:59.999999Z");
        // No server of this version sends these.
        assert!(at(i64::MAX, i32::MIN).starts_with("expected a time from"), "{}", at(i64::MAX, i32::MIN));
    }
}
