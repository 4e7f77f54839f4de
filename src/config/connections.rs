//! The limits on connections.

use std::time::Duration;

use serde::Deserialize;

use super::duration::duration;
use crate::service::ConnectionOptions;

/// The limits on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsConfig {
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum number of connections of one address.
    pub max_connections_per_peer: usize,
    /// Maximum number of calls at a time on one connection.
    pub max_streams: u32,
    /// How long a connection may take to begin.
    #[serde(deserialize_with = "duration")]
    pub handshake_timeout: Duration,
    /// How long a request may take to arrive.
    #[serde(deserialize_with = "duration")]
    pub message_timeout: Duration,
    /// How long a part of an answer may wait for the client to take it.
    #[serde(deserialize_with = "duration")]
    pub stall_timeout: Duration,
    /// Age at which a connection is closed; zero for never.
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
    /// How long calls in flight may continue on a connection of that age.
    #[serde(deserialize_with = "duration")]
    pub max_age_grace: Duration,
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        let ConnectionOptions {
            max_connections,
            max_connections_per_peer,
            max_streams,
            handshake_timeout,
            message_timeout,
            stall_timeout,
            max_age,
            max_age_grace,
        } = ConnectionOptions::default();
        Self {
            max_connections,
            max_connections_per_peer,
            max_streams,
            handshake_timeout,
            message_timeout,
            stall_timeout,
            max_age,
            max_age_grace,
        }
    }
}

impl ConnectionsConfig {
    /// Returns the key of a limit that is zero, if one is and must not be.
    pub(super) fn zero(&self) -> Option<&'static str> {
        let counts = [
            ("connections.max_connections", self.max_connections == 0),
            ("connections.max_connections_per_peer", self.max_connections_per_peer == 0),
            ("connections.max_streams", self.max_streams == 0),
            ("connections.handshake_timeout", self.handshake_timeout.is_zero()),
            ("connections.message_timeout", self.message_timeout.is_zero()),
            ("connections.stall_timeout", self.stall_timeout.is_zero()),
        ];
        counts.into_iter().find(|(_, is_zero)| *is_zero).map(|(key, _)| key)
    }

    /// Returns the options of the service.
    pub(super) fn options(&self) -> ConnectionOptions {
        let Self {
            max_connections,
            max_connections_per_peer,
            max_streams,
            handshake_timeout,
            message_timeout,
            stall_timeout,
            max_age,
            max_age_grace,
        } = *self;
        ConnectionOptions {
            max_connections,
            max_connections_per_peer,
            max_streams,
            handshake_timeout,
            message_timeout,
            stall_timeout,
            max_age,
            max_age_grace,
        }
    }
}
