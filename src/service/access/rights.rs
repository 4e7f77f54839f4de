//! Roles, and which of them each method needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::limits::OwnLimits;
use crate::service::listeners::Part;
use crate::service::page;

/// What a key or token allows. No role implies another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Role {
    /// Searches and lookups; `/metrics`.
    Read,
    /// Upserts and deletes.
    Write,
    /// Takedowns, and their end.
    Takedown,
    /// The state of indexes, activations and rebuilds.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::Read, Role::Write, Role::Takedown, Role::Admin];

    /// Returns the name, as in the configuration and in tokens.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Write => "write",
            Role::Takedown => "takedown",
            Role::Admin => "admin",
        }
    }
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = Role::ALL.into_iter().find(|role| role.name() == name);
        known.ok_or_else(|| format!("unknown role {name:?}, expected read, write, takedown or admin"))
    }
}

/// The limits of the roles that have some.
pub type RoleLimits = BTreeMap<Role, OwnLimits>;

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(super) roles: BTreeSet<Role>,
    /// The names of the indexes that the roles are for; all if `None`.
    pub(super) indexes: Option<BTreeSet<String>>,
    /// The limits of the caller; those of all where it has none.
    pub(crate) limits: OwnLimits,
}

impl Rights {
    /// Returns the rights of a credential with limits of its own, and with those of its roles where it has none: of several
    /// roles the most generous limit that one of them sets.
    pub(super) fn new(
        roles: BTreeSet<Role>,
        indexes: Option<BTreeSet<String>>,
        own: &OwnLimits,
        by_role: &RoleLimits,
    ) -> Arc<Self> {
        let of_roles = OwnLimits::most_generous(roles.iter().filter_map(|role| by_role.get(role)));
        Arc::new(Self { roles, indexes, limits: own.or(&of_roles) })
    }

    /// All roles for all indexes.
    pub(crate) fn all() -> Arc<Self> {
        Arc::new(Self { roles: Role::ALL.into(), indexes: None, limits: OwnLimits::default() })
    }

    /// No roles.
    pub(super) fn none() -> Arc<Self> {
        Arc::new(Self { roles: BTreeSet::new(), indexes: None, limits: OwnLimits::default() })
    }

    /// Returns whether the caller has a role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Returns whether the caller may use the index of this name.
    pub(crate) fn include(&self, index: &str) -> bool {
        self.indexes.as_ref().is_none_or(|indexes| indexes.contains(index))
    }
}

/// Whom a credential stands for.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The name of the key, or the subject of the token.
    pub(super) name: Arc<str>,
    /// Whether it is a token.
    pub(super) is_token: bool,
    pub(super) rights: Arc<Rights>,
    /// The last second at which it is valid, since 1970; `u64::MAX` for ever.
    pub(super) until: u64,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// No credential.
    Nothing,
    /// Any valid credential.
    Credential,
    /// A credential with this role.
    Role(Role),
}

/// One path, and what it needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) part: Part,
    pub(super) need: Need,
}

impl Route {
    /// Returns the route of a path; `None` if nothing is served there.
    pub(super) fn of(path: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.path == path).or_else(|| page::has(path).then_some(&PAGE))
    }

    /// Returns the name of the method, without its service.
    pub(super) fn method(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Returns whether it is called over gRPC, and not with GET.
    pub(super) fn is_grpc(&self) -> bool {
        self.path.rfind('/') != Some(0)
    }
}

const fn route(path: &'static str, part: Part, need: Need) -> Route {
    Route { path, part, need }
}

/// The files of the web page.
static PAGE: Route = route("/", Part::Page, Need::Nothing);

/// Every path that is served, but for the files of the web page. A path that is not here does not reach a service.
pub(super) const ROUTES: [Route; 32] = [
    route("/shortlist.v1.Retrieval/Search", Part::Search, Need::Role(Role::Read)),
    route("/shortlist.v1.Retrieval/BatchSearch", Part::Search, Need::Role(Role::Read)),
    route("/shortlist.v1.Retrieval/StreamSearch", Part::Search, Need::Role(Role::Read)),
    route("/shortlist.v1.Retrieval/Explain", Part::Search, Need::Role(Role::Read)),
    route("/shortlist.v1.Catalog/Get", Part::Search, Need::Role(Role::Read)),
    route("/shortlist.v1.Catalog/ListIndexes", Part::Search, Need::Role(Role::Read)),
    route("/shortlist.v1.Catalog/ListValues", Part::Search, Need::Role(Role::Read)),
    route("/shortlist.v1.Catalog/GetMap", Part::Search, Need::Role(Role::Read)),
    route("/shortlist.v1.Catalog/Upsert", Part::Search, Need::Role(Role::Write)),
    route("/shortlist.v1.Catalog/StreamUpsert", Part::Search, Need::Role(Role::Write)),
    route("/shortlist.v1.Catalog/Delete", Part::Search, Need::Role(Role::Write)),
    route("/shortlist.v1.Catalog/Takedown", Part::Search, Need::Role(Role::Takedown)),
    route("/shortlist.v1.Catalog/Restore", Part::Search, Need::Role(Role::Takedown)),
    route("/shortlist.v1.Admin/GetStatus", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/Activate", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/Rebuild", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/CancelRebuild", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/SetAlias", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/ListAliases", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/SetShadow", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/GetHistory", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/ListGenerations", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/CompareGenerations", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/SampleUsers", Part::Admin, Need::Role(Role::Admin)),
    route("/shortlist.v1.Admin/ListChanges", Part::Admin, Need::Role(Role::Admin)),
    route("/grpc.health.v1.Health/Check", Part::Common, Need::Nothing),
    route("/grpc.health.v1.Health/Watch", Part::Common, Need::Nothing),
    route("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Part::Common, Need::Credential),
    route("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Part::Common, Need::Credential),
    route("/healthz", Part::Common, Need::Nothing),
    route("/openapi.json", Part::Common, Need::Nothing),
    route("/metrics", Part::Metrics, Need::Role(Role::Read)),
];

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::service::proto::FILE_DESCRIPTOR_SET;

    #[test]
    fn every_method_has_a_route_with_a_role() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let mut methods = 0;
        for file in files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let route = Route::of(&path).unwrap_or_else(|| panic!("{path} has no route"));
                    assert!(matches!(route.need, Need::Role(_)), "{path}");
                    assert_eq!(route.method(), method.name());
                    methods += 1;
                }
            }
        }
        assert_eq!(methods, ROUTES.iter().filter(|route| route.path.starts_with("/shortlist.")).count());
    }
}
