//! `Admin`: the state of the indexes, and which generation they serve.
//!
//! What flows in: calls. What flows out: the state of indexes. The engine reads folders and warms generations in these
//! calls, so they run on blocking threads. A change of generation that has begun is finished even if the caller hangs
//! up.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

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

    /// Runs `work` on a blocking thread and observes it.
    async fn run<T: Send + 'static>(
        &self,
        method: &'static str,
        index: &str,
        deadline: Deadline,
        work: impl FnOnce(&Shared) -> Result<T, CallError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let index = self.shared.engine.resolve(index).unwrap_or_default();
        let observation = Observation::begin(&self.shared.metrics, method, index, deadline);
        let shared = Arc::clone(&self.shared);
        let result = match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result.map_err(|error| {
                tracing::warn!(method, %error, "a request was refused");
                status::of(&error, "")
            }),
            Err(error) => {
                tracing::error!(method, %error, "a request failed");
                Err(status::internal())
            }
        };
        observation.finish(result.as_ref().err().map_or(Code::Ok, Status::code));
        result.map(Response::new)
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let deadline = Deadline::of(&request);
        let name = request.into_inner().index;
        let of_name = name.clone();
        self.run("GetStatus", &name, deadline, move |shared| Ok(status_of(&shared.engine, of_name)?)).await
    }

    async fn activate(
        &self,
        request: Request<ActivateRequest>,
    ) -> Result<Response<ActivateResponse>, Status> {
        let deadline = Deadline::of(&request);
        let ActivateRequest { index: name, generation, force } = request.into_inner();
        let of_name = name.clone();
        let activated = self
            .run("Activate", &name, deadline, move |shared| activate(shared, &of_name, generation, force))
            .await;
        // An index that was out of service may serve again.
        self.shared.health.observe(&self.shared.engine).await;
        activated
    }

    async fn rebuild(&self, request: Request<RebuildRequest>) -> Result<Response<RebuildResponse>, Status> {
        let deadline = Deadline::of(&request);
        let name = request.into_inner().index;
        let of_name = name.clone();
        self.run("Rebuild", &name, deadline, move |shared| {
            let rebuild = shared.engine.start_rebuild(&of_name)?;
            Ok(RebuildResponse { rebuild: Some(convert::rebuild_status(rebuild)) })
        })
        .await
    }

    async fn cancel_rebuild(
        &self,
        request: Request<CancelRebuildRequest>,
    ) -> Result<Response<CancelRebuildResponse>, Status> {
        let deadline = Deadline::of(&request);
        let name = request.into_inner().index;
        let of_name = name.clone();
        self.run("CancelRebuild", &name, deadline, move |shared| {
            let rebuild = shared.engine.cancel_rebuild(&of_name)?;
            Ok(CancelRebuildResponse { rebuild: Some(convert::rebuild_status(rebuild)) })
        })
        .await
    }
}

fn status_of(engine: &Engine, name: String) -> Result<GetStatusResponse, EngineError> {
    let mut names = if name.is_empty() { engine.index_names() } else { vec![name] };
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
    shared.metrics.index(&status);
    Ok(ActivateResponse { index: Some(convert::index_status(status)) })
}
