//! Compares the checksums of the generation that serves again and again, slowly: memory and disks lose bits after the start.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::engine::status::ScrubStatus;
use crate::index::{CheckedUpTo, Index, IndexError};

/// After a pause, at most the bytes of this long are compared at once.
const LONGEST: Duration = Duration::from_secs(2);

/// The scrub of one index.
#[derive(Debug)]
pub(crate) struct Scrub {
    bytes_per_second: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The generation that `up_to` is of.
    of: Weak<Index>,
    up_to: CheckedUpTo,
    /// When bytes were compared last.
    last: Instant,
    status: ScrubStatus,
}

impl Scrub {
    /// Starts a scrub; 0 bytes per second for none.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        let (up_to, status) = (CheckedUpTo::default(), ScrubStatus::default());
        let state = State { of: Weak::new(), up_to, last: Instant::now(), status };
        Self { bytes_per_second, state: Mutex::new(state) }
    }

    /// Compares the bytes that are due since the last call.
    ///
    /// # Errors
    /// The first difference that was found.
    pub(crate) fn run(&self, index: &Arc<Index>) -> Result<(), IndexError> {
        let mut state = self.state.lock();
        let elapsed = std::mem::replace(&mut state.last, Instant::now()).elapsed().min(LONGEST);
        let due = (elapsed.as_secs_f64() * self.bytes_per_second as f64).min(index.bytes() as f64) as usize;
        if due == 0 {
            return Ok(());
        }
        if state.of.as_ptr() != Arc::as_ptr(index) {
            (state.of, state.up_to) = (Arc::downgrade(index), CheckedUpTo::default());
        }
        state.status.bytes += due as u64;
        match index.check_next(&mut state.up_to, due) {
            Ok(is_complete) => {
                if is_complete {
                    state.status.last_pass = Some(Timestamp::now());
                }
                Ok(())
            }
            Err(error) => {
                state.status.mismatches += 1;
                Err(error)
            }
        }
    }

    pub(crate) fn status(&self) -> ScrubStatus {
        self.state.lock().status
    }
}
