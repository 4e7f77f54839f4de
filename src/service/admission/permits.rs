//! Limits the work in flight: searches queued for the compute pool or computing, and writes waiting for the disk.
//!
//! What flows in: requests for permits. What flows out: a permit, or an immediate rejection that says when to retry.
//! A queue that grows faster than it is processed would only make every answer late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::service::status;

/// The delay after which a rejected caller may retry: by then, some of the work in flight will have finished.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The kind of work that an [`Admission`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Searches and lookups.
    Searches,
    /// Batches of writes, one permit per batch.
    Writes,
}

/// Admits up to a maximum number of units of work at a time.
pub(crate) struct Admission {
    work: Work,
    slots: Arc<Semaphore>,
    max_in_flight: usize,
    /// Whether the server stops, and admits nothing more.
    is_closed: AtomicBool,
    /// The metric that counts the permits in use.
    in_flight: Gauge,
}

impl Admission {
    /// Creates an admission for at most `max_in_flight` units of `work`, counted in the metric `in_flight`.
    pub(crate) fn new(work: Work, max_in_flight: usize, in_flight: Gauge) -> Self {
        let max_in_flight = max_in_flight.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self {
            work,
            slots: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            is_closed: AtomicBool::new(false),
            in_flight,
        }
    }

    /// Returns `count` permits: all of them or none.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with `RetryInfo` if fewer than `count` permits are free; `UNAVAILABLE` once closed.
    pub(crate) fn admit(&self, count: usize) -> Result<Vec<Permit>, Status> {
        let wanted = u32::try_from(count).map_err(|_| self.rejection())?;
        let mut all = Arc::clone(&self.slots).try_acquire_many_owned(wanted).map_err(|_| self.rejection())?;
        let mut permits = Vec::with_capacity(count);
        while let Some(slot) = all.split(1) {
            permits.push(self.permit(slot));
        }
        Ok(permits)
    }

    /// Returns one permit, as [`Self::admit`].
    pub(crate) fn admit_one(&self) -> Result<Permit, Status> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| self.rejection())?;
        Ok(self.permit(slot))
    }

    fn permit(&self, slot: OwnedSemaphorePermit) -> Permit {
        self.in_flight.inc();
        Permit { _slot: slot, in_flight: self.in_flight.clone() }
    }

    /// Returns whether no work is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.available_permits() == self.max_in_flight
    }

    /// Admits nothing more, and waits until no work is in flight.
    pub(crate) async fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        // `new` limits the number to u32.
        let _ = self.slots.acquire_many(self.max_in_flight as u32).await;
    }

    /// Returns whether nothing more is admitted.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn rejection(&self) -> Status {
        if self.is_closed() {
            return status::draining();
        }
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

/// Permission for one search or one batch of writes, until dropped.
pub(crate) struct Permit {
    _slot: OwnedSemaphorePermit,
    in_flight: Gauge,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_in_flight: usize) -> Admission {
        Admission::new(Work::Searches, max_in_flight, Gauge::default())
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

    #[tokio::test]
    async fn admits_nothing_once_closed_and_closes_when_all_is_done() {
        let admission = Arc::new(admission(2));
        let permit = admission.admit_one().unwrap();
        let closing = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.close().await }
        });
        while !admission.is_closed() {
            tokio::task::yield_now().await;
        }
        for refused in [admission.admit_one().err(), admission.admit(1).err()] {
            assert_eq!(refused.unwrap().code(), Code::Unavailable);
        }
        assert!(!closing.is_finished());
        drop(permit);
        closing.await.unwrap();
        assert!(admission.is_idle());
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
