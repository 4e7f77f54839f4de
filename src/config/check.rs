//! The ranges of the values, and whether they fit together.

use super::{ConfigError, ServeConfig};
use crate::service::{ConnectionOptions, ServiceLimits};

/// The most threads of a pool.
const MOST_THREADS: usize = 4096;

impl ServeConfig {
    /// Checks the ranges of the values, and that they fit together.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first that is invalid.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, expected: &str, found: &dyn std::fmt::Debug| {
            Err(ConfigError::Value { key, expected: expected.to_owned(), found: format!("{found:?}") })
        };
        if self.poll_interval.is_zero() {
            return value("poll_interval", "more than 0s", &self.poll_interval);
        }
        // More are a mistake, and each takes memory.
        let threads = [("threads", self.threads), ("rebuild.threads", self.rebuild.threads)];
        if let Some((key, found)) = threads.into_iter().find(|(_, threads)| *threads > MOST_THREADS) {
            return value(key, &format!("at most {MOST_THREADS}"), &found);
        }
        if self.indexes.keys().any(String::is_empty) {
            return value("indexes", "a name for each folder", &"");
        }
        if !(self.shadow.cpu_share > 0.0 && self.shadow.cpu_share <= 1.0) {
            return value("shadow.cpu_share", "more than 0 and at most 1", &self.shadow.cpu_share);
        }
        self.check_access()?;
        self.cluster.check()?;
        self.check_own_limits()?;
        if self.limits.service.caller.max_deadline.is_zero() {
            return value("limits.max_deadline", "more than 0s", &self.limits.service.caller.max_deadline);
        }
        let counts = [
            ("rebuild.keep_generations", self.rebuild.keep_generations),
            ("gate.k", self.gate.k),
            ("slow_search_per_second", self.slow_search_per_second),
            ("traces.max_per_second", self.traces.max_per_second),
        ];
        if !self.traces.has_valid_endpoint() {
            let expected = "a URL of http or https with a host, such as http://127.0.0.1:4317";
            return value("traces.endpoint", expected, &self.traces.endpoint);
        }
        if self.traces.service_name.is_empty() {
            return value("traces.service_name", "a name", &"");
        }
        let rebuild = &self.rebuild;
        let gate = &self.gate;
        for (key, most, found) in [
            ("rebuild.delta_share", f64::MAX, rebuild.delta_share),
            ("rebuild.deleted_share", 1.0, rebuild.deleted_share),
            ("recall_sample", 1.0, self.recall_sample),
            ("traces.sample", 1.0, self.traces.sample),
            ("gate.min_recall", 1.0, gate.min_recall),
            ("gate.max_recall_loss", 1.0, gate.max_recall_loss),
            ("gate.min_overlap", 1.0, gate.min_overlap),
            ("gate.min_videos_share", 1.0, gate.min_videos_share),
            ("gate.max_p99_ratio", f64::MAX, gate.max_p99_ratio),
        ] {
            // NaN is in no range.
            if !(0.0..=most).contains(&found) {
                let expected = if most == 1.0 { "0 to 1" } else { "0 or more" };
                return value(key, expected, &found);
            }
        }
        let at_least_one = self.limits.counts().into_iter().chain(counts);
        if let Some((key, found)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return value(key, "at least 1", &found);
        }
        if let Some(key) = zero_of(&self.connections) {
            return value(key, "more than 0", &0);
        }
        let ServiceLimits { max_batch, max_in_flight, .. } = self.limits.service;
        if max_in_flight < max_batch {
            let expected = format!("at least limits.max_batch, {max_batch}, to admit a full batch");
            return value("limits.max_in_flight", &expected, &max_in_flight);
        }
        Ok(())
    }
}

/// Returns the key of a limit on connections that is zero, if one is and must not be.
fn zero_of(connections: &ConnectionOptions) -> Option<&'static str> {
    let limits = [
        ("connections.max_connections", connections.max_connections == 0),
        ("connections.max_connections_per_peer", connections.max_connections_per_peer == 0),
        ("connections.max_streams", connections.max_streams == 0),
        ("connections.handshake_timeout", connections.handshake_timeout.is_zero()),
        ("connections.message_timeout", connections.message_timeout.is_zero()),
        ("connections.stall_timeout", connections.stall_timeout.is_zero()),
    ];
    limits.into_iter().find(|(_, is_zero)| *is_zero).map(|(key, _)| key)
}
