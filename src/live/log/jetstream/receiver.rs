//! Messages from the stream, in order and without a gap.

use std::time::{Duration, Instant};

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

/// If no message came for this long, the servers are asked whether there is one. A consumer ends with the server that it was on,
/// which the client would notice after a minute.
const CHECK: Duration = Duration::from_secs(1);

/// A message and its number.
pub(super) struct Message {
    pub(super) sequence: u64,
    /// Messages after it, as of when it was sent.
    pub(super) pending: u64,
    pub(super) payload: Bytes,
}

/// Receives messages from one on.
pub(super) struct Receiver {
    messages: Ordered,
    /// The last message that was received.
    last: u64,
    /// The message after those that are gone, if some were between those that were received.
    after_gap: Option<u64>,
    /// When the stream was created, if that is known.
    created: Option<u64>,
    /// When it was last known that all messages were received.
    current_at: Instant,
}

impl Receiver {
    /// Begins after the message `after` of the stream that was created at `created`.
    ///
    /// # Errors
    /// [`LogError::Unreachable`], [`LogError::Gone`], [`LogError::Behind`] or [`LogError::Replaced`].
    pub(super) async fn begin(
        connection: &Connection,
        after: u64,
        created: Option<u64>,
    ) -> Result<Self, LogError> {
        last_of(connection, after, created).await?;
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
        Ok(Self { messages, last: after, after_gap: None, created, current_at: Instant::now() })
    }

    /// Returns whether there are messages that do not come. Asks the servers at most once per [`CHECK`].
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) async fn is_stalled(&mut self, connection: &Connection) -> Result<bool, LogError> {
        if self.current_at.elapsed() < CHECK {
            return Ok(false);
        }
        let is_stalled = last_of(connection, self.last, self.created).await? > self.last;
        self.current_at = Instant::now();
        Ok(is_stalled)
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
        if let Some(first) = self.after_gap {
            return Err(LogError::Gone { log: connection.name(), after: self.last, first });
        }
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
            let info = message.info().map_err(|error| connection.unreachable(error))?;
            let (sequence, pending) = (info.stream_sequence, info.pending);
            let expected = self.last + 1;
            if sequence < expected {
                return Err(connection.unreachable(format!("expected message {expected}, found {sequence}")));
            }
            // The consumer loses none, so the stream lacks those between.
            if sequence > expected {
                self.after_gap = Some(sequence);
                if received.is_empty() {
                    return Err(LogError::Gone { log: connection.name(), after: self.last, first: sequence });
                }
                break;
            }
            self.last = sequence;
            bytes += message.payload.len();
            received.push(Message { sequence, pending, payload: message.message.payload });
            if received.len() >= MOST_MESSAGES || bytes >= MOST_BYTES {
                break;
            }
            // Takes what has arrived, and does not wait for more.
            next = timeout(Duration::ZERO, self.messages.next()).await.ok();
        }
        if !received.is_empty() {
            self.current_at = Instant::now();
        } else if !connection.nats.is_up() {
            return Err(connection.unreachable("not connected"));
        }
        Ok(received)
    }
}

/// Returns the last message of the stream, which has those after `after`, and was created at `created`.
async fn last_of(connection: &Connection, after: u64, created: Option<u64>) -> Result<u64, LogError> {
    let Some(range) = connection.range().await? else {
        return Err(LogError::Behind { log: connection.name(), after, last: 0 });
    };
    if range.last < after {
        return Err(LogError::Behind { log: connection.name(), after, last: range.last });
    }
    if range.first > after + 1 {
        return Err(LogError::Gone { log: connection.name(), after, first: range.first });
    }
    if created.is_some_and(|created| created != range.created) {
        return Err(LogError::Replaced { log: connection.name(), after });
    }
    Ok(range.last)
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("last", &self.last).finish_non_exhaustive()
    }
}
