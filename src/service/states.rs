//! The state of the indexes, as one caller may know it.

use super::access::may_list;
use super::alias;
use super::aliases::AliasMap;
use super::caller::Caller;
use super::convert;
use super::proto::{self, GetStatusResponse};
use super::shared::Shared;
use crate::engine::EngineError;
use crate::kernel::Kernels;

/// The state of those of the indexes that the caller may list.
///
/// # Errors
/// If one cannot be read.
pub(super) fn status_of(
    shared: &Shared,
    aliases: &AliasMap,
    caller: &Caller,
    mut names: Vec<String>,
) -> Result<GetStatusResponse, EngineError> {
    let engine = &shared.engine;
    names.retain(|name| may_list(caller, aliases, name));
    names.sort_unstable();
    let aliases = alias::listed(aliases, caller, |index| names.iter().any(|name| name == index));
    let indexes = names.iter().map(|name| match engine.status(name) {
        // The others have a state.
        Err(EngineError::OutOfService { index, problem }) => {
            Ok(convert::closed_index(index, engine.dir(name)?, problem))
        }
        status => status.map(|status| proto::IndexStatus {
            shadow: shared.shadows.report(name),
            ..convert::index_status(status)
        }),
    });
    Ok(GetStatusResponse {
        indexes: indexes.collect::<Result<_, _>>()?,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: Kernels::get().isa().name().to_owned(),
        aliases,
        started_at: Some(convert::timestamp(shared.started_at)),
    })
}
