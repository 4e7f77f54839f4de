//! Durations as text.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

/// Reads a duration such as `"1s"`, `"250ms"` or `"1m 30s"`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok()).ok_or_else(
        || {
            serde::de::Error::custom(format!(
                "invalid duration {text:?}: expected one such as \"1s\" or \"250ms\""
            ))
        },
    )
}

/// Reads a duration into a field that may be empty.
pub(crate) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
