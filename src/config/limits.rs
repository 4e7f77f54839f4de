//! The limits on requests, of the engine and of the service, under one key.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::base::duration::duration;
use crate::base::whole::Whole;
use crate::engine::Limits;
use crate::service::{RoleLimits, ServiceLimits};

/// The section of the limits, as a prefix of their keys.
const SECTION: &str = "limits.";
/// The section in it with the limits of roles.
const ROLES: &str = "roles";

/// Selects the field of a limit.
#[derive(Clone, Copy)]
enum Field {
    /// A number, at least 1.
    Count(fn(&mut LimitsConfig) -> &mut usize),
    /// A number that may be 0.
    Any(fn(&mut LimitsConfig) -> &mut usize),
    Switch(fn(&mut LimitsConfig) -> &mut bool),
    Time(fn(&mut LimitsConfig) -> &mut Duration),
}

/// The key of every limit, and the field that it sets.
const KEYS: [(&str, Field); 19] = [
    ("limits.max_k", Field::Count(|limits| &mut limits.engine.max_k)),
    ("limits.max_ef_search", Field::Count(|limits| &mut limits.engine.max_ef_search)),
    ("limits.max_seeds", Field::Count(|limits| &mut limits.engine.max_seeds)),
    ("limits.max_batch", Field::Count(|limits| &mut limits.service.max_batch)),
    ("limits.max_in_flight", Field::Count(|limits| &mut limits.service.max_in_flight)),
    ("limits.max_message_bytes", Field::Count(|limits| &mut limits.service.max_message_bytes)),
    ("limits.max_response_bytes", Field::Count(|limits| &mut limits.service.max_response_bytes)),
    ("limits.max_stream_window", Field::Count(|limits| &mut limits.service.max_stream_window)),
    ("limits.max_batch_writes", Field::Count(|limits| &mut limits.service.max_batch_writes)),
    ("limits.max_concurrent_writes", Field::Count(|limits| &mut limits.service.max_concurrent_writes)),
    ("limits.allow_exact", Field::Switch(|limits| &mut limits.service.caller.allow_exact)),
    ("limits.max_offset", Field::Any(|limits| &mut limits.service.caller.max_offset)),
    ("limits.max_interests", Field::Count(|limits| &mut limits.service.caller.max_interests)),
    ("limits.max_queued_per_client", Field::Count(|limits| &mut limits.service.caller.max_queued_per_client)),
    (
        "limits.max_searches_per_second",
        Field::Any(|limits| &mut limits.service.caller.max_searches_per_second),
    ),
    ("limits.max_cost_ms_per_second", Field::Any(|limits| &mut limits.service.caller.max_cost_ms_per_second)),
    ("limits.max_deadline", Field::Time(|limits| &mut limits.service.caller.max_deadline)),
    ("limits.max_bytes_in_flight", Field::Count(|limits| &mut limits.service.max_bytes_in_flight)),
    ("limits.max_connection_bytes", Field::Count(|limits| &mut limits.service.max_connection_bytes)),
];

/// The limits on requests. All keys are in one section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// The limits of the engine.
    pub engine: Limits,
    /// The limits of the service.
    pub service: ServiceLimits,
    /// Limits of callers by their roles.
    pub roles: RoleLimits,
}

impl LimitsConfig {
    /// Returns the key and the value of every limit that must be at least 1.
    pub(super) fn counts(&self) -> Vec<(&'static str, usize)> {
        let mut limits = self.clone();
        let count = |(key, field)| match field {
            Field::Count(field) => Some((key, *field(&mut limits))),
            Field::Any(_) | Field::Switch(_) | Field::Time(_) => None,
        };
        KEYS.into_iter().filter_map(count).collect()
    }
}

impl<'de> Deserialize<'de> for LimitsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section)
    }
}

#[derive(Deserialize)]
struct Time(#[serde(deserialize_with = "duration")] Duration);

struct Section;

impl<'de> Visitor<'de> for Section {
    type Value = LimitsConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section of limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut section: A) -> Result<LimitsConfig, A::Error> {
        let mut limits = LimitsConfig::default();
        while let Some(name) = section.next_key::<String>()? {
            if name == ROLES {
                limits.roles = section.next_value::<RoleLimits>()?;
                continue;
            }
            let found = KEYS.into_iter().find(|(key, _)| key.strip_prefix(SECTION) == Some(&name));
            match found.map(|(_, field)| field) {
                Some(Field::Count(field) | Field::Any(field)) => {
                    *field(&mut limits) = section.next_value::<Whole>()?.0;
                }
                Some(Field::Switch(field)) => *field(&mut limits) = section.next_value()?,
                Some(Field::Time(field)) => *field(&mut limits) = section.next_value::<Time>()?.0,
                None => {
                    let known = KEYS.map(|(key, _)| key.trim_start_matches(SECTION)).join(", ");
                    return Err(A::Error::custom(format!(
                        "unknown field `{name}`, expected one of {known}, {ROLES}"
                    )));
                }
            }
        }
        Ok(limits)
    }
}
