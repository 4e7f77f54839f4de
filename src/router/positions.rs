//! Items of a request that go to several shards, and their positions in it.
//!
//! What flows in: items with their videos. What flows out: the items of each shard; and errors of shards with the positions of the
//! caller's request.

use tonic::Status;
use tonic_types::{FieldViolation, StatusExt};

use super::topology::ShardMap;
use crate::base::id::VideoId;

/// The items of one shard, with their positions in the request.
pub(super) struct Items<T> {
    pub(super) shard: usize,
    pub(super) items: Vec<T>,
    pub(super) positions: Vec<usize>,
}

/// Divides items among the shards of their videos.
pub(super) fn divide<T>(
    map: &ShardMap,
    items: impl IntoIterator<Item = T>,
    video: impl Fn(&T) -> VideoId,
) -> Vec<Items<T>> {
    let part = |shard| Items { shard, items: Vec::new(), positions: Vec::new() };
    let mut parts: Vec<Items<T>> = (0..map.shards.len()).map(part).collect();
    for (position, item) in items.into_iter().enumerate() {
        let part = &mut parts[map.owner(video(&item))];
        part.items.push(item);
        part.positions.push(position);
    }
    parts.retain(|part| !part.items.is_empty());
    parts
}

/// The same status with the positions of the caller's request in the paths of `field`.
pub(super) fn restored(status: Status, field: &str, positions: &[usize]) -> Status {
    let mut details = status.get_error_details();
    let Some(bad) = details.bad_request() else { return status };
    let mut message = status.message().to_owned();
    let mut violations: Vec<FieldViolation> = bad.field_violations.clone();
    for violation in &mut violations {
        let Some(path) = moved(&violation.field, field, positions) else { continue };
        if let Some(rest) = message.strip_prefix(&violation.field) {
            message = format!("{path}{rest}");
        }
        violation.field = path;
    }
    details.set_bad_request(violations);
    Status::with_error_details(status.code(), message, details)
}

/// The path with the position of the caller's request; `None` if it is not one of an item.
fn moved(path: &str, field: &str, positions: &[usize]) -> Option<String> {
    let (position, rest) = path.strip_prefix(field)?.strip_prefix('[')?.split_once(']')?;
    let position = positions.get(position.parse::<usize>().ok()?)?;
    Some(format!("{field}[{position}]{rest}"))
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn errors_name_the_positions_of_the_caller() {
        let details = ErrorDetails::with_bad_request_violation("videos[1].vector", "no");
        let status = Status::with_error_details(Code::InvalidArgument, "videos[1].vector: no", details);
        let found = restored(status, "videos", &[3, 7]);
        assert_eq!(found.message(), "videos[7].vector: no");
        let details = found.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "videos[7].vector");
        assert_eq!(moved("videos[9].vector", "videos", &[3, 7]), None);
        assert_eq!(moved("text_ids", "videos", &[3]), None);
    }
}
