//! `Admin` over shards.
//!
//! What flows in: calls. What flows out: the state of each index, of all shards together. Generations are those of single shards, so
//! they are activated and built where they are.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::all::{Boxed, all};
use super::state::{Router, RouterCall, code_of};
use super::topology::ShardMap;
use super::transport::{Call, Reply};
use crate::kernel::Kernels;
use crate::service::parts::may_list;
use crate::service::proto::admin_server::Admin;
use crate::service::proto::{
    ActivateRequest, ActivateResponse, CancelRebuildRequest, CancelRebuildResponse, GetStatusRequest,
    GetStatusResponse, IndexStatus, RebuildRequest, RebuildResponse,
};

/// `Admin` over the shards of each index.
pub(super) struct AdminService {
    router: Arc<Router>,
}

impl AdminService {
    pub(super) fn new(router: Arc<Router>) -> Self {
        Self { router }
    }

    /// Refuses a call that only a server of one shard can answer.
    fn refuse<T, R>(
        &self,
        method: &'static str,
        request: &Request<T>,
        index: &str,
    ) -> Result<Response<R>, Status> {
        let call = RouterCall::of(&self.router, method, request)?;
        let observation = call.observe(index);
        let result = call.index(index, "").and_then(|(name, map)| {
            let shards = map.count();
            Err(Status::failed_precondition(format!(
                "a router has no generations: index {name:?} has those of {shards} shards; call {method} of a server of the shard"
            )))
        });
        observation.finish(code_of(&result));
        result
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let call = RouterCall::of(&self.router, "GetStatus", &request)?;
        let name = request.into_inner().index;
        let observation = call.observe(&name);
        let result = statuses(&call, &name).await;
        observation.finish(code_of(&result));
        let indexes = result?;
        Ok(Response::new(GetStatusResponse {
            indexes,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: Kernels::get().isa().name().to_owned(),
        }))
    }

    async fn activate(
        &self,
        request: Request<ActivateRequest>,
    ) -> Result<Response<ActivateResponse>, Status> {
        self.refuse("Activate", &request, &request.get_ref().index)
    }

    async fn rebuild(&self, request: Request<RebuildRequest>) -> Result<Response<RebuildResponse>, Status> {
        self.refuse("Rebuild", &request, &request.get_ref().index)
    }

    async fn cancel_rebuild(
        &self,
        request: Request<CancelRebuildRequest>,
    ) -> Result<Response<CancelRebuildResponse>, Status> {
        self.refuse("CancelRebuild", &request, &request.get_ref().index)
    }
}

async fn statuses(call: &RouterCall<'_>, name: &str) -> Result<Vec<IndexStatus>, Status> {
    let names: Vec<String> = match name {
        "" => call.router.topology.names().map(str::to_owned).collect(),
        name => vec![name.to_owned()],
    };
    let mut indexes = Vec::with_capacity(names.len());
    for name in names.iter().filter(|name| may_list(&call.caller, name)) {
        let (name, map) = call.index(name, "")?;
        indexes.push(status_of(call, name, &map).await);
    }
    Ok(indexes)
}

/// The state of an index: sums over its shards, and what is the same in all of them from the first that answers.
async fn status_of(call: &RouterCall<'_>, name: &str, map: &ShardMap) -> IndexStatus {
    let (get, until) = (Call::GetStatus(GetStatusRequest { index: name.to_owned() }), call.due());
    let get = &get;
    let calls = map.shards.iter().map(|shard| -> Boxed<'_, _> { Box::pin(shard.call(get, until)) });
    let mut whole: Option<IndexStatus> = None;
    let mut problems = Vec::new();
    for (shard, reply) in map.shards.iter().zip(all(calls.collect()).await) {
        let found = match reply {
            Ok(Reply::Status(status)) => status.indexes.into_iter().next(),
            Ok(_) => None,
            Err(status) => {
                problems.push(format!("shard {}: {}", shard.shard, status.message()));
                continue;
            }
        };
        let Some(found) = found else {
            problems.push(format!("shard {}: the server does not say", shard.shard));
            continue;
        };
        if !found.refused.is_empty() {
            problems.push(format!("shard {}: {}", shard.shard, found.refused));
        }
        match &mut whole {
            Some(whole) => add(whole, &found),
            None => whole = Some(found),
        }
    }
    let mut whole = whole.unwrap_or_default();
    name.clone_into(&mut whole.name);
    // Folders, generations to activate, rebuilds and reports are those of one server.
    whole.dir = String::new();
    whole.available_generations.clear();
    (whole.rebuild, whole.gate) = (None, None);
    whole.refused = crate::base::text::shortened(problems.join("; "), 2000);
    whole
}

/// Adds the state of another shard.
fn add(whole: &mut IndexStatus, other: &IndexStatus) {
    let sums = [
        (&mut whole.vectors, other.vectors),
        (&mut whole.bytes, other.bytes),
        (&mut whole.delta_vectors, other.delta_vectors),
        (&mut whole.deleted, other.deleted),
        (&mut whole.takedowns, other.takedowns),
        (&mut whole.parked_entries, other.parked_entries),
    ];
    for (sum, more) in sums {
        *sum = sum.saturating_add(more);
    }
    whole.generation = whole.generation.max(other.generation);
    whole.sequence = whole.sequence.min(other.sequence);
    whole.generation_sequence = whole.generation_sequence.min(other.generation_sequence);
    whole.serving &= other.serving;
    whole.writable &= other.writable;
    if whole.read_only_reason.is_empty() {
        whole.read_only_reason.clone_from(&other.read_only_reason);
    }
}
