//! `Admin`: the state of the indexes, and which generation they serve.
//!
//! What flows in: calls. What flows out: the state of indexes. The engine reads folders and warms generations in these
//! calls, so they run on blocking threads. A change of generation that has begun is finished even if the caller hangs
//! up.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use super::access::{Change, Event, check_index, may_list};
use super::caller::Caller;
use super::deadline::Deadline;
use super::metrics::Observation;
use super::proto::admin_server::Admin;
use super::proto::{
    ActivateRequest, ActivateResponse, CancelRebuildRequest, CancelRebuildResponse, GetStatusRequest,
    GetStatusResponse, RebuildRequest, RebuildResponse,
};
use super::shared::Shared;
use super::{convert, status};
use crate::engine::{Engine, EngineError};
use crate::kernel::Kernels;
use crate::service::error::{CallError, InvalidField};

/// `Admin` over one engine.
pub(super) struct AdminService {
    shared: Arc<Shared>,
}

impl AdminService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs `work` on a blocking thread and observes it. Records a change of the index.
    async fn run<T: Send + 'static>(
        &self,
        call: Call,
        index: &str,
        work: impl FnOnce(&Shared) -> Result<T, CallError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let Call { method, deadline, caller, change } = call;
        let name = index.to_owned();
        let index = self.shared.engine.resolve(index).unwrap_or_default();
        let observation = Observation::begin(&self.shared.shell.metrics.requests, method, index, deadline);
        // A list has no name, and is of the indexes of the caller.
        if change.is_some() || !name.is_empty() {
            let checked = check_index(&self.shared.shell, &caller, method, &name);
            if let Err(status) = checked {
                observation.finish(status.code());
                return Err(status);
            }
        }
        let shared = Arc::clone(&self.shared);
        // Recorded on the thread, because it finishes the work even if the caller hangs up.
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&shared).map_err(|error| {
                tracing::warn!(method, %error, "a request was refused");
                status::of(&error, "")
            });
            if let Some(change) = change {
                let index = shared.engine.resolve(&name).unwrap_or_default();
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
        let caller = call.caller.clone();
        let name = request.into_inner().index;
        let of_name = name.clone();
        self.run(call, &name, move |shared| Ok(status_of(&shared.engine, &caller, of_name)?)).await
    }

    async fn activate(
        &self,
        request: Request<ActivateRequest>,
    ) -> Result<Response<ActivateResponse>, Status> {
        let change = Change { generation: Some(request.get_ref().generation), ..Change::default() };
        let call = Call::of("Activate", &request, Some(change))?;
        let ActivateRequest { index: name, generation, force } = request.into_inner();
        let of_name = name.clone();
        let activated =
            self.run(call, &name, move |shared| activate(shared, &of_name, generation, force)).await;
        // An index that was out of service may serve again.
        self.shared.shell.health.observe(&*self.shared.engine).await;
        activated
    }

    async fn rebuild(&self, request: Request<RebuildRequest>) -> Result<Response<RebuildResponse>, Status> {
        let call = Call::of("Rebuild", &request, Some(Change::default()))?;
        let name = request.into_inner().index;
        let of_name = name.clone();
        self.run(call, &name, move |shared| {
            let rebuild = shared.engine.start_rebuild(&of_name)?;
            Ok(RebuildResponse { rebuild: Some(convert::rebuild_status(rebuild)) })
        })
        .await
    }

    async fn cancel_rebuild(
        &self,
        request: Request<CancelRebuildRequest>,
    ) -> Result<Response<CancelRebuildResponse>, Status> {
        let call = Call::of("CancelRebuild", &request, Some(Change::default()))?;
        let name = request.into_inner().index;
        let of_name = name.clone();
        self.run(call, &name, move |shared| {
            let rebuild = shared.engine.cancel_rebuild(&of_name)?;
            Ok(CancelRebuildResponse { rebuild: Some(convert::rebuild_status(rebuild)) })
        })
        .await
    }
}

fn status_of(engine: &Engine, caller: &Caller, name: String) -> Result<GetStatusResponse, EngineError> {
    let mut names = if name.is_empty() { engine.index_names() } else { vec![name] };
    names.retain(|name| may_list(caller, name));
    names.sort_unstable();
    let indexes = names.iter().map(|name| match engine.status(name) {
        // The others have a state.
        Err(EngineError::OutOfService { index, problem }) => {
            Ok(convert::closed_index(index, engine.dir(name)?, problem))
        }
        status => status.map(convert::index_status),
    });
    Ok(GetStatusResponse {
        indexes: indexes.collect::<Result<_, _>>()?,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: Kernels::get().isa().name().to_owned(),
    })
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
