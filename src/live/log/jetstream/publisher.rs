//! Messages into the stream, each once.
//!
//! A message that is sent again has the same id, so that the servers store it once, whatever became of the first answer.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connection::Connection;
use crate::live::log::error::LogError;

/// The most messages of an atomic batch.
pub(super) const MOST_MESSAGES: usize = 1000;
/// The most bytes of the headers of a message.
const HEADERS: usize = 256;
/// How long the servers have to confirm one attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long attempts are made.
const ATTEMPTS: Duration = Duration::from_secs(10);
/// The pause before another attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Too many batches are being sent to the stream.
const TOO_MANY_BATCHES: u64 = 10210;
/// A message of a batch is in the stream: so is the batch.
const DUPLICATE_IN_BATCH: u64 = 10201;
/// The message is being stored, for an earlier attempt.
const DUPLICATE_IN_PROCESS: u64 = 10158;

/// What became of one attempt.
enum Attempt {
    /// They are stored, the last under this number at most.
    Stored(u64),
    /// It may be stored, and may work again.
    Unknown(String),
    /// It is not stored, and would be refused again.
    Refused(String),
}

/// Stores messages, all or none, and returns the number of the last one. A batch of several takes one of `permits`.
///
/// # Errors
/// [`LogError::Refused`] or [`LogError::Unreachable`] if they are not stored, [`LogError::Unconfirmed`] if they may be.
pub(super) async fn publish(
    connection: &Connection,
    messages: &[Bytes],
    permits: &Semaphore,
) -> Result<u64, LogError> {
    let most = connection.nats.client.server_info().max_payload.saturating_sub(HEADERS);
    if let Some(large) = messages.iter().find(|message| most > 0 && message.len() > most) {
        let problem = format!("expected messages of at most {most} bytes, found {}", large.len());
        return Err(LogError::Refused { log: connection.name(), problem });
    }
    let id = connection.nats.client.new_inbox();
    let began = Instant::now();
    let _permit = match messages {
        [_] => None,
        _ => {
            let permit = timeout(ATTEMPTS, permits.acquire()).await;
            Some(permit.map_err(|_| connection.unreachable("too many batches wait to be stored"))?)
        }
    };
    loop {
        let attempt = match messages {
            [message] => one(connection, &id, message).await,
            _ => batch(connection, &id, messages).await,
        };
        let problem = match attempt {
            Attempt::Stored(last) => return Ok(last),
            Attempt::Refused(problem) => return Err(LogError::Refused { log: connection.name(), problem }),
            Attempt::Unknown(problem) => problem,
        };
        if began.elapsed() >= ATTEMPTS {
            return Err(LogError::Unconfirmed { log: connection.name(), problem });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn one(connection: &Connection, id: &str, message: &Bytes) -> Attempt {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    headers.insert("Nats-Expected-Stream", connection.stream.as_str());
    match request(connection, headers, message.clone()).await {
        Ok(ack) => Attempt::Stored(ack.sequence),
        Err(attempt) => attempt,
    }
}

async fn batch(connection: &Connection, id: &str, messages: &[Bytes]) -> Attempt {
    // A batch that was not finished is dropped by the servers. Its id is not used again.
    let batch = connection.nats.client.new_inbox();
    let last = messages.len() - 1;
    for (at, message) in messages.iter().enumerate() {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{id}.{at}"));
        headers.insert("Nats-Batch-Id", batch.as_str());
        headers.insert("Nats-Batch-Sequence", (at + 1).to_string());
        if at == last {
            headers.insert("Nats-Batch-Commit", "1");
        }
        if at == 0 {
            headers.insert("Nats-Expected-Stream", connection.stream.as_str());
            // The answer is empty if the servers take the batch.
            if let Err(attempt) = begin(connection, headers, message.clone()).await {
                return attempt;
            }
        } else if at == last {
            return match request(connection, headers, message.clone()).await {
                Ok(ack) => Attempt::Stored(ack.sequence),
                Err(Attempt::Refused(code)) if code == DUPLICATE_IN_BATCH.to_string() => {
                    // The servers answer with the number that its last message has.
                    one(connection, &format!("{id}.{last}"), message).await
                }
                Err(attempt) => attempt,
            };
        } else if let Err(error) = connection
            .nats
            .client
            .publish_with_headers(connection.subject.clone(), headers, message.clone())
            .await
        {
            return Attempt::Unknown(error.to_string());
        }
    }
    Attempt::Unknown("a batch without messages".to_owned())
}

async fn send(connection: &Connection, headers: HeaderMap, payload: Bytes) -> Result<Bytes, Attempt> {
    let answer = connection.nats.client.request_with_headers(connection.subject.clone(), headers, payload);
    match timeout(ATTEMPT, answer).await {
        Ok(Ok(message)) => Ok(message.payload),
        Ok(Err(error)) => Err(Attempt::Unknown(error.to_string())),
        Err(_) => Err(Attempt::Unknown(format!("not confirmed within {} s", ATTEMPT.as_secs()))),
    }
}

async fn begin(connection: &Connection, headers: HeaderMap, payload: Bytes) -> Result<(), Attempt> {
    let answer = send(connection, headers, payload).await?;
    if answer.is_empty() { Ok(()) } else { ack_of(&answer).map(drop) }
}

async fn request(connection: &Connection, headers: HeaderMap, payload: Bytes) -> Result<PublishAck, Attempt> {
    ack_of(&send(connection, headers, payload).await?)
}

fn ack_of(answer: &[u8]) -> Result<PublishAck, Attempt> {
    match serde_json::from_slice(answer) {
        Ok(Response::Ok(ack)) => Ok(ack),
        Ok(Response::Err { error }) => Err(attempt_of(&error)),
        Err(error) => Err(Attempt::Unknown(format!("an answer that is no acknowledgement: {error}"))),
    }
}

/// What an error of the servers means. Those that say that they cannot store anything now may end.
fn attempt_of(error: &jetstream::Error) -> Attempt {
    let number = error.error_code().0;
    match number {
        DUPLICATE_IN_BATCH => Attempt::Refused(number.to_string()),
        TOO_MANY_BATCHES | DUPLICATE_IN_PROCESS => Attempt::Unknown(error.to_string()),
        _ if error.code() >= 500 || error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Attempt::Unknown(error.to_string())
        }
        _ => Attempt::Refused(error.to_string()),
    }
}
