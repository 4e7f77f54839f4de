//! `Admin` over shards.
//!
//! What flows in: calls. What flows out: the state of each index, of all shards together. Generations are those of single shards, so
//! they are activated and built where they are.

use std::cmp::Reverse;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::all::{Boxed, all};
use super::health;
use super::state::{Router, RouterCall, code_of};
use super::topology::ShardMap;
use super::transport::{Call, Reply};
use crate::base::partition::Shard;
use crate::base::text::shortened;
use crate::kernel::Kernels;
use crate::service::parts::{
    AliasMap, Change, Event, Indexes as _, alias, check_index, inspect, may_list, status, timestamp,
};
use crate::service::proto::admin_server::Admin;
use crate::service::proto::{
    ActivateRequest, ActivateResponse, CancelRebuildRequest, CancelRebuildResponse,
    CompareGenerationsRequest, CompareGenerationsResponse, GetHistoryRequest, GetHistoryResponse,
    GetStatusRequest, GetStatusResponse, IndexStatus, ListAliasesRequest, ListAliasesResponse,
    ListChangesRequest, ListChangesResponse, ListGenerationsRequest, ListGenerationsResponse, RebuildRequest,
    RebuildResponse, SampleUsersRequest, SampleUsersResponse, SetAliasRequest, SetAliasResponse,
    SetShadowRequest, SetShadowResponse,
};

/// The longest text of the problems of all shards.
const MAX_PROBLEMS: usize = 2000;

/// `Admin` over the shards of each index.
pub(super) struct AdminService {
    router: Arc<Router>,
}

impl AdminService {
    pub(super) fn new(router: Arc<Router>) -> Self {
        Self { router }
    }

    /// Refuses a change that only a server of one shard can make.
    fn refuse<T, R>(
        &self,
        method: &'static str,
        request: &Request<T>,
        name: &str,
    ) -> Result<Response<R>, Status> {
        refuse(&self.router, method, request, name, Some(Change::default()))
    }
}

/// Refuses a call that only a server of one shard can answer. Records it as a `change`, if it is one.
pub(super) fn refuse<T, R>(
    router: &Arc<Router>,
    method: &'static str,
    request: &Request<T>,
    name: &str,
    change: Option<Change>,
) -> Result<Response<R>, Status> {
    let call = RouterCall::of(router, method, request)?;
    let mut index = name.to_owned();
    // Of an alias of several indexes, what the first one says.
    call.named(&router.shell.aliases.current(), &mut index, "");
    let index = index.as_str();
    let observation = call.observe(index);
    let (shell, caller) = (&router.shell, &call.caller);
    // Recorded there, if it is refused.
    if let Err(status) = check_index(shell, caller, method, name, index) {
        observation.finish(status.code());
        return Err(status);
    }
    let status = match call.checked_index(index, "") {
        Err(status) => status,
        Ok((name, map)) => {
            let shards = map.count();
            Status::failed_precondition(format!(
                "a router has no generations: index {name:?} has those of {shards} shards; \
                     call {method} of a server of the shard"
            ))
        }
    };
    let index = router.topology.resolve(index).unwrap_or_default();
    if let Some(change) = change {
        let refusal = Some(&status);
        shell.access.audit().changed(&Event { caller, method, index, change, refusal });
    }
    observation.finish(status.code());
    Err(status)
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let call = RouterCall::of(&self.router, "GetStatus", &request)?;
        let name = request.into_inner().index;
        let aliases = self.router.shell.aliases.current();
        let mut first = name.clone();
        call.named(&aliases, &mut first, "");
        let observation = call.observe(if name.is_empty() { "" } else { &first });
        let result = statuses(&call, &aliases, &name, &first).await;
        observation.finish(code_of(&result));
        let indexes = result?;
        let is_shown = |index: &str| indexes.iter().any(|shown| shown.name == index);
        let aliases = alias::listed(&aliases, &call.caller, is_shown);
        Ok(Response::new(GetStatusResponse {
            aliases,
            started_at: Some(timestamp(self.router.started_at)),
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

    async fn set_alias(
        &self,
        request: Request<SetAliasRequest>,
    ) -> Result<Response<SetAliasResponse>, Status> {
        let set = alias::set(&self.router.shell, request).await;
        // An index of several is chosen by its model.
        health::ask_models(&self.router).await;
        self.router.shell.health.observe(&*self.router.topology).await;
        set
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        inspect::history(&self.router.shell, &request)
    }

    async fn list_generations(
        &self,
        request: Request<ListGenerationsRequest>,
    ) -> Result<Response<ListGenerationsResponse>, Status> {
        refuse(&self.router, "ListGenerations", &request, &request.get_ref().index, None)
    }

    async fn compare_generations(
        &self,
        request: Request<CompareGenerationsRequest>,
    ) -> Result<Response<CompareGenerationsResponse>, Status> {
        refuse(&self.router, "CompareGenerations", &request, &request.get_ref().index, None)
    }

    async fn sample_users(
        &self,
        request: Request<SampleUsersRequest>,
    ) -> Result<Response<SampleUsersResponse>, Status> {
        refuse(&self.router, "SampleUsers", &request, &request.get_ref().index, None)
    }

    async fn list_changes(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        inspect::changes(&self.router.shell, &request)
    }

    async fn set_shadow(
        &self,
        request: Request<SetShadowRequest>,
    ) -> Result<Response<SetShadowResponse>, Status> {
        self.refuse("SetShadow", &request, &request.get_ref().index)
    }

    async fn list_aliases(
        &self,
        request: Request<ListAliasesRequest>,
    ) -> Result<Response<ListAliasesResponse>, Status> {
        alias::list(&self.router.shell, &request)
    }
}

/// The states of the indexes that a name means, all of them if it is empty. `first`: the index of this name, or the first one of
/// an alias.
pub(super) async fn statuses(
    call: &RouterCall<'_>,
    aliases: &AliasMap,
    name: &str,
    first: &str,
) -> Result<Vec<IndexStatus>, Status> {
    let mut names: Vec<String> = match name {
        "" => call.router.topology.names().map(str::to_owned).collect(),
        name => {
            aliases.targets(name, &*call.router.topology).into_iter().map(|target| target.index).collect()
        }
    };
    names.sort_unstable();
    // A list has no name, and is of the indexes of the caller.
    if !name.is_empty() {
        check_index(&call.router.shell, &call.caller, call.method, name, first)?;
    }
    let mut indexes = Vec::with_capacity(names.len());
    for name in names.iter().filter(|name| may_list(&call.caller, aliases, name)) {
        let topology = &call.router.topology;
        indexes.push(match topology.resolve(name).and_then(|name| Some((name, topology.shards(name)?))) {
            Some((name, map)) => status_of(call, name, &map).await,
            // Says which indexes there are.
            None => return Err(call.checked_index(name, "").err().unwrap_or_else(status::internal)),
        });
    }
    Ok(indexes)
}

/// What one shard says of its index, or why it says nothing.
type OfShard = (Shard, Result<IndexStatus, String>);

/// The state of an index, of all of its shards.
async fn status_of(call: &RouterCall<'_>, name: &str, map: &ShardMap) -> IndexStatus {
    let (get, until) = (Call::GetStatus(GetStatusRequest { index: name.to_owned() }), call.due());
    let get = &get;
    let calls = map.shards.iter().map(|shard| -> Boxed<'_, _> { Box::pin(shard.call(get, until)) });
    let replies = all(calls.collect()).await;
    let of_shard = |reply: Result<Reply, Status>| match reply {
        Ok(Reply::Status(status)) => {
            status.indexes.into_iter().next().ok_or_else(|| "the server does not say".to_owned())
        }
        Ok(_) => Err("another answer than to GetStatus".to_owned()),
        Err(status) => Err(status.message().to_owned()),
    };
    let shards = map.shards.iter().map(|shard| shard.shard).zip(replies.into_iter().map(of_shard)).collect();
    let mut whole = merged(shards, map.has_shared_log);
    name.clone_into(&mut whole.name);
    // By the rule of the health of the index: it may answer without a shard.
    whole.serving = call.router.topology.readiness(name).is_serving();
    whole
}

/// Sums over the shards, and what is the same in all of them from the first that answers.
fn merged(shards: Vec<OfShard>, has_shared_log: bool) -> IndexStatus {
    let mut whole: Option<IndexStatus> = None;
    let (mut problems, mut read_only) = (Vec::new(), Vec::new());
    let count = shards.len();
    for (shard, found) in shards {
        let found = match found {
            Ok(found) => found,
            Err(problem) => {
                problems.push(format!("shard {shard}: {problem}"));
                read_only.push(format!("shard {shard}: {problem}"));
                continue;
            }
        };
        if !found.refused.is_empty() {
            problems.push(format!("shard {shard}: {}", found.refused));
        }
        if !found.writable {
            read_only.push(format!("shard {shard}: {}", found.read_only_reason));
        }
        match &mut whole {
            Some(whole) => add(whole, &found),
            None => whole = Some(found),
        }
    }
    if count == 0 {
        problems.push("no replica was found yet".to_owned());
        read_only.push("no replica was found yet".to_owned());
    }
    let mut whole = whole.unwrap_or_default();
    // Folders, generations to activate, rebuilds and reports are those of one server.
    whole.dir = String::new();
    whole.available_generations.clear();
    (whole.rebuild, whole.gate, whole.shadow) = (None, None, None);
    whole.sections.sort_by_key(|section| Reverse(section.bytes));
    whole.refused = shortened(problems.join("; "), MAX_PROBLEMS);
    // With one log, any shard takes all writes.
    whole.writable = read_only.is_empty() || has_shared_log && read_only.len() < count;
    let reason = if whole.writable { String::new() } else { read_only.join("; ") };
    whole.read_only_reason = shortened(reason, MAX_PROBLEMS);
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
        (&mut whole.resident_bytes, other.resident_bytes),
        (&mut whole.log_bytes, other.log_bytes),
        (&mut whole.log_entries, other.log_entries),
    ];
    for (sum, more) in sums {
        *sum = sum.saturating_add(more);
    }
    for section in &other.sections {
        match whole.sections.iter_mut().find(|of| of.name == section.name) {
            Some(of) => of.bytes = of.bytes.saturating_add(section.bytes),
            None => whole.sections.push(section.clone()),
        }
    }
    whole.generation = whole.generation.max(other.generation);
    whole.sequence = whole.sequence.min(other.sequence);
    whole.generation_sequence = whole.generation_sequence.min(other.generation_sequence);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::proto::{FileSection, Shadow};

    fn status(vectors: u64, sequence: u64) -> IndexStatus {
        IndexStatus {
            vectors,
            sequence,
            generation: vectors,
            writable: true,
            serving: true,
            ..IndexStatus::default()
        }
    }

    fn of(shards: &[Result<IndexStatus, String>], has_shared_log: bool) -> IndexStatus {
        let all = Shard::all(u32::try_from(shards.len()).unwrap()).unwrap();
        merged(all.zip(shards.iter().cloned()).collect(), has_shared_log)
    }

    #[test]
    fn the_state_of_an_index_is_that_of_all_shards() {
        let whole = of(&[Ok(status(3, 9)), Ok(status(u64::MAX, 7))], false);
        assert_eq!((whole.vectors, whole.generation, whole.sequence), (u64::MAX, u64::MAX, 7));
        assert_eq!((whole.writable, whole.refused.as_str()), (true, ""));
    }

    #[test]
    fn sizes_are_summed_and_reports_of_one_server_left_out() {
        let section = |name: &str, bytes| FileSection { name: name.to_owned(), bytes };
        let one = IndexStatus {
            sections: vec![section("links", 7), section("codes", 3)],
            resident_bytes: 5,
            log_bytes: 6,
            log_entries: 7,
            shadow: Some(Shadow::default()),
            ..status(1, 1)
        };
        let other = IndexStatus { sections: vec![section("codes", 5), section("words", 1)], ..one.clone() };
        let whole = of(&[Ok(one), Ok(other)], false);
        assert_eq!(whole.sections, [section("codes", 8), section("links", 7), section("words", 1)]);
        assert_eq!((whole.resident_bytes, whole.log_bytes, whole.log_entries), (10, 12, 14));
        assert_eq!(whole.shadow, None);
    }

    #[test]
    fn a_shard_that_does_not_answer_takes_no_writes_unless_all_have_one_log() {
        let shards = [Ok(status(3, 9)), Err("gone".to_owned())];
        let whole = of(&shards, false);
        let problem = "shard 1/2: gone";
        assert_eq!((whole.vectors, whole.writable), (3, false));
        assert_eq!((whole.refused.as_str(), whole.read_only_reason.as_str()), (problem, problem));
        let whole = of(&shards, true);
        assert_eq!((whole.writable, whole.read_only_reason.as_str()), (true, ""));
        assert_eq!(whole.refused, problem);
        let none = of(&[Err("gone".to_owned()), Err("gone".to_owned())], true);
        assert_eq!((none.vectors, none.writable), (0, false));
        let read_only =
            IndexStatus { writable: false, read_only_reason: "follows".to_owned(), ..status(1, 1) };
        let whole = of(&[Ok(read_only.clone()), Ok(status(3, 9))], false);
        assert_eq!((whole.writable, whole.read_only_reason.as_str()), (false, "shard 0/2: follows"));
        assert!(of(&[Ok(read_only), Ok(status(3, 9))], true).writable);
    }

    #[test]
    fn an_index_without_replicas_says_so() {
        let whole = merged(Vec::new(), true);
        assert_eq!((whole.writable, whole.refused.as_str()), (false, "no replica was found yet"));
    }
}
