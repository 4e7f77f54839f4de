//! The limits on requests, of the engine and of the service, under one key.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::whole::Whole;
use crate::engine::Limits;
use crate::service::ServiceLimits;

/// The section of the limits, as a prefix of their keys.
const SECTION: &str = "limits.";

/// Selects the field of a limit.
type Field = fn(&mut LimitsConfig) -> &mut usize;

/// The key of every limit, and the field that it sets.
const KEYS: [(&str, Field); 12] = [
    ("limits.max_k", |limits| &mut limits.engine.max_k),
    ("limits.max_ef_search", |limits| &mut limits.engine.max_ef_search),
    ("limits.max_seeds", |limits| &mut limits.engine.max_seeds),
    ("limits.max_batch", |limits| &mut limits.service.max_batch),
    ("limits.max_in_flight", |limits| &mut limits.service.max_in_flight),
    ("limits.max_message_bytes", |limits| &mut limits.service.max_message_bytes),
    ("limits.max_response_bytes", |limits| &mut limits.service.max_response_bytes),
    ("limits.max_stream_window", |limits| &mut limits.service.max_stream_window),
    ("limits.max_batch_writes", |limits| &mut limits.service.max_batch_writes),
    ("limits.max_concurrent_writes", |limits| &mut limits.service.max_concurrent_writes),
    ("limits.max_bytes_in_flight", |limits| &mut limits.service.max_bytes_in_flight),
    ("limits.max_connection_bytes", |limits| &mut limits.service.max_connection_bytes),
];

/// The limits on requests. All keys are in one section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// The limits of the engine.
    pub engine: Limits,
    /// The limits of the service.
    pub service: ServiceLimits,
}

impl LimitsConfig {
    /// Returns the key and the value of every limit.
    pub(super) fn all(mut self) -> [(&'static str, usize); KEYS.len()] {
        KEYS.map(|(key, field)| (key, *field(&mut self)))
    }
}

impl<'de> Deserialize<'de> for LimitsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section)
    }
}

struct Section;

impl<'de> Visitor<'de> for Section {
    type Value = LimitsConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section of limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut section: A) -> Result<LimitsConfig, A::Error> {
        let mut limits = LimitsConfig::default();
        while let Some(name) = section.next_key::<String>()? {
            let found = KEYS.into_iter().find(|(key, _)| key.strip_prefix(SECTION) == Some(&name));
            let Some((_, field)) = found else {
                let known = KEYS.map(|(key, _)| key.trim_start_matches(SECTION)).join(", ");
                return Err(A::Error::custom(format!("unknown field `{name}`, expected one of {known}")));
            };
            *field(&mut limits) = section.next_value::<Whole>()?.0;
        }
        Ok(limits)
    }
}
