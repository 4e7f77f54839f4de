//! Decides on the index of a request, once the request names it.

use std::sync::Arc;

use tonic::Status;

use super::denial::Denial;
use crate::service::aliases::{AliasMap, Named};
use crate::service::caller::Caller;
use crate::service::error::CallError;
use crate::service::shell::Shell;
use crate::service::status;

/// Checks that the caller may use an index, under its own name or under the one in the request, which may be an alias. Records
/// the refusal.
///
/// # Errors
/// `PERMISSION_DENIED`, for an index that does not exist as for one that is for others.
pub(crate) fn check_index(
    shell: &Arc<Shell>,
    caller: &Caller,
    method: &'static str,
    name: &str,
    index: &str,
) -> Result<(), Status> {
    let Some(own) = &caller.rights.indexes else { return Ok(()) };
    let full = shell.indexes.resolve(index).unwrap_or_default();
    let by_alias = name != index && own.contains(name);
    if own.contains(full) || by_alias {
        return Ok(());
    }
    let own = own.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let status = Status::permission_denied(format!("index: the credential is for these indexes only: {own}"));
    shell.denied(caller, method, Denial::Index, &status);
    Err(status)
}

/// Checks that the caller may use the index of a search or lookup, and that there is one. `path`: of the request within the call.
///
/// # Errors
/// As [`check_index`], and `FAILED_PRECONDITION` if an alias has no index of the model.
pub(crate) fn check_named(
    shell: &Arc<Shell>,
    caller: &Caller,
    method: &'static str,
    named: Named,
    index: &str,
    path: &str,
) -> Result<(), Status> {
    check_index(shell, caller, method, &named.requested, index)?;
    named.chosen.map(drop).map_err(|error| status::of(&CallError::Precondition(error), path))
}

/// Returns whether the caller may see that the index of this name exists.
pub(crate) fn may_list(caller: &Caller, aliases: &AliasMap, index: &str) -> bool {
    let by_alias = || {
        aliases.iter().any(|(alias, indexes)| {
            caller.rights.include(alias) && indexes.iter().any(|of_alias| of_alias == index)
        })
    };
    caller.rights.include(index) || by_alias()
}
