//! `Admin.SetAlias` and `Admin.ListAliases`, of servers and routers.
//!
//! What flows in: calls. What flows out: the aliases before or after them. To set an alias is to decide which index its users read
//! and write. So a caller with some indexes only sets an alias that is among them, to indexes that are.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use super::access::{Change, Event, check_index};
use super::aliases::{AliasMap, MAX_INDEXES, MAX_NAME_BYTES};
use super::caller::Caller;
use super::deadline::Deadline;
use super::proto::{Alias, ListAliasesRequest, ListAliasesResponse, SetAliasRequest, SetAliasResponse};
use super::shell::Shell;
use super::status;
use crate::base::text::shortened;

/// Sets an alias, and records the change.
///
/// # Errors
/// See the method.
pub(crate) async fn set(
    shell: &Arc<Shell>,
    request: Request<SetAliasRequest>,
) -> Result<Response<SetAliasResponse>, Status> {
    let method = "SetAlias";
    let (deadline, caller) = (Deadline::of(&request), Caller::of(&request)?);
    let SetAliasRequest { alias, indexes } = request.into_inner();
    let observation = shell.observe(method, "", deadline);
    for name in indexes.iter().chain([&alias]) {
        // An alias is no index, so it is checked as a name only.
        let index = if *name == alias { "" } else { name.as_str() };
        if let Err(status) = check_index(shell, &caller, method, name, index) {
            observation.finish(status.code());
            return Err(status);
        }
    }
    let of_thread = Arc::clone(shell);
    // On a blocking thread, which finishes and records the change even if the caller hangs up.
    let set = tokio::task::spawn_blocking(move || {
        let shell = of_thread;
        let change = change(&alias, &indexes);
        let set = shell.aliases.set(&alias, indexes, &*shell.indexes);
        let set = set.map_err(|error| status::of(&error, ""));
        let refusal = set.as_ref().err();
        shell.access.audit().changed(&Event { caller: &caller, method, index: "", change, refusal });
        set.map(|before| SetAliasResponse { before: Some(Alias { alias, indexes: before }) })
    });
    let set = set.await.unwrap_or_else(|error| {
        tracing::error!(method, %error, "a request failed");
        Err(status::internal())
    });
    observation.finish(set.as_ref().err().map_or(Code::Ok, Status::code));
    set.map(Response::new)
}

/// What the call is to change. Names that are too long, and so are refused, are cut.
fn change(alias: &str, indexes: &[String]) -> Change {
    let name = |name: &str| shortened(name, MAX_NAME_BYTES);
    let indexes = indexes.iter().take(MAX_INDEXES).map(|index| name(index)).collect();
    Change { alias: Some(name(alias)), indexes: Some(indexes), ..Change::default() }
}

/// Returns the aliases that the caller may use.
///
/// # Errors
/// If the call has no caller.
pub(crate) fn list(
    shell: &Arc<Shell>,
    request: &Request<ListAliasesRequest>,
) -> Result<Response<ListAliasesResponse>, Status> {
    let caller = Caller::of(request)?;
    let observation = shell.observe("ListAliases", "", Deadline::of(request));
    let aliases = listed(&shell.aliases.current(), &caller, |_| true);
    observation.finish(Code::Ok);
    Ok(Response::new(ListAliasesResponse { aliases }))
}

/// The aliases that the caller may use, of those that stand for any of some indexes.
pub(crate) fn listed(aliases: &AliasMap, caller: &Caller, is_of: impl Fn(&str) -> bool) -> Vec<Alias> {
    aliases
        .iter()
        .filter(|(alias, indexes)| {
            let may_use = |name: &str| caller.rights.include(name);
            may_use(alias) || indexes.iter().any(|index| may_use(index))
        })
        .filter(|(_, indexes)| indexes.iter().any(|index| is_of(index)))
        .map(|(alias, indexes)| Alias { alias: alias.to_owned(), indexes: indexes.to_vec() })
        .collect()
}
