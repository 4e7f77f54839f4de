//! Errors → canonical codes with `google.rpc` details.
//!
//! What flows in: an [`EngineError`] and where in the call the request stands. What flows out: a
//! [`Status`] that a program can act on without reading its message.

use std::fmt::Display;
use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::base::text::shortened;
use crate::engine::EngineError;
use crate::index::StoreError;

const INDEX_TYPE: &str = "shortlist.v1.Index";
const GENERATION_TYPE: &str = "shortlist.v1.Generation";
const VIDEO_TYPE: &str = "shortlist.v1.Video";
/// When a caller may ask again for a write that this server has not seen.
const WRITE_DELAY: Duration = Duration::from_millis(20);
/// Most bytes of a message, and of each text of the details. They may have names that a caller made up, and travel in
/// headers, most of them twice, of which many clients take 8 KiB and no more.
const MAX_TEXT_BYTES: usize = 512;

/// The status of `error`. `path` leads to the request within the call, such as `requests[3].`, and is
/// empty where the call has one request.
pub(super) fn of(error: &EngineError, path: &str) -> Status {
    let start = if error.field().is_some() { path } else { "" };
    let message = bounded(format_args!("{start}{error}"));
    let field = |name: &str, problem: &str| {
        ErrorDetails::with_bad_request_violation(bounded(format_args!("{path}{name}")), bounded(problem))
    };
    let own_field = || {
        let (name, text) = (error.field().unwrap_or_default(), error.to_string());
        field(name, text.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text))
    };
    match error {
        EngineError::InvalidArgument { .. } => {
            Status::with_error_details(Code::InvalidArgument, message, own_field())
        }
        EngineError::NotFilterable { .. }
        | EngineError::EmbeddingModel { .. }
        | EngineError::NotCalibrated { .. }
        | EngineError::KNotCalibrated { .. }
        | EngineError::RecallUnreachable { .. } => {
            Status::with_error_details(Code::FailedPrecondition, message, own_field())
        }
        EngineError::NotYetWritten { .. } => {
            let mut details = own_field();
            details.set_retry_info(Some(WRITE_DELAY));
            Status::with_error_details(Code::Unavailable, message, details)
        }
        EngineError::UnknownIndex { name, .. } => {
            let mut details = field("index", &message);
            details.set_resource_info(INDEX_TYPE, bounded(name), "", &message);
            Status::with_error_details(Code::NotFound, message, details)
        }
        EngineError::UnknownVideo { video, .. } => {
            let mut details = field("query.seeds", &message);
            details.set_resource_info(VIDEO_TYPE, video.to_string(), "", &message);
            Status::with_error_details(Code::NotFound, message, details)
        }
        EngineError::NotInIndex { video, .. } => {
            let mut details = field("video_id", &message);
            details.set_resource_info(VIDEO_TYPE, video.to_string(), "", &message);
            Status::with_error_details(Code::NotFound, message, details)
        }
        // Another server, or this one after the next publication, may answer.
        EngineError::OutOfService { .. } => Status::unavailable(message),
        EngineError::ReadOnly { .. } => Status::failed_precondition(message),
        EngineError::Cancelled => Status::cancelled(message),
        EngineError::DeadlineExceeded => Status::deadline_exceeded(message),
        EngineError::Unsearchable { .. } | EngineError::Log(_) => Status::unavailable(message),
        EngineError::Threads(_) | EngineError::NoThread(_) => Status::internal(message),
        EngineError::Store(error) => of_store(error, message),
    }
}

fn of_store(error: &StoreError, message: String) -> Status {
    match error {
        StoreError::UnknownGeneration { generation, .. } => {
            let details =
                ErrorDetails::with_resource_info(GENERATION_TYPE, generation.to_string(), "", &message);
            Status::with_error_details(Code::NotFound, message, details)
        }
        // Somebody has to mend or rebuild the index before the same call can succeed.
        StoreError::Empty { .. }
        | StoreError::BadManifest { .. }
        | StoreError::BadCalibration { .. }
        | StoreError::BadGateReport { .. }
        | StoreError::NothingUsable { .. }
        | StoreError::NotServable { .. }
        | StoreError::Index(_) => Status::failed_precondition(message),
        StoreError::Io { .. } => Status::internal(message),
    }
}

fn bounded(text: impl Display) -> String {
    shortened(text, MAX_TEXT_BYTES)
}

/// The answer when the server, not the caller, is at fault and the log has the rest.
pub(super) fn internal() -> Status {
    Status::internal("the server failed on this request; its log says why")
}

/// The answer when an answer would be larger than what the server sends.
pub(super) fn too_large(bytes: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "the answer has {bytes} bytes and this server sends at most {limit}: ask for fewer candidates, videos, \
         attributes or searches at a time"
    ))
}

/// The answer to what comes while the server shuts down.
pub(super) fn draining() -> Status {
    Status::unavailable("the server is shutting down")
}

/// The status as a message, for the items of batches and streams.
pub(super) fn to_item(status: &Status) -> tonic_types::Status {
    let bare = || tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    // With details, the bytes hold code and message too.
    if status.details().is_empty() {
        return bare();
    }
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| bare())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use axum::http::{HeaderName, HeaderValue};

    use super::*;
    use crate::base::id::VideoId;

    #[test]
    fn field_paths_start_at_the_call() {
        let status = of(&EngineError::invalid("k", "must be at least 1"), "requests[3].");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "requests[3].k: must be at least 1");
        let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].field, "requests[3].k");
        assert_eq!(violations[0].description, "must be at least 1");
    }

    #[test]
    fn unknown_things_are_not_found_and_named() {
        let named = |error: EngineError| {
            let status = of(&error, "");
            assert_eq!(status.code(), Code::NotFound);
            let details = status.get_error_details();
            let resource = details.resource_info().unwrap();
            let field = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
            (resource.resource_type.clone(), resource.resource_name.clone(), field)
        };
        let index = EngineError::UnknownIndex { name: "b".into(), available: vec!["a".into()] };
        assert_eq!(named(index), (INDEX_TYPE.into(), "b".into(), Some("index".into())));
        let video = EngineError::UnknownVideo { index: "a".into(), video: VideoId(9) };
        assert_eq!(named(video), (VIDEO_TYPE.into(), "9".into(), Some("query.seeds".into())));
        let generation =
            StoreError::UnknownGeneration { dir: PathBuf::from("d"), generation: 7, available: vec![1] };
        assert_eq!(named(generation.into()), (GENERATION_TYPE.into(), "7".into(), None));
    }

    #[test]
    fn codes_say_who_can_mend_it() {
        let model = EngineError::EmbeddingModel {
            index: "a".into(),
            expected: Some("m1".into()),
            found: "m2".into(),
        };
        let status = of(&model, "requests[0].");
        assert_eq!(status.code(), Code::FailedPrecondition);
        let violation = &status.get_error_details().bad_request().unwrap().field_violations[0].clone();
        assert_eq!(violation.field, "requests[0].embedding_model");
        assert!(violation.description.starts_with("index \"a\" holds"), "{}", violation.description);
        assert_eq!(status.message(), format!("requests[0].embedding_model: {}", violation.description));
        assert_eq!(of(&EngineError::Cancelled, "").code(), Code::Cancelled);
        assert_eq!(of(&EngineError::DeadlineExceeded, "").code(), Code::DeadlineExceeded);
        let out_of_service = EngineError::OutOfService { index: "a".into(), problem: "p".into() };
        assert_eq!(of(&out_of_service, "").code(), Code::Unavailable);
        let damaged = StoreError::BadManifest { path: PathBuf::from("m"), problem: "p".into() };
        assert_eq!(of(&damaged.into(), "").code(), Code::FailedPrecondition);
        let io = StoreError::Io { path: PathBuf::from("m"), source: std::io::Error::other("disk") };
        assert_eq!(of(&io.into(), "").code(), Code::Internal);
    }

    #[test]
    fn what_is_not_written_yet_may_be_soon_and_a_read_only_index_may_not() {
        let status = of(&EngineError::NotYetWritten { index: "a".into(), expected: 9, found: 7 }, "request.");
        assert_eq!(status.code(), Code::Unavailable);
        let details = status.get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(WRITE_DELAY));
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "request.min_sequence");
        let read_only = EngineError::ReadOnly { index: "a".into(), problem: "p".into() };
        assert_eq!(of(&read_only, "").code(), Code::FailedPrecondition);
    }

    #[test]
    fn whatever_a_caller_made_up_the_headers_stay_small() {
        let name = |character: &str| character.repeat(1 << 20);
        let headers = |error: EngineError, path: &str| {
            let response = of(&error, path).into_http::<()>();
            let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
            response.headers().iter().map(bytes).sum::<usize>()
        };
        // One that stays as it is in a header, and one that takes three bytes there for each of its own.
        for (character, most) in [("a", 4 << 10), ("é", 5 << 10)] {
            let invalid = EngineError::invalid(name(character), name(character));
            assert!(headers(invalid, "requests[255].") < most);
            let index = EngineError::UnknownIndex { name: name(character), available: vec![name(character)] };
            assert!(headers(index, "requests[255].") < most);
            let (index, found) = (name(character), name(character));
            let model = EngineError::EmbeddingModel { index, expected: Some(name(character)), found };
            assert!(headers(model, "requests[255].") < most);
        }
    }

    #[test]
    fn an_item_keeps_code_message_and_details() {
        let item = to_item(&of(&EngineError::invalid("k", "must be at least 1"), ""));
        assert_eq!(item.code, Code::InvalidArgument as i32);
        assert_eq!(item.message, "k: must be at least 1");
        assert_eq!(item.details.len(), 1);
        assert_eq!(item.details[0].type_url, "type.googleapis.com/google.rpc.BadRequest");
        let item = to_item(&Status::unavailable("later"));
        assert_eq!(
            (item.code, item.message.as_str(), item.details.len()),
            (Code::Unavailable as i32, "later", 0)
        );
    }
}
