//! One batch of writes, from admission to answer.
//!
//! What flows in: batches in domain terms, or the error of their conversion. What flows out: the answer, once the batch is on disk.
//! A write that has begun is finished and answered, even after the deadline.

use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle};
use tonic::{Code, Request, Status};

use super::admission::Permit;
use super::convert::{self, Batch};
use super::deadline::{self, Begun, Deadline};
use super::memory::CallMemory;
use super::metrics::Observation;
use super::proto::{UpsertRequest, WriteResponse};
use super::shared::Shared;
use super::status;
use crate::engine::WriteMode;
use crate::service::error::InvalidField;

/// Starts to observe a request for the index of this name.
pub(super) fn observe(shared: &Shared, method: &'static str, index: &str, deadline: Deadline) -> Observation {
    Observation::begin(&shared.metrics, method, shared.engine.resolve(index).unwrap_or_default(), deadline)
}

/// Logs that a blocking thread failed, and returns the status for it.
pub(super) fn thread_failed(method: &'static str, error: &JoinError) -> Status {
    tracing::error!(method, %error, "a request failed");
    status::internal()
}

/// One call, as the context of its writes.
#[derive(Clone)]
pub(super) struct WriteCall<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) method: &'static str,
    pub(super) deadline: Deadline,
    pub(super) begun: Begun,
    /// The memory of a call with one request.
    pub(super) memory: Option<Arc<CallMemory>>,
}

impl<'a> WriteCall<'a> {
    pub(super) fn of<T>(shared: &'a Arc<Shared>, method: &'static str, request: &Request<T>) -> Self {
        let (deadline, begun) = (Deadline::of(request), Begun::of(request));
        Self { shared, method, deadline, begun, memory: CallMemory::of(request) }
    }

    pub(super) fn observe(&self, index: &str) -> Observation {
        observe(self.shared, self.method, index, self.deadline)
    }

    /// Starts to write videos. `path` is the path of the request within the call.
    pub(super) fn start_upsert(&self, request: UpsertRequest, path: &'static str) -> PendingWrite {
        let observation = self.observe(&request.index);
        self.start(convert::upsert_batch(request, self.shared.limits.max_batch_writes), path, observation)
    }

    /// Starts to write a batch. `path` is the path of the request within the call.
    pub(super) fn start(
        &self,
        batch: Result<Batch, InvalidField>,
        path: &'static str,
        observation: Observation,
    ) -> PendingWrite {
        match self.admit(batch, path) {
            Ok((batch, permit)) => self.write(batch, path, permit, observation),
            Err(status) => {
                observation.finish(status.code());
                PendingWrite::Refused(status)
            }
        }
    }

    fn admit(
        &self,
        batch: Result<Batch, InvalidField>,
        path: &'static str,
    ) -> Result<(Batch, Permit), Status> {
        let batch = batch.map_err(|error| status::of(&error.into(), path))?;
        if batch.mode == WriteMode::AllOrNothing {
            check_outcome(&batch.outcome, path)?;
        }
        Ok((batch, self.shared.write_admission.admit_one()?))
    }

    /// Runs a batch on a blocking thread. It is written even if the caller hangs up.
    fn write(
        &self,
        batch: Batch,
        path: &'static str,
        permit: Permit,
        observation: Observation,
    ) -> PendingWrite {
        let (shared, method, deadline) = (Arc::clone(self.shared), self.method, self.deadline);
        let (begun, memory) = (self.begun.clone(), self.memory.clone());
        let written = tokio::task::spawn_blocking(move || {
            let result =
                if begun.before(deadline) { write(&shared, batch, path) } else { Err(deadline::exceeded()) };
            // Before the answer is sent, so that the metrics already count a write whose answer the caller has.
            observation.finish(result.as_ref().err().map_or(Code::Ok, Status::code));
            drop((permit, memory));
            result
        });
        PendingWrite::Started { written, method }
    }
}

/// The answer to a batch that was started.
pub(super) enum PendingWrite {
    Refused(Status),
    Started { written: JoinHandle<Result<WriteResponse, Status>>, method: &'static str },
}

impl PendingWrite {
    pub(super) async fn answer(self) -> Result<WriteResponse, Status> {
        match self {
            PendingWrite::Refused(status) => Err(status),
            PendingWrite::Started { written, method } => {
                written.await.unwrap_or_else(|error| Err(thread_failed(method, &error)))
            }
        }
    }
}

fn write(shared: &Shared, batch: Batch, path: &str) -> Result<WriteResponse, Status> {
    let Batch { index, mode, mutations, mut outcome } = batch;
    let mut written =
        shared.engine.write(&index, mutations, mode).map_err(|error| status::of(&error.into(), path))?;
    outcome.add(std::mem::take(&mut written.refused));
    if mode == WriteMode::AllOrNothing {
        check_outcome(&outcome, path)?;
    }
    let response = outcome
        .response(&written, |error, item| status::to_item(&status::of(error, &format!("{path}{item}"))));
    status::check_size(&response, shared.limits.max_response_bytes)?;
    Ok(response)
}

/// # Errors
/// The error of the first item that was refused.
fn check_outcome(outcome: &convert::Outcome, path: &str) -> Result<(), Status> {
    match outcome.refused.first() {
        Some((position, error)) => Err(status::of(error, &format!("{path}{}", outcome.path(*position)))),
        None => Ok(()),
    }
}
