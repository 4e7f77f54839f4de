//! Decides on the index of a request, once the request names it.

use std::sync::Arc;

use tonic::Status;

use super::denial::Denial;
use crate::service::caller::Caller;
use crate::service::shell::Shell;

/// Checks that the caller may use the index of this name. Records the refusal.
///
/// # Errors
/// `PERMISSION_DENIED`, for an index that does not exist as for one that is for others.
pub(crate) fn check_index(
    shell: &Arc<Shell>,
    caller: &Caller,
    method: &'static str,
    name: &str,
) -> Result<(), Status> {
    let Some(own) = &caller.rights.indexes else { return Ok(()) };
    if shell.indexes.resolve(name).is_some_and(|index| own.contains(index)) {
        return Ok(());
    }
    let own = own.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let status = Status::permission_denied(format!("index: the credential is for these indexes only: {own}"));
    shell.denied(caller, method, Denial::Index, &status);
    Err(status)
}

/// Returns whether the caller may see that the index of this name exists.
pub(crate) fn may_list(caller: &Caller, index: &str) -> bool {
    caller.rights.include(index)
}
