//! When to stop before an answer is done, and how much room it has.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::error::EngineError;
use crate::engine::options::Limits;

/// When to stop before a search is done: at a deadline, when the caller is gone, or when the answer has no room.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// The deadline of the answer.
    pub deadline: Option<Instant>,
    /// The limits of the request; those of the engine if `None`.
    pub limits: Option<Limits>,
    /// The room for the answer.
    pub room: AnswerRoom,
    /// Whether the stages of a search are timed.
    pub is_timed: bool,
    /// What the search does between its steps: it may rest, so that others can use the processor and the memory.
    pub pause: Pause,
    cancelled: Arc<AtomicBool>,
}

impl Budget {
    /// A budget that ends at `deadline`; `None` for no deadline.
    pub fn until(deadline: Option<Instant>) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// The same budget with `room` for the answer.
    pub fn with_room(self, room: AnswerRoom) -> Self {
        Self { room, ..self }
    }

    /// The same budget with `limits` in place of those of the engine.
    pub fn with_limits(self, limits: Option<Limits>) -> Self {
        Self { limits, ..self }
    }

    /// Ends this budget and all of its clones now.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Budget::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Whether the caller is gone or the deadline has passed.
    pub fn is_over(&self) -> bool {
        self.is_cancelled() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// When a search must end for the answer to arrive before the deadline: an eighth of the remaining time before it, at
    /// least 0.5 ms and at most 5 ms.
    pub fn stop_at(&self) -> Option<Instant> {
        let deadline = self.deadline?;
        let left = deadline.saturating_duration_since(Instant::now());
        deadline.checked_sub((left / 8).clamp(Duration::from_micros(500), Duration::from_millis(5)))
    }

    /// Takes memory for the search until it is over.
    ///
    /// # Errors
    /// [`EngineError::NoRoom`].
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), EngineError> {
        match &self.room.reserve {
            Some(reserve) if !reserve(bytes) => Err(EngineError::NoRoom),
            _ => Ok(()),
        }
    }

    /// Whether the deadline passed.
    pub fn is_expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// What a search does between its steps; nothing by default.
#[derive(Clone, Default)]
pub struct Pause(Option<Arc<dyn Fn() + Send + Sync>>);

impl Pause {
    /// Calls `rest` every some hundred microseconds.
    pub fn new(rest: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(rest)))
    }

    /// Rests, if the search is one that does.
    pub(super) fn rest(&self) {
        if let Some(rest) = &self.0 {
            rest();
        }
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pause").field(&self.0.is_some()).finish()
    }
}

type Reserve = Arc<dyn Fn(usize) -> bool + Send + Sync>;

/// The room for one answer; unlimited by default.
#[derive(Clone, Default)]
pub struct AnswerRoom {
    pub(super) max_bytes: Option<usize>,
    pub(super) reserve: Option<Reserve>,
}

impl AnswerRoom {
    /// Room for at most `max_bytes` encoded bytes. `reserve` takes bytes of memory and returns whether there were that many.
    pub fn new(max_bytes: usize, reserve: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        Self { max_bytes: Some(max_bytes), reserve: Some(Arc::new(reserve)) }
    }
}

impl fmt::Debug for AnswerRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerRoom").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}
