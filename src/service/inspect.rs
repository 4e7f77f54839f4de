//! What people look at: the history, the generations, users and values of an index, its picture, and the newest changes.
//!
//! What flows in: calls of `Admin` and `Catalog` that no production traffic makes. What flows out: their answers, computed on blocking
//! threads, few at a time.

use std::sync::Arc;

use prost::Message;
use tonic::{Code, Request, Response, Status};

use super::access::{check_index, may_list};
use super::caller::Caller;
use super::convert::inspect::{descriptions, generation, limit, map, users, values};
use super::deadline::Deadline;
use super::error::{CallError, InvalidField};
use super::history::STEP;
use super::proto::{
    ChangeRecord, CompareGenerationsRequest, CompareGenerationsResponse, GetHistoryRequest,
    GetHistoryResponse, GetMapRequest, GetMapResponse, GetStatusResponse, ListChangesRequest,
    ListChangesResponse, ListGenerationsRequest, ListGenerationsResponse, ListIndexesRequest,
    ListIndexesResponse, ListValuesRequest, ListValuesResponse, SampleUsersRequest, SampleUsersResponse,
};
use super::read::CancelOnDrop;
use super::shadow::compared_once;
use super::shared::Shared;
use super::shell::Shell;
use super::states::status_of;
use super::{convert, status};
use crate::engine::inspect::MOST_POINTS;
use crate::engine::{Budget, Engine, EngineError, Field};

/// Returns the last hour of an index.
///
/// # Errors
/// See the method.
pub(crate) fn history(
    shell: &Arc<Shell>,
    request: &Request<GetHistoryRequest>,
) -> Result<Response<GetHistoryResponse>, Status> {
    let method = "GetHistory";
    let (caller, mut index) = (Caller::of(request)?, request.get_ref().index.clone());
    let named = shell.aliases.current().name(&mut index, "", &*shell.indexes);
    let observation = shell.observe(method, &index, Deadline::of(request));
    let checked = check_index(shell, &caller, method, &named.requested, &index)
        .and_then(|()| check_served(shell, &index));
    observation.finish(checked.as_ref().err().map_or(Code::Ok, Status::code));
    checked?;
    let points = shell.metrics.requests.history.points(&index);
    Ok(Response::new(GetHistoryResponse { step: Some(convert::duration(STEP)), points }))
}

/// Returns the newest changes that the caller may know of.
///
/// # Errors
/// See the method.
pub(crate) fn changes(
    shell: &Arc<Shell>,
    request: &Request<ListChangesRequest>,
) -> Result<Response<ListChangesResponse>, Status> {
    let method = "ListChanges";
    let caller = Caller::of(request)?;
    let ListChangesRequest { index: name, limit: wanted, video_id } = request.get_ref();
    let aliases = shell.aliases.current();
    let mut index = name.clone();
    if !name.is_empty() {
        aliases.name(&mut index, "", &*shell.indexes);
    }
    let observation = shell.observe(method, &index, Deadline::of(request));
    let listed = (|| {
        if !name.is_empty() {
            check_index(shell, &caller, method, name, &index)?;
            check_served(shell, &index)?;
        }
        let most = limit(*wanted, 20, 200).map_err(|problem| invalid("limit", problem))?;
        // All indexes of an alias.
        let targets = aliases.targets(name, &*shell.indexes);
        let is_named = |of: &str| name.is_empty() || targets.iter().any(|target| target.index == of);
        let is_of_index = |of: &str| match of {
            // That of an alias itself, which is of several indexes.
            "" => name.is_empty() && caller.rights.include(""),
            of => is_named(of) && may_list(&caller, &aliases, of),
        };
        let is_listed = |change: &ChangeRecord| {
            is_of_index(&change.index) && video_id.is_none_or(|video| change.video_ids.contains(&video))
        };
        Ok(shell.access.audit().newest(most, is_listed))
    })();
    observation.finish(listed.as_ref().err().map_or(Code::Ok, Status::code));
    listed.map(|changes| Response::new(ListChangesResponse { changes }))
}

/// Checks that there is an index of this name.
///
/// # Errors
/// NOT_FOUND if there is none.
fn check_served(shell: &Shell, index: &str) -> Result<(), Status> {
    match shell.indexes.resolve(index) {
        Some(_) => Ok(()),
        None => {
            let (name, available) = (index.to_owned(), shell.indexes.names());
            Err(status::of(&EngineError::UnknownIndex { name, available }.into(), ""))
        }
    }
}

fn invalid(field: &str, problem: String) -> Status {
    status::of(&InvalidField::new(field, problem).into(), "")
}

/// Runs `work` on a blocking thread, when it is its turn.
async fn in_turn<T: Message + 'static>(
    shared: &Arc<Shared>,
    method: &'static str,
    work: impl FnOnce(&Shared) -> Result<T, CallError> + Send + 'static,
) -> Result<T, Status> {
    // Few at a time: they are not admitted as searches are.
    let permit = Arc::clone(&shared.looks).acquire_owned().await.map_err(|_| status::internal())?;
    let of_thread = Arc::clone(shared);
    let worked = tokio::task::spawn_blocking(move || {
        // Until the work ends, even if the caller hangs up.
        let _permit = permit;
        work(&of_thread)
    });
    let worked = worked.await.map_err(|error| {
        tracing::error!(method, %error, "a request failed");
        status::internal()
    })?;
    let response = worked.map_err(|error| status::of(&error, ""))?;
    status::check_size(&response, shared.shell.limits.max_response_bytes)?;
    Ok(response)
}

/// Runs `work` with the full name of an index, on a blocking thread.
async fn look<Q, T: Message + 'static>(
    shared: &Arc<Shared>,
    method: &'static str,
    request: &Request<Q>,
    name: &str,
    work: impl FnOnce(&Engine, &str) -> Result<T, CallError> + Send + 'static,
) -> Result<Response<T>, Status> {
    let (shell, caller) = (&shared.shell, Caller::of(request)?);
    let mut index = name.to_owned();
    let named = shell.aliases.current().name(&mut index, "", &*shell.indexes);
    let observation = shell.observe(method, &index, Deadline::of(request));
    let looked = async {
        check_index(shell, &caller, method, &named.requested, &index)?;
        in_turn(shared, method, move |shared| work(&shared.engine, &index)).await
    };
    let looked = looked.await;
    observation.finish(looked.as_ref().err().map_or(Code::Ok, Status::code));
    let response = looked?;
    Ok(Response::new(response))
}

/// Describes the indexes that the caller may use.
///
/// # Errors
/// See the method.
pub(super) async fn indexes(
    shared: &Arc<Shared>,
    request: Request<ListIndexesRequest>,
) -> Result<Response<ListIndexesResponse>, Status> {
    let (method, caller) = ("ListIndexes", Caller::of(&request)?);
    let aliases = shared.shell.aliases.current();
    let observation = shared.shell.observe(method, "", Deadline::of(&request));
    let listed = in_turn(shared, method, move |shared| {
        let GetStatusResponse { indexes, aliases, .. } =
            status_of(shared, &aliases, &caller, shared.shell.indexes.names())?;
        Ok(descriptions(indexes, aliases))
    });
    let listed = listed.await;
    observation.finish(listed.as_ref().err().map_or(Code::Ok, Status::code));
    listed.map(Response::new)
}

/// Answers searches of sample users from two generations of an index, and compares the answers.
///
/// # Errors
/// See the method.
pub(super) async fn compare_generations(
    shared: &Arc<Shared>,
    request: Request<CompareGenerationsRequest>,
) -> Result<Response<CompareGenerationsResponse>, Status> {
    let CompareGenerationsRequest { index: name, generation, candidate, k, searches } =
        request.get_ref().clone();
    let budget = Budget::until(Deadline::of(&request).0);
    let _cancel = CancelOnDrop(budget.clone());
    look(shared, "CompareGenerations", &request, &name, move |engine, index| {
        let k = limit(k, 100, 1000).map_err(|problem| InvalidField::new("k", problem))?;
        let searches = limit(searches, 50, 200).map_err(|problem| InvalidField::new("searches", problem))?;
        compared_once(engine, index, (generation, candidate), (k, searches), &budget)
    })
    .await
}

/// Describes the generations of an index.
///
/// # Errors
/// See the method.
pub(super) async fn generations(
    shared: &Arc<Shared>,
    request: Request<ListGenerationsRequest>,
) -> Result<Response<ListGenerationsResponse>, Status> {
    let name = request.get_ref().index.clone();
    look(shared, "ListGenerations", &request, &name, |engine, index| {
        let generations = engine.generations(index)?.into_iter().map(generation).collect();
        Ok(ListGenerationsResponse { generations })
    })
    .await
}

/// Returns some users of an index.
///
/// # Errors
/// See the method.
pub(super) async fn sample_users(
    shared: &Arc<Shared>,
    request: Request<SampleUsersRequest>,
) -> Result<Response<SampleUsersResponse>, Status> {
    let SampleUsersRequest { index: name, count } = request.get_ref().clone();
    look(shared, "SampleUsers", &request, &name, move |engine, index| {
        let count = limit(count, 20, 1000).map_err(|problem| InvalidField::new("count", problem))?;
        let sample = engine.sample_users(index, count)?;
        Ok(SampleUsersResponse { source: sample.source.to_owned(), users: users(sample.users) })
    })
    .await
}

/// Returns the most frequent values of an attribute.
///
/// # Errors
/// See the method.
pub(super) async fn list_values(
    shared: &Arc<Shared>,
    request: Request<ListValuesRequest>,
) -> Result<Response<ListValuesResponse>, Status> {
    let ListValuesRequest { index: name, attribute, prefix, limit: most } = request.get_ref().clone();
    look(shared, "ListValues", &request, &name, move |engine, index| {
        let most = limit(most, 20, 1000).map_err(|problem| InvalidField::new("limit", problem))?;
        let found = engine.values(index, &attribute, &prefix, most);
        Ok(ListValuesResponse { values: values(found.map_err(|error| of_field(error, "attribute"))?) })
    })
    .await
}

/// Returns a picture of an index.
///
/// # Errors
/// See the method.
pub(super) async fn get_map(
    shared: &Arc<Shared>,
    request: Request<GetMapRequest>,
) -> Result<Response<GetMapResponse>, Status> {
    let GetMapRequest { index: name, points, color_by } = request.get_ref().clone();
    look(shared, "GetMap", &request, &name, move |engine, index| {
        let most = u32::try_from(MOST_POINTS).unwrap_or(u32::MAX);
        let points = limit(points, 5000, most).map_err(|problem| InvalidField::new("points", problem))?;
        let color = Some(color_by.as_str()).filter(|name| !name.is_empty());
        let found = engine.map(index, points, color).map_err(|error| of_field(error, "color_by"))?;
        Ok(map(found, color.is_some()))
    })
    .await
}

/// Names the field of a request that names an attribute.
fn of_field(error: EngineError, field: &str) -> CallError {
    match error {
        EngineError::InvalidArgument { field: Field::Attribute(_), problem } => {
            InvalidField::new(field, problem).into()
        }
        error => error.into(),
    }
}
