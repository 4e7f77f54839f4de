//! How much is in flight: searches queued for the compute pool or computing, and writes waiting for the disk.
//!
//! What flows in: a wish to search or to write. What flows out: a permit, or at once a refusal that says when to try
//! again: a queue that grows faster than it is worked off only makes every answer late.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::metrics::Metrics;

/// When a caller that was shed may try again: some of what is in flight will have ended by then.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// What is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Searches,
    /// One for each batch.
    Writes,
}

/// Admits work while there is room.
#[derive(Clone)]
pub(super) struct Admission {
    work: Work,
    slots: Arc<Semaphore>,
    max_in_flight: usize,
    metrics: Arc<Metrics>,
}

impl Admission {
    pub(super) fn new(work: Work, max_in_flight: usize, metrics: Arc<Metrics>) -> Self {
        let max_in_flight = max_in_flight.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { work, slots: Arc::new(Semaphore::new(max_in_flight)), max_in_flight, metrics }
    }

    /// So many permits: all of them or none.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with `RetryInfo` if there is not room for all of them now.
    pub(super) fn admit(&self, count: usize) -> Result<Vec<Permit>, Status> {
        let wanted = u32::try_from(count).map_err(|_| self.shed())?;
        let mut all = Arc::clone(&self.slots).try_acquire_many_owned(wanted).map_err(|_| self.shed())?;
        let mut permits = Vec::with_capacity(count);
        while let Some(slot) = all.split(1) {
            permits.push(self.permit(slot));
        }
        Ok(permits)
    }

    /// [`Self::admit`] for one.
    pub(super) fn admit_one(&self) -> Result<Permit, Status> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| self.shed())?;
        Ok(self.permit(slot))
    }

    fn permit(&self, slot: OwnedSemaphorePermit) -> Permit {
        self.metrics.in_flight(self.work).inc();
        Permit { _slot: slot, work: self.work, metrics: Arc::clone(&self.metrics) }
    }

    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.available_permits() == self.max_in_flight
    }

    /// Waits until nothing is in flight.
    pub(super) async fn idle(&self) {
        // `new` keeps the number within u32.
        let _ = self.slots.acquire_many(self.max_in_flight as u32).await;
    }

    fn shed(&self) -> Status {
        let what = match self.work {
            Work::Searches => "searches",
            Work::Writes => "writes",
        };
        Status::with_error_details(
            Code::ResourceExhausted,
            format!("too many {what} are in flight: this server takes {} at a time", self.max_in_flight),
            ErrorDetails::with_retry_info(Some(RETRY_DELAY)),
        )
    }
}

/// Room for one search or batch of writes, until dropped.
pub(super) struct Permit {
    _slot: OwnedSemaphorePermit,
    work: Work,
    metrics: Arc<Metrics>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.metrics.in_flight(self.work).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_in_flight: usize) -> Admission {
        Admission::new(Work::Searches, max_in_flight, Arc::new(Metrics::new(Vec::new())))
    }

    #[test]
    fn admits_until_full_and_again_when_one_is_done() {
        let admission = admission(2);
        let first = admission.admit_one().unwrap();
        let _second = admission.admit_one().unwrap();
        let status = admission.admit_one().err().unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(RETRY_DELAY));
        drop(first);
        assert!(admission.admit_one().is_ok());
    }

    #[test]
    fn admits_a_batch_whole_or_not_at_all() {
        let admission = admission(3);
        let one = admission.admit_one().unwrap();
        assert!(admission.admit(3).is_err());
        assert_eq!(admission.admit(2).unwrap().len(), 2);
        drop(one);
        assert_eq!(admission.admit(3).unwrap().len(), 3);
        assert_eq!(admission.admit(0).unwrap().len(), 0);
    }
}
