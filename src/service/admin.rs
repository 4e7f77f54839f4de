//! `Admin`: the state of the indexes, and which generation they serve.
//!
//! What flows in: calls. What flows out: the state of indexes. The engine reads folders and warms generations in these
//! calls, so they run on blocking threads. A change of generation that has begun is finished even if the caller hangs
//! up.

use std::sync::Arc;

use tokio::runtime::Handle;
use tonic::{Code, Request, Response, Status};

use super::access::{Change, Event, check_index};
use super::alias;
use super::aliases::Target;
use super::caller::Caller;
use super::deadline::Deadline;
use super::inspect;
use super::metrics::Observation;
use super::proto::admin_server::Admin;
use super::proto::{
    ActivateRequest, ActivateResponse, CancelRebuildRequest, CancelRebuildResponse,
    CompareGenerationsRequest, CompareGenerationsResponse, GetHistoryRequest, GetHistoryResponse,
    GetStatusRequest, GetStatusResponse, ListAliasesRequest, ListAliasesResponse, ListChangesRequest,
    ListChangesResponse, ListGenerationsRequest, ListGenerationsResponse, RebuildRequest, RebuildResponse,
    SampleUsersRequest, SampleUsersResponse, SetAliasRequest, SetAliasResponse, SetShadowRequest,
    SetShadowResponse, ShadowCandidate, ShadowServer, shadow_candidate,
};
use super::shared::Shared;
use super::states::status_of;
use super::{convert, status};
use crate::service::error::{CallError, InvalidField};

/// `Admin` over one engine.
pub(super) struct AdminService {
    shared: Arc<Shared>,
}

impl AdminService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Changes the index of this name, or the only one of an alias. Observes and records that, and runs `work` with the name of
    /// the index on a blocking thread.
    async fn change<T: Send + 'static>(
        &self,
        call: Call,
        name: &str,
        work: impl FnOnce(&Shared, &str) -> Result<T, CallError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let shell = &self.shared.shell;
        let only = only(&shell.aliases.current().targets(name, &*shell.indexes), name);
        let index = only.as_ref().map(String::clone).unwrap_or_default();
        let observation = shell.observe(call.method, &index, call.deadline);
        if let Err(status) = check_index(shell, &call.caller, call.method, name, &index) {
            observation.finish(status.code());
            return Err(status);
        }
        self.run(call, index, observation, move |shared| work(shared, &only?)).await
    }

    /// Runs `work` on a blocking thread and observes it. Records a change of the index.
    async fn run<T: Send + 'static>(
        &self,
        call: Call,
        index: String,
        observation: Observation,
        work: impl FnOnce(&Shared) -> Result<T, CallError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let Call { method, deadline: _, caller, change } = call;
        let shared = Arc::clone(&self.shared);
        // Recorded on the thread, because it finishes the work even if the caller hangs up.
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&shared).map_err(|error| {
                tracing::warn!(method, %error, "a request was refused");
                status::of(&error, "")
            });
            if let Some(change) = change {
                let index = shared.engine.resolve(&index).unwrap_or_default();
                let refusal = result.as_ref().err();
                let event = Event { caller: &caller, method, index, change, refusal };
                shared.shell.access.audit().changed(&event);
            }
            result
        });
        let result = worked.await.unwrap_or_else(|error| {
            tracing::error!(method, %error, "a request failed");
            Err(status::internal())
        });
        observation.finish(result.as_ref().err().map_or(Code::Ok, Status::code));
        result.map(Response::new)
    }
}

/// Who calls what.
struct Call {
    method: &'static str,
    deadline: Deadline,
    caller: Caller,
    /// What the call changes; `None` if it only reads.
    change: Option<Change>,
}

impl Call {
    fn of<T>(method: &'static str, request: &Request<T>, change: Option<Change>) -> Result<Self, Status> {
        Ok(Self { method, deadline: Deadline::of(request), caller: Caller::of(request)?, change })
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let call = Call::of("GetStatus", &request, None)?;
        let (shell, caller) = (&self.shared.shell, call.caller.clone());
        let name = request.into_inner().index;
        let aliases = shell.aliases.current();
        let names: Vec<String> = match name.as_str() {
            "" => shell.indexes.names(),
            name => aliases.targets(name, &*shell.indexes).into_iter().map(|target| target.index).collect(),
        };
        let index = if name.is_empty() { String::new() } else { names.first().cloned().unwrap_or_default() };
        let observation = shell.observe(call.method, &index, call.deadline);
        // A list has no name, and is of the indexes of the caller.
        if !name.is_empty()
            && let Err(status) = check_index(shell, &caller, call.method, &name, &index)
        {
            observation.finish(status.code());
            return Err(status);
        }
        self.run(call, index, observation, move |shared| Ok(status_of(shared, &aliases, &caller, names)?))
            .await
    }

    async fn activate(
        &self,
        request: Request<ActivateRequest>,
    ) -> Result<Response<ActivateResponse>, Status> {
        let change = Change { generation: Some(request.get_ref().generation), ..Change::default() };
        let call = Call::of("Activate", &request, Some(change))?;
        let ActivateRequest { index: name, generation, force } = request.into_inner();
        let activated =
            self.change(call, &name, move |shared, index| activate(shared, index, generation, force)).await;
        // An index that was out of service may serve again.
        self.shared.shell.health.observe(&*self.shared.engine).await;
        activated
    }

    async fn rebuild(&self, request: Request<RebuildRequest>) -> Result<Response<RebuildResponse>, Status> {
        let call = Call::of("Rebuild", &request, Some(Change::default()))?;
        self.change(call, &request.into_inner().index, move |shared, index| {
            let rebuild = shared.engine.start_rebuild(index)?;
            Ok(RebuildResponse { rebuild: Some(convert::rebuild_status(rebuild)) })
        })
        .await
    }

    async fn cancel_rebuild(
        &self,
        request: Request<CancelRebuildRequest>,
    ) -> Result<Response<CancelRebuildResponse>, Status> {
        let call = Call::of("CancelRebuild", &request, Some(Change::default()))?;
        self.change(call, &request.into_inner().index, move |shared, index| {
            let rebuild = shared.engine.cancel_rebuild(index)?;
            Ok(CancelRebuildResponse { rebuild: Some(convert::rebuild_status(rebuild)) })
        })
        .await
    }

    async fn set_alias(
        &self,
        request: Request<SetAliasRequest>,
    ) -> Result<Response<SetAliasResponse>, Status> {
        let set = alias::set(&self.shared.shell, request).await;
        self.shared.shell.health.observe(&*self.shared.engine).await;
        set
    }

    async fn set_shadow(
        &self,
        request: Request<SetShadowRequest>,
    ) -> Result<Response<SetShadowResponse>, Status> {
        let change = Change { candidate: Some(named(&request.get_ref().candidate)), ..Change::default() };
        let call = Call::of("SetShadow", &request, Some(change))?;
        let SetShadowRequest { index, candidate, share } = request.into_inner();
        // The report says what the candidate returns.
        if let Some(shadow_candidate::Candidate::Index(other)) =
            candidate.as_ref().and_then(|candidate| candidate.candidate.as_ref())
        {
            check_index(&self.shared.shell, &call.caller, call.method, other, other)?;
        }
        let runtime = Handle::current();
        self.change(call, &index, move |shared, index| {
            let before = shared.shadows.set(index, candidate, share, &runtime)?;
            Ok(SetShadowResponse { before })
        })
        .await
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        inspect::history(&self.shared.shell, &request)
    }

    async fn list_generations(
        &self,
        request: Request<ListGenerationsRequest>,
    ) -> Result<Response<ListGenerationsResponse>, Status> {
        inspect::generations(&self.shared, request).await
    }

    async fn compare_generations(
        &self,
        request: Request<CompareGenerationsRequest>,
    ) -> Result<Response<CompareGenerationsResponse>, Status> {
        inspect::compare_generations(&self.shared, request).await
    }

    async fn sample_users(
        &self,
        request: Request<SampleUsersRequest>,
    ) -> Result<Response<SampleUsersResponse>, Status> {
        inspect::sample_users(&self.shared, request).await
    }

    async fn list_changes(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        inspect::changes(&self.shared.shell, &request)
    }

    async fn list_aliases(
        &self,
        request: Request<ListAliasesRequest>,
    ) -> Result<Response<ListAliasesResponse>, Status> {
        alias::list(&self.shared.shell, &request)
    }
}

/// The candidate of a shadow, for the record.
fn named(candidate: &Option<ShadowCandidate>) -> String {
    use shadow_candidate::Candidate;
    match candidate.as_ref().and_then(|candidate| candidate.candidate.as_ref()) {
        None => "none".to_owned(),
        Some(Candidate::Generation(generation)) => format!("generation {generation}"),
        Some(Candidate::Index(index)) => format!("index {index}"),
        Some(Candidate::Server(ShadowServer { address, index })) => format!("index {index} of {address}"),
    }
}

/// The only index that a name means.
///
/// # Errors
/// If it is an alias of several.
fn only(targets: &[Target], name: &str) -> Result<String, CallError> {
    match targets {
        [only] => Ok(only.index.clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|target| target.index.as_str()).collect();
            let problem =
                format!("expected the name of one index, found {name:?}, which stands for {names:?}");
            Err(InvalidField::new("index", problem).into())
        }
    }
}

fn activate(
    shared: &Shared,
    name: &str,
    generation: u64,
    force: bool,
) -> Result<ActivateResponse, CallError> {
    if generation == 0 {
        return Err(InvalidField::new("generation", "is required: generations count from 1").into());
    }
    let status = if force {
        shared.engine.activate_forced(name, generation)?
    } else {
        shared.engine.activate(name, generation)?
    };
    tracing::info!(index = status.name, generation, manifest = status.manifest, "activated a generation");
    shared.engine_metrics.index(&status);
    Ok(ActivateResponse { index: Some(convert::index_status(status)) })
}
