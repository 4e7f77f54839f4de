//! What the status of a replica means for the call that it answers.

use std::error::Error as _;
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::base::partition::Shard;

/// How long a caller should wait before it retries: lost shards may be back by then.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Whether every replica would return the same error, because the request is at fault.
pub(super) fn is_final(status: &Status) -> bool {
    match status.code() {
        Code::NotFound => !lacks_index(status),
        Code::FailedPrecondition => !lacks_generation(status),
        Code::InvalidArgument | Code::AlreadyExists | Code::OutOfRange | Code::Unimplemented => true,
        // The answer is too large.
        Code::ResourceExhausted => status.get_error_details().bad_request().is_some(),
        _ => false,
    }
}

fn names(status: &Status, field: &str) -> bool {
    let details = status.get_error_details();
    details.bad_request().is_some_and(|bad| bad.field_violations.iter().any(|bad| bad.field == field))
}

/// Whether the index lacks writes that the caller has seen.
pub(super) fn lacks_writes(status: &Status) -> bool {
    status.code() == Code::Unavailable && names(status, "min_sequence")
}

/// Whether the replica does not serve the generation of the pages before. Another one may.
pub(super) fn lacks_generation(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition && names(status, "page_token")
}

/// Whether the replica takes no writes, such as one whose disk is full. It says so before it writes anything to a shared log.
pub(super) fn refuses_writes(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition && status.get_error_details().bad_request().is_none()
}

/// Whether the replica lacks the index, which exists: the router serves it.
fn lacks_index(status: &Status) -> bool {
    status.code() == Code::NotFound && (names(status, "index") || names(status, "request.index"))
}

/// Whether the replica is at fault, rather than its load or the request.
pub(super) fn is_of_replica(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => !lacks_writes(status),
        Code::NotFound => lacks_index(status),
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Unauthenticated | Code::PermissionDenied => {
            true
        }
        Code::Cancelled => status.source().is_some(),
        _ => false,
    }
}

/// Says that a replica sent nonsense.
pub(super) fn nonsense(problem: impl std::fmt::Display) -> Status {
    Status::data_loss(format!("a replica sent an impossible answer: {problem}"))
}

/// The status of the call of a shard. Errors between router and replica, such as a refused key, become `UNAVAILABLE`: the caller
/// cannot correct them.
pub(super) fn of_shard(status: Status, shard: Shard) -> Status {
    let is_between_servers = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => true,
        Code::NotFound => lacks_index(&status),
        // Raised by the client in the router, so without metadata: the answer is larger than the router reads.
        Code::OutOfRange => status.metadata().is_empty(),
        _ => false,
    };
    if is_between_servers { unavailable(format!("shard {shard}: {}", status.message())) } else { status }
}

/// The status of a call that shards are missing for.
pub(super) fn unavailable(problem: impl Into<String>) -> Status {
    let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
    Status::with_error_details(Code::Unavailable, problem, details)
}

/// The same status with the paths of its fields in the message of the caller, where the request is at `path`.
pub(super) fn at(status: Status, path: &str) -> Status {
    let mut details = status.get_error_details();
    let Some(bad) = details.bad_request().filter(|_| !path.is_empty()) else { return status };
    let first = bad.field_violations.first().map(|bad| bad.field.clone()).unwrap_or_default();
    let moved = bad
        .field_violations
        .iter()
        .map(|bad| FieldViolation { field: format!("{path}{}", bad.field), ..bad.clone() });
    let moved: Vec<FieldViolation> = moved.collect();
    details.set_bad_request(moved);
    let names_field = !first.is_empty() && status.message().starts_with(&format!("{first}: "));
    let message = match names_field {
        true => format!("{path}{}", status.message()),
        false => status.message().to_owned(),
    };
    Status::with_error_details(status.code(), message, details)
}

/// The status of an item of a batch or stream.
pub(super) fn of_item(item: &tonic_types::Status) -> Status {
    let details = item.encode_to_vec().into();
    Status::with_details(Code::from_i32(item.code), item.message.clone(), details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_moved_into_the_message_of_the_caller() {
        let details = ErrorDetails::with_bad_request_violation("k", "expected 1 to 10, found 0");
        let status =
            Status::with_error_details(Code::InvalidArgument, "k: expected 1 to 10, found 0", details);
        assert!(is_final(&status) && !is_of_replica(&status));
        let moved = at(status.clone(), "requests[3].");
        assert_eq!(moved.message(), "requests[3].k: expected 1 to 10, found 0");
        let moved = moved.get_error_details();
        assert_eq!(moved.bad_request().unwrap().field_violations[0].field, "requests[3].k");
        assert_eq!(at(status, "").message(), "k: expected 1 to 10, found 0");
        assert_eq!(at(Status::unavailable("gone"), "requests[0].").message(), "gone");
    }

    #[test]
    fn what_another_replica_may_have_is_not_final() {
        let of = |code, field: &str| {
            let details = ErrorDetails::with_bad_request_violation(field, "");
            Status::with_error_details(code, "", details)
        };
        let generation = of(Code::FailedPrecondition, "page_token");
        assert!(!is_final(&generation) && !is_of_replica(&generation));
        assert!(is_final(&of(Code::FailedPrecondition, "params.target_recall")));
        assert!(is_final(&of(Code::NotFound, "query.seeds")));
        for field in ["index", "request.index"] {
            let index = of(Code::NotFound, field);
            assert!(!is_final(&index) && is_of_replica(&index));
        }
    }

    #[test]
    fn a_replica_is_not_blamed_for_load_or_missing_writes() {
        let mut details = ErrorDetails::with_bad_request_violation("min_sequence", "expected 9, found 7");
        details.set_retry_info(Some(RETRY_DELAY));
        let status = Status::with_error_details(Code::Unavailable, "", details);
        assert!(lacks_writes(&status) && !is_of_replica(&status) && !is_final(&status));
        assert!(!is_of_replica(&Status::resource_exhausted("")));
        assert!(is_of_replica(&Status::unavailable("")) && is_of_replica(&nonsense("order")));
    }
}
