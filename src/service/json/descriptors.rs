//! The messages of the services, and those that details of errors consist of.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};
use prost_types::FileDescriptorSet;

use crate::service::proto::FILE_DESCRIPTOR_SET;

/// All of them. Empty if the descriptors in this binary cannot be read.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let details = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap_or_default();
    // Some are in both sets, in files of other names.
    let is_new = |file: &prost_types::FileDescriptorProto| {
        let name = |message: &prost_types::DescriptorProto| format!("{}.{}", file.package(), message.name());
        file.message_type.iter().all(|message| pool.get_message_by_name(&name(message)).is_none())
    };
    let new: Vec<_> = details.file.into_iter().filter(is_new).collect();
    _ = pool.add_file_descriptor_protos(new);
    pool
});

/// Returns a message by its full name.
pub(super) fn message(name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(name)
}

/// Returns a message of `shortlist.v1` by its name.
#[cfg(feature = "cli")]
pub(crate) fn message_of_proto(name: &str) -> Option<MessageDescriptor> {
    message(&format!("shortlist.v1.{name}"))
}

/// Returns the method at a path of gRPC.
pub(super) fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    let service = POOL.get_service_by_name(service)?;
    service.methods().find(|method| method.name() == name)
}

#[cfg(test)]
mod tests {
    use super::super::routes::{OPENAPI, ROUTES};
    use super::*;

    #[test]
    fn every_method_without_a_stream_has_a_route() {
        let services: Vec<_> =
            POOL.services().filter(|service| service.package_name() == "shortlist.v1").collect();
        assert_eq!(services.len(), 3);
        for method in services.iter().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let has_route = ROUTES.iter().any(|route| route.grpc == path);
            assert_eq!(has_route, !method.is_client_streaming() && !method.is_server_streaming(), "{path}");
        }
        for route in ROUTES.iter().filter(|route| route.path != OPENAPI) {
            assert!(method(route.grpc).is_some(), "{}", route.grpc);
        }
    }

    #[test]
    fn details_of_errors_are_known() {
        for name in ["Status", "BadRequest", "RetryInfo", "ResourceInfo", "ErrorInfo", "QuotaFailure"] {
            assert!(message(&format!("google.rpc.{name}")).is_some(), "{name}");
        }
    }
}
