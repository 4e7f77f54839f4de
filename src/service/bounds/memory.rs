//! The memory of requests and answers in flight: counted, and limited per connection and for the whole server.
//!
//! What flows in: bytes that are about to be used. What flows out: a [`Charge`] for them, or a refusal. A charge ends
//! when it is dropped. Does not know what the bytes are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tonic::Status;

use super::lane::{Lane, Polls};
use crate::engine::AnswerRoom;
use crate::service::status;

/// Memory of a call in addition to its headers, in bytes.
const CALL_BYTES: usize = 2 << 10;
/// The last of this many parts of the memory is for connections that take little.
const PARTS: usize = 4;
/// A connection takes little if it takes no more than this share of all memory.
const LITTLE: usize = 256;

/// The memory for the requests and answers of one server.
#[derive(Debug)]
pub(crate) struct ServerMemory {
    max_bytes: usize,
    max_connection_bytes: usize,
    held: AtomicUsize,
    /// Where large messages of all connections wait.
    lane: Lane,
    /// Counts refusals because a connection takes too much.
    refused_connection: Counter,
    /// Counts refusals because all connections together take too much.
    refused_server: Counter,
}

impl ServerMemory {
    pub(crate) fn new(
        max_bytes: usize,
        max_connection_bytes: usize,
        refused_connection: Counter,
        refused_server: Counter,
    ) -> Arc<Self> {
        let (held, lane) = (AtomicUsize::new(0), Lane::of_server());
        Arc::new(Self { max_bytes, max_connection_bytes, held, lane, refused_connection, refused_server })
    }

    /// Returns the number of bytes in flight.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The limit for a connection that takes `own` bytes.
    fn limit_for(&self, own: usize) -> usize {
        if own <= self.max_bytes / LITTLE { self.max_bytes } else { self.max_bytes / PARTS * (PARTS - 1) }
    }
}

/// The memory of one connection, and what happens on it.
#[derive(Debug)]
pub(crate) struct ConnectionMemory {
    server: Arc<ServerMemory>,
    held: AtomicUsize,
    calls: AtomicUsize,
    has_called: Arc<AtomicBool>,
    /// Where large messages of the connection wait.
    lane: Lane,
}

impl ConnectionMemory {
    /// The memory of a connection, which sets `has_called` at its first call.
    pub(crate) fn new(server: &Arc<ServerMemory>, has_called: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            server: Arc::clone(server),
            held: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            has_called,
            lane: Lane::of_connection(),
        })
    }

    /// Returns whether any call was made.
    pub(crate) fn has_called(&self) -> bool {
        self.has_called.load(Ordering::Relaxed)
    }

    /// Returns whether a call is in flight.
    pub(crate) fn is_calling(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0
    }

    fn take(&self, bytes: usize) -> bool {
        let max = self.server.max_connection_bytes;
        let add = |limit: usize| move |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        let Ok(before) = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add(max)) else {
            self.server.refused_connection.inc();
            return false;
        };
        let limit = self.server.limit_for(before + bytes);
        if self.server.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add(limit)).is_err() {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            self.server.refused_server.inc();
            return false;
        }
        true
    }

    fn take_anyway(&self, bytes: usize) {
        if bytes > 0 {
            self.held.fetch_add(bytes, Ordering::Relaxed);
            self.server.held.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            self.server.held.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// A number of bytes in use, until dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    connection: Arc<ConnectionMemory>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(connection: &Arc<ConnectionMemory>) -> Self {
        Self { connection: Arc::clone(connection), bytes: 0 }
    }

    /// Adds `bytes` if there is memory for them, and returns whether there is.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let is_free = self.connection.take(bytes);
        self.bytes += if is_free { bytes } else { 0 };
        is_free
    }

    /// Changes the charge to `bytes` that are in use already. Only the difference is taken or released, so other calls cannot
    /// take the rest in between.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.connection.take_anyway(bytes.saturating_sub(self.bytes));
        self.connection.release(self.bytes.saturating_sub(bytes));
        self.bytes = bytes;
    }

    /// Returns the number of bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds another charge of the same connection.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.connection.release(self.bytes);
    }
}

/// The memory of one call: an extension of every request.
#[derive(Debug)]
pub(crate) struct CallMemory {
    connection: Arc<ConnectionMemory>,
    /// Of the headers, and of each message that was read and not taken.
    charges: Mutex<Vec<Charge>>,
    /// Whether the next message is large.
    has_large_message: AtomicBool,
}

impl CallMemory {
    /// Begins a call with headers of this many bytes.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with `RetryInfo` if there is no memory for it.
    pub(crate) fn begin(
        connection: &Arc<ConnectionMemory>,
        header_bytes: usize,
    ) -> Result<Arc<Self>, Status> {
        connection.has_called.store(true, Ordering::Relaxed);
        let mut charge = Charge::new(connection);
        if !charge.grow(CALL_BYTES + header_bytes) {
            return Err(refusal());
        }
        connection.calls.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Self {
            connection: Arc::clone(connection),
            charges: Mutex::new(vec![charge]),
            has_large_message: AtomicBool::new(false),
        }))
    }

    /// Returns the memory of a call that passed the bounds.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Option<Arc<Self>> {
        request.extensions().get().cloned()
    }

    /// Returns a charge of no bytes for this call.
    pub(crate) fn charge(&self) -> Charge {
        Charge::new(&self.connection)
    }

    /// Returns a charge of `bytes` for this call.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with `RetryInfo` if there is no memory for them.
    pub(crate) fn charged(&self, bytes: usize) -> Result<Charge, Status> {
        let mut charge = self.charge();
        if charge.grow(bytes) { Ok(charge) } else { Err(refusal()) }
    }

    /// Returns the way to poll what handles the messages of this call.
    pub(super) fn polls(&self) -> Polls {
        Polls::new(self.connection.lane.clone(), self.connection.server.lane.clone())
    }

    /// Keeps the charge of a message until it is taken, or the call ends.
    pub(crate) fn keep(&self, charge: Charge) {
        self.charges.lock().push(charge);
    }

    /// Says whether the next message is large.
    pub(crate) fn expect_large_message(&self, is_large: bool) {
        self.has_large_message.store(is_large, Ordering::Relaxed);
    }

    /// Returns whether the next message is large.
    pub(crate) fn has_large_message(&self) -> bool {
        self.has_large_message.load(Ordering::Relaxed)
    }

    /// Takes the charge of the oldest message that was kept.
    pub(crate) fn take(&self) -> Option<Charge> {
        let mut charges = self.charges.lock();
        (charges.len() > 1).then(|| charges.remove(1))
    }
}

impl Drop for CallMemory {
    fn drop(&mut self) {
        self.connection.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The charge of the messages of an answer that are not encoded yet: an extension of its response.
#[derive(Clone, Default)]
pub(crate) struct AnswerCharge(Arc<Mutex<Option<Charge>>>);

impl AnswerCharge {
    /// The charge of an answer that is written.
    pub(crate) fn of(charge: Charge) -> Self {
        Self(Arc::new(Mutex::new(Some(charge))))
    }

    /// Returns the room for an answer of at most `max_bytes`, charged to `call`.
    pub(crate) fn room(&self, max_bytes: usize, call: Option<Arc<CallMemory>>) -> AnswerRoom {
        let charge = self.clone();
        AnswerRoom::new(max_bytes, move |bytes| call.as_ref().is_none_or(|call| charge.grow(call, bytes)))
    }

    /// Keeps the charge until the answer is encoded.
    pub(crate) fn attach<T>(self, mut response: tonic::Response<T>) -> tonic::Response<T> {
        response.extensions_mut().insert(self);
        response
    }

    /// Adds `bytes` to the answer of `call` if there is memory for them, and returns whether there is.
    fn grow(&self, call: &CallMemory, bytes: usize) -> bool {
        self.0.lock().get_or_insert_with(|| call.charge()).grow(bytes)
    }

    /// Returns the number of bytes that are charged.
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().as_ref().map_or(0, Charge::bytes)
    }

    /// Takes the charge, if there is any.
    pub(crate) fn take(&self) -> Option<Charge> {
        self.0.lock().take()
    }

    /// Adds the charge of another message of the same call.
    pub(crate) fn join(&self, other: &Self) {
        let Some(other) = other.take() else { return };
        match &mut *self.0.lock() {
            Some(charge) => charge.join(other),
            none => *none = Some(other),
        }
    }
}

/// The status of a request for which there is no memory.
pub(crate) fn refusal() -> Status {
    status::no_memory("the requests and answers in flight take all the memory that this server has for them")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn memory() -> Arc<ServerMemory> {
        ServerMemory::new(MAX, MAX * 3 / 4, Counter::default(), Counter::default())
    }

    #[test]
    fn joining_and_shrinking_charges_releases_only_the_difference() {
        let server = memory();
        let connection = ConnectionMemory::new(&server, Arc::default());
        let take_turns = || {
            for step in 0..20_000 {
                let (mut charge, answer) = (Charge::new(&connection), AnswerCharge::default());
                let mut own = Charge::new(&connection);
                if own.grow(MAX / 3) {
                    *answer.0.lock() = Some(own);
                    let all = AnswerCharge::default();
                    all.join(&answer);
                    charge.join(all.take().unwrap());
                    charge.set(MAX / 3 - step % 3);
                }
                assert!(server.held() <= MAX * 3 / 4, "{} bytes", server.held());
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(take_turns))));
        assert_eq!(server.held(), 0);
        let mut charge = Charge::new(&connection);
        charge.set(MAX);
        assert_eq!(server.held(), MAX);
    }

    #[test]
    fn one_connection_never_takes_all_and_one_that_takes_little_is_served_when_others_take_much() {
        let server = memory();
        let (greedy, second, modest) = (
            ConnectionMemory::new(&server, Arc::default()),
            ConnectionMemory::new(&server, Arc::default()),
            ConnectionMemory::new(&server, Arc::default()),
        );
        let mut first = Charge::new(&greedy);
        assert!(!first.grow(MAX * 3 / 4 + 1));
        assert!(first.grow(MAX * 3 / 4));
        assert!(!Charge::new(&second).grow(MAX / LITTLE + 1));
        let mut little = Charge::new(&modest);
        assert!(little.grow(MAX / LITTLE));
        assert!(!little.grow(1));
        drop(first);
        assert!(little.grow(1));
        assert_eq!(server.held(), MAX / LITTLE + 1);
    }

    #[test]
    fn the_calls_of_a_connection_are_counted_until_their_last_part_ends() {
        let server = memory();
        let connection = ConnectionMemory::new(&server, Arc::default());
        assert!(!connection.has_called());
        let call = CallMemory::begin(&connection, 100).unwrap();
        let mut charge = call.charge();
        assert!(charge.grow(500));
        call.keep(charge);
        assert!(connection.is_calling() && server.held() == CALL_BYTES + 600);
        drop(call.take());
        assert_eq!((server.held(), call.take().is_none()), (CALL_BYTES + 100, true));
        drop(call);
        assert!(!connection.is_calling() && connection.has_called() && server.held() == 0);
    }
}
