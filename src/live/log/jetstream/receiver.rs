//! Messages from the stream, in order and without a gap.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use bytes::Bytes;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::connection::Connection;
use crate::live::log::error::LogError;

/// Messages that are received together.
const MOST_MESSAGES: usize = 4096;
/// Their bytes, approximately.
const MOST_BYTES: usize = 8 << 20;

/// A message and its number.
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) payload: Bytes,
}

/// Receives messages from one on.
pub(super) struct Receiver {
    messages: Ordered,
    /// The last message that was received.
    last: u64,
}

impl Receiver {
    /// Begins after the message `after`.
    ///
    /// # Errors
    /// [`LogError::Unreachable`], [`LogError::Gone`] or [`LogError::Behind`].
    pub(super) async fn begin(connection: &Connection, after: u64) -> Result<Self, LogError> {
        let Some(range) = connection.range().await? else {
            return Err(LogError::Behind { log: connection.name(), after, last: 0 });
        };
        if range.last < after {
            return Err(LogError::Behind { log: connection.name(), after, last: range.last });
        }
        if range.first > after + 1 {
            return Err(LogError::Gone { log: connection.name(), after, first: range.first });
        }
        let unreachable = |error: String| connection.unreachable(error);
        let stream = connection.nats.jetstream.get_stream_no_info(&connection.stream).await;
        let stream = stream.map_err(|error| unreachable(error.to_string()))?;
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            replay_policy: ReplayPolicy::Instant,
            ..OrderedConfig::default()
        };
        let consumer =
            stream.create_consumer(config).await.map_err(|error| unreachable(error.to_string()))?;
        let messages = consumer.messages().await.map_err(|error| unreachable(error.to_string()))?;
        Ok(Self { messages, last: after })
    }

    /// Receives messages, ascending. Waits for the first one, up to `wait`; none if none came.
    ///
    /// # Errors
    /// [`LogError::Unreachable`] or [`LogError::Gone`]; then begin again.
    pub(super) async fn receive(
        &mut self,
        connection: &Connection,
        wait: Duration,
    ) -> Result<Vec<Message>, LogError> {
        let mut received = Vec::new();
        let mut bytes = 0;
        let mut next = timeout(wait, self.messages.next()).await.ok();
        while let Some(message) = next {
            let message = match message {
                Some(Ok(message)) => message,
                // What came before it counts.
                Some(Err(_)) | None if !received.is_empty() => break,
                Some(Err(error)) => return Err(connection.unreachable(error)),
                None => return Err(connection.unreachable("the stream of messages ended")),
            };
            let sequence = message.info().map_err(|error| connection.unreachable(error))?.stream_sequence;
            // The client begins again after an interruption.
            if sequence > self.last {
                if sequence != self.last + 1 {
                    return Err(LogError::Gone { log: connection.name(), after: self.last, first: sequence });
                }
                self.last = sequence;
                bytes += message.payload.len();
                received.push(Message { sequence, payload: message.message.payload });
            }
            if received.len() >= MOST_MESSAGES || bytes >= MOST_BYTES {
                break;
            }
            // Only what is there.
            next = timeout(Duration::ZERO, self.messages.next()).await.ok();
        }
        if received.is_empty() && !connection.nats.is_up() {
            return Err(connection.unreachable("not connected"));
        }
        Ok(received)
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("last", &self.last).finish_non_exhaustive()
    }
}
