//! One batch of writes, from admission to answer.
//!
//! What flows in: batches in domain terms, or the error of their conversion. What flows out: the answer, once the batch is on disk.
//! A write that has begun is finished and answered, even after the deadline.

use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use tokio::task::{JoinError, JoinHandle};
use tonic::{Code, Request, Status};

use super::access::{Change, Event, check_index};
use super::admission::Permit;
use super::aliases::{Target, merged};
use super::bounds::{CallMemory, Charge};
use super::caller::Caller;
use super::convert::{self, Batch, Upserts};
use super::deadline::{self, Begun, Deadline};
use super::metrics::Observation;
use super::proto::{UpsertRequest, WriteResponse};
use super::shared::{Shared, check_text_ids};
use super::status;
use super::traces::{RequestTrace, Trace};
use crate::base::id::VideoId;
use crate::engine::WriteMode;
use crate::live::Mutation;
use crate::service::error::InvalidField;

/// Logs that a blocking thread failed, and returns the status for it.
fn thread_failed(method: &'static str, error: &JoinError) -> Status {
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
    pub(super) caller: Caller,
    /// The memory of a call with one request.
    pub(super) memory: Option<Arc<CallMemory>>,
    /// The memory of the call.
    pub(super) room: Option<Arc<CallMemory>>,
    pub(super) trace: Option<Trace>,
}

impl<'a> WriteCall<'a> {
    pub(super) fn of<T>(
        shared: &'a Arc<Shared>,
        method: &'static str,
        request: &Request<T>,
    ) -> Result<Self, Status> {
        let (deadline, begun, caller) = (Deadline::of(request), Begun::of(request), Caller::of(request)?);
        let (memory, trace) = (CallMemory::of(request), shared.shell.trace_of(request));
        let room = memory.clone();
        Ok(Self { shared, method, deadline, begun, caller, memory, room, trace })
    }

    pub(super) fn observe(&self, index: &str) -> Observation {
        self.shared.shell.observe(self.method, index, self.deadline)
    }

    /// Starts to write videos to an index, or to all indexes of an alias. `path` is the path of the request within the call.
    pub(super) fn start_upsert(&self, request: UpsertRequest, path: &'static str) -> PendingWrite {
        let (name, items, is_empty) =
            (request.index.clone(), request.videos.len(), request.videos.is_empty());
        let (targets, is_alias) = self.targets(&name);
        if let Err(status) = self.check_targets(&name, &targets) {
            return PendingWrite::refused(status, self.observe(&targets[0].index));
        }
        // What several indexes take is there several times.
        let copies = request.encoded_len().saturating_mul(targets.len() - 1);
        let charge = match self.room.as_ref().filter(|_| copies > 0).map(|room| room.charged(copies)) {
            None => None,
            Some(Ok(charge)) => Some(charge),
            Some(Err(status)) => return PendingWrite::refused(status, self.observe(&targets[0].index)),
        };
        let upserts = convert::upserts(request, &targets, self.shared.shell.limits.max_batch_writes);
        let (mut batches, unused_models) = match upserts {
            Ok(Upserts { batches, unused_models }) => (batches, unused_models),
            Err(error) => {
                let first = &targets[0].index;
                return self.start(first, Err(error), path, self.observe(first));
            }
        };
        if batches.len() > 1 {
            // An index that takes none of the videos is not asked.
            let of_none = |batch: &Batch| batch.mutations.is_empty() && batch.outcome.refused.is_empty();
            batches.retain(|batch| is_empty || !of_none(batch));
            if let Err(status) = self.check_all(&batches, path) {
                // Recorded as a write to the first.
                let first = batches.swap_remove(0);
                return self.refuse(&first, status);
            }
        }
        let mut parts = Vec::with_capacity(batches.len());
        for batch in batches {
            let (index, observation) = (batch.index.clone(), self.observe(&batch.index));
            let pending = self.start(&index, Ok(batch), path, observation);
            parts.push((index, pending));
        }
        PendingWrite::Several { parts, is_alias, items, unused_models, _charge: charge }
    }

    /// Starts to write one mutation per id to an index, or to all indexes of an alias.
    pub(super) fn start_ids(
        &self,
        name: &str,
        video_ids: &[u64],
        text_ids: &[String],
        mutation: fn(VideoId) -> Mutation,
    ) -> PendingWrite {
        let max_writes = self.shared.shell.limits.max_batch_writes;
        let start = |Target { index, .. }: Target| {
            let batch =
                convert::batch_of_ids(index.clone(), video_ids.to_vec(), text_ids, max_writes, mutation);
            let pending = self.start(&index, batch, "", self.observe(&index));
            (index, pending)
        };
        let (targets, is_alias) = self.targets(name);
        if let Err(status) = self.check_targets(name, &targets) {
            return PendingWrite::refused(status, self.observe(&targets[0].index));
        }
        let parts = targets.into_iter().map(start).collect();
        let items = video_ids.len().max(text_ids.len());
        PendingWrite::Several { parts, is_alias, items, unused_models: Vec::new(), _charge: None }
    }

    /// The indexes that a name means, at least one, and whether it is an alias.
    fn targets(&self, name: &str) -> (Vec<Target>, bool) {
        let shell = &self.shared.shell;
        let aliases = shell.aliases.current();
        (aliases.targets(name, &*shell.indexes), aliases.is_alias(name, &*shell.indexes))
    }

    /// Checks that the caller may write every index that a name means, before one of them is written.
    fn check_targets(&self, name: &str, targets: &[Target]) -> Result<(), Status> {
        let check =
            |target: &Target| check_index(&self.shared.shell, &self.caller, self.method, name, &target.index);
        targets.iter().try_for_each(check)
    }

    /// Checks that every index accepts its batch, if all of it must be written.
    fn check_all(&self, batches: &[Batch], path: &'static str) -> Result<(), Status> {
        for batch in batches.iter().filter(|batch| batch.mode == WriteMode::AllOrNothing) {
            check_outcome(&batch.outcome, path)?;
            let refused = self.shared.engine.refused(&batch.index, &batch.mutations);
            let refused = refused.map_err(|error| status::of(&error.into(), path))?;
            if let Some((position, error)) = refused.and_then(|refused| batch.outcome.of_engine(refused)) {
                return Err(status::of(&error, &format!("{path}{}", batch.outcome.path(position))));
            }
        }
        Ok(())
    }

    /// Refuses a batch that another index of the alias does not accept.
    fn refuse(&self, batch: &Batch, status: Status) -> PendingWrite {
        let observation = self.observe(&batch.index);
        record(self.shared, &self.caller, self.method, &batch.index, change_of(batch), Some(&status));
        PendingWrite::refused(status, observation)
    }

    /// Starts to write a batch to an index that the caller may write. `path` is the path of the request within the call.
    fn start(
        &self,
        index: &str,
        batch: Result<Batch, InvalidField>,
        path: &'static str,
        observation: Observation,
    ) -> PendingWrite {
        let mut change = Change::default();
        if let Ok(batch) = &batch {
            change = change_of(batch);
        }
        match self.admit(batch, path) {
            Ok((batch, permit)) => self.write(batch, path, permit, observation, change),
            Err(status) => {
                record(self.shared, &self.caller, self.method, index, change, Some(&status));
                PendingWrite::refused(status, observation)
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
        mut change: Change,
    ) -> PendingWrite {
        let caller = self.caller.clone();
        let (shared, method, deadline) = (Arc::clone(self.shared), self.method, self.deadline);
        let (begun, memory) = (self.begun.clone(), self.memory.clone());
        let spans = self.spans(&batch.index, path);
        let written = tokio::task::spawn_blocking(move || {
            let index = batch.index.clone();
            if let Some(spans) = &spans {
                spans.waited(Vec::new());
            }
            let result = if begun.before(deadline) {
                write(&shared, batch, path, &mut change, spans.as_ref())
            } else {
                Err(deadline::exceeded())
            };
            // Before the answer is sent, so that the record has every change whose answer the caller has.
            record(&shared, &caller, method, &index, change, result.as_ref().err());
            // Before the answer is sent, so that the metrics already count a write whose answer the caller has.
            let code = result.as_ref().err().map_or(Code::Ok, Status::code);
            observation.finish(code);
            if let Some(spans) = spans {
                spans.finish(code);
            }
            drop((permit, memory));
            result
        });
        PendingWrite::Started { written, method }
    }

    /// Begins the spans of a batch, if the call is traced.
    fn spans(&self, index: &str, path: &str) -> Option<RequestTrace> {
        let call = self.trace.as_ref()?.call.as_ref()?;
        let index = self.shared.engine.resolve(index).unwrap_or_default();
        RequestTrace::begin(call, index, path, self.method == "StreamUpsert")
    }
}

/// The answer to a batch that was started.
pub(super) enum PendingWrite {
    Refused(Status),
    /// Of each index.
    Several {
        parts: Vec<(String, PendingWrite)>,
        is_alias: bool,
        /// Items in the request.
        items: usize,
        unused_models: Vec<String>,
        _charge: Option<Charge>,
    },
    Started {
        written: JoinHandle<Result<WriteResponse, Status>>,
        method: &'static str,
    },
}

impl PendingWrite {
    fn refused(status: Status, observation: Observation) -> Self {
        observation.finish(status.code());
        PendingWrite::Refused(status)
    }

    pub(super) async fn answer(self) -> Result<WriteResponse, Status> {
        match self {
            PendingWrite::Refused(status) => Err(status),
            PendingWrite::Several { parts, is_alias, items, unused_models, _charge } => {
                let mut answers = Vec::with_capacity(parts.len());
                for (index, pending) in parts {
                    // Several are not within each other.
                    answers.push((index, Box::pin(pending.answer()).await));
                }
                let mut answer = match is_alias {
                    true => merged(answers, items)?,
                    false => answers.pop().map_or_else(|| Err(status::internal()), |(_, answer)| answer)?,
                };
                answer.unused_models = unused_models;
                Ok(answer)
            }
            PendingWrite::Started { written, method } => {
                written.await.unwrap_or_else(|error| Err(thread_failed(method, &error)))
            }
        }
    }
}

/// Returns what a batch changes if all of it is written.
fn change_of(batch: &Batch) -> Change {
    let ids = batch.mutations.iter().filter(|mutation| !matches!(mutation, Mutation::Upsert(_)));
    let video_ids = ids.map(|mutation| mutation.video_id().0).collect();
    let refused = batch.outcome.refused.len();
    Change { count: Some(batch.mutations.len() + refused), video_ids, ..Change::default() }
}

fn record(
    shared: &Shared,
    caller: &Caller,
    method: &'static str,
    index: &str,
    change: Change,
    refusal: Option<&Status>,
) {
    let index = shared.engine.resolve(index).unwrap_or_default();
    shared.shell.access.audit().changed(&Event { caller, method, index, change, refusal });
}

fn write(
    shared: &Shared,
    batch: Batch,
    path: &str,
    change: &mut Change,
    spans: Option<&RequestTrace>,
) -> Result<WriteResponse, Status> {
    let Batch { index, mode, mutations, mut outcome, text_field } = batch;
    if let Some(field) = text_field {
        check_text_ids(shared, &index, field, path)?;
    }
    let traced = spans.map(|spans| (spans, Instant::now(), mutations.len()));
    let written = shared.engine.write(&index, mutations, mode);
    if let Some((spans, began, mutations)) = traced {
        spans.written(began, mutations, &written);
    }
    let mut written = written.map_err(|error| status::of(&error.into(), path))?;
    outcome.add(std::mem::take(&mut written.refused));
    change.sequence = Some(written.sequence);
    change.refused = Some(outcome.refused.len()).filter(|refused| *refused > 0);
    if mode == WriteMode::AllOrNothing {
        check_outcome(&outcome, path)?;
    }
    let response = outcome
        .response(&written, |error, item| status::to_item(&status::of(error, &format!("{path}{item}"))));
    status::check_size(&response, shared.shell.limits.max_response_bytes)?;
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
