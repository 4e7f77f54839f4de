//! Errors → canonical gRPC codes with `google.rpc` details.
//!
//! What flows in: a [`CallError`] and the path of the request within the call. What flows out: a [`Status`] that a
//! program can handle without parsing its message.

use std::fmt::Display;
use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::base::text::shortened;
use crate::engine::EngineError;
use crate::index::StoreError;
use crate::service::error::{CallError, InvalidField};
use crate::service::field::proto_path;

const INDEX_TYPE: &str = "shortlist.v1.Index";
const GENERATION_TYPE: &str = "shortlist.v1.Generation";
const VIDEO_TYPE: &str = "shortlist.v1.Video";
/// The delay after which a caller may retry a search whose `min_sequence` this server has not seen yet.
const WRITE_DELAY: Duration = Duration::from_millis(20);
/// The delay after which a caller may retry a request for which there was no memory.
pub(crate) const MEMORY_DELAY: Duration = Duration::from_millis(100);
/// Maximum length of a message and of each text in the details, in bytes. They may quote text from a caller, and are
/// sent as headers, most of them twice. Many clients accept at most 8 KiB of headers.
const MAX_TEXT_BYTES: usize = 512;

/// Returns the status of `error`. `path` is the path of the request within the call, such as `requests[3].`. It is empty
/// if the call has one request.
pub(crate) fn of(error: &CallError, path: &str) -> Status {
    match error {
        CallError::Field(error) => of_field(Code::InvalidArgument, error, path),
        CallError::Precondition(error) => of_field(Code::FailedPrecondition, error, path),
        CallError::Engine(error) => of_engine(error, path),
    }
}

fn of_field(code: Code, InvalidField { path: field, problem }: &InvalidField, path: &str) -> Status {
    let violation = violation(path, field, problem);
    let message = bounded(format_args!("{path}{field}: {problem}"));
    Status::with_error_details(code, message, violation)
}

fn violation(path: &str, field: &str, problem: &str) -> ErrorDetails {
    ErrorDetails::with_bad_request_violation(bounded(format_args!("{path}{field}")), bounded(problem))
}

fn of_engine(error: &EngineError, path: &str) -> Status {
    let field = error.field().map(|field| proto_path(&field));
    let problem = match error {
        // The caller can change the effort, the operator of this server the index.
        EngineError::NotCalibrated { dir, .. } => {
            format!("{error}; run `shortlist tune --index {}`, or set ef_search", dir.display())
        }
        _ => error.problem(),
    };
    let message = match &field {
        Some(field) => bounded(format_args!("{path}{field}: {problem}")),
        None => bounded(&problem),
    };
    let own_field = || violation(path, field.as_deref().unwrap_or_default(), &problem);
    match error {
        EngineError::InvalidArgument { .. } => {
            Status::with_error_details(Code::InvalidArgument, message, own_field())
        }
        EngineError::NotFilterable { .. }
        | EngineError::EmbeddingModel { .. }
        | EngineError::NotCalibrated { .. }
        | EngineError::KNotCalibrated { .. }
        | EngineError::RecallUnreachable { .. }
        | EngineError::OtherGeneration { .. } => {
            Status::with_error_details(Code::FailedPrecondition, message, own_field())
        }
        EngineError::AnswerTooLarge { .. } => {
            Status::with_error_details(Code::ResourceExhausted, message, own_field())
        }
        EngineError::NoRoom => no_memory(message),
        EngineError::NotYetWritten { .. } => {
            let mut details = own_field();
            details.set_retry_info(Some(WRITE_DELAY));
            Status::with_error_details(Code::Unavailable, message, details)
        }
        EngineError::UnknownIndex { name, .. } => {
            let mut details = violation(path, "index", &message);
            details.set_resource_info(INDEX_TYPE, bounded(name), "", &message);
            Status::with_error_details(Code::NotFound, message, details)
        }
        EngineError::UnknownVideo { video, .. } => {
            let mut details = violation(path, "query.seeds", &message);
            details.set_resource_info(VIDEO_TYPE, video.to_string(), "", &message);
            Status::with_error_details(Code::NotFound, message, details)
        }
        EngineError::NotInIndex { video, .. } => {
            let mut details = violation(path, "video_id", &message);
            details.set_resource_info(VIDEO_TYPE, video.to_string(), "", &message);
            Status::with_error_details(Code::NotFound, message, details)
        }
        // Another server may answer, or this one after the next publication.
        EngineError::OutOfService { .. } => Status::unavailable(message),
        EngineError::Busy { .. } => Status::resource_exhausted(message),
        EngineError::ReadOnly { .. } | EngineError::BuiltElsewhere { .. } => {
            Status::failed_precondition(message)
        }
        EngineError::Cancelled => Status::cancelled(message),
        EngineError::DeadlineExceeded => Status::deadline_exceeded(message),
        EngineError::Unsearchable { .. } | EngineError::Unconfirmed { .. } | EngineError::Log(_) => {
            Status::unavailable(message)
        }
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
        // An operator has to repair or rebuild the index before the same call can succeed.
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

/// Returns the status of a request for which there is no memory at the moment.
pub(crate) fn no_memory(message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_retry_info(Some(MEMORY_DELAY));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

fn bounded(text: impl Display) -> String {
    shortened(text, MAX_TEXT_BYTES)
}

/// Returns the status for a fault of the server. The log has the cause.
pub(crate) fn internal() -> Status {
    Status::internal("the server failed on this request; its log says why")
}

/// Checks that an answer can be sent.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` if the message is larger than `limit` bytes. Sending it would end a whole stream.
pub(crate) fn check_size(message: &impl Message, limit: usize) -> Result<(), Status> {
    let bytes = message.encoded_len();
    if bytes <= limit {
        return Ok(());
    }
    Err(Status::resource_exhausted(format!(
        "the answer has {bytes} bytes and this server sends at most {limit}: ask for fewer candidates, videos, \
         attributes or searches at a time"
    )))
}

/// Returns the status for requests that arrive while the server shuts down.
pub(crate) fn draining() -> Status {
    Status::unavailable("the server is shutting down")
}

/// Returns the status as a message, for the items of batches and streams.
pub(crate) fn to_item(status: &Status) -> tonic_types::Status {
    let bare = || tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    // If there are details, the encoded bytes contain code and message, too.
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
    use crate::engine::Field;

    #[test]
    fn field_paths_start_at_the_call() {
        let status = of(&EngineError::invalid(Field::K, "must be at least 1").into(), "requests[3].");
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
            let status = of(&error.into(), "");
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
        let status = of(&model.into(), "requests[0].");
        assert_eq!(status.code(), Code::FailedPrecondition);
        let violation = &status.get_error_details().bad_request().unwrap().field_violations[0].clone();
        assert_eq!(violation.field, "requests[0].embedding_model");
        let said = r#"index "a" holds embeddings of "m1", the request was made with "m2""#;
        assert_eq!(violation.description, said);
        assert_eq!(status.message(), format!("requests[0].embedding_model: {}", violation.description));
        assert_eq!(of(&EngineError::Cancelled.into(), "").code(), Code::Cancelled);
        assert_eq!(of(&EngineError::DeadlineExceeded.into(), "").code(), Code::DeadlineExceeded);
        let out_of_service = EngineError::OutOfService { index: "a".into(), problem: "p".into() };
        assert_eq!(of(&out_of_service.into(), "").code(), Code::Unavailable);
        let damaged = StoreError::BadManifest { path: PathBuf::from("m"), problem: "p".into() };
        assert_eq!(of(&EngineError::from(damaged).into(), "").code(), Code::FailedPrecondition);
        let io = StoreError::Io { path: PathBuf::from("m"), source: std::io::Error::other("disk") };
        assert_eq!(of(&EngineError::from(io).into(), "").code(), Code::Internal);
    }

    #[test]
    fn what_is_not_written_yet_may_be_soon_and_a_read_only_index_may_not() {
        let status =
            of(&EngineError::NotYetWritten { index: "a".into(), expected: 9, found: 7 }.into(), "request.");
        assert_eq!(status.code(), Code::Unavailable);
        let details = status.get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(WRITE_DELAY));
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "request.min_sequence");
        let read_only = EngineError::ReadOnly { index: "a".into(), problem: "p".into() };
        assert_eq!(of(&read_only.into(), "").code(), Code::FailedPrecondition);
    }

    #[test]
    fn headers_stay_small_for_any_text_of_a_caller() {
        let name = |character: &str| character.repeat(1 << 20);
        let headers = |error: CallError, path: &str| {
            let response = of(&error, path).into_http::<()>();
            let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
            response.headers().iter().map(bytes).sum::<usize>()
        };
        // `a` is sent unchanged in a header; each byte of `é` takes three bytes.
        for (character, most) in [("a", 4 << 10), ("é", 5 << 10)] {
            let invalid = InvalidField::new(name(character), name(character));
            assert!(headers(invalid.into(), "requests[255].") < most);
            let index = EngineError::UnknownIndex { name: name(character), available: vec![name(character)] };
            assert!(headers(index.into(), "requests[255].") < most);
            let (index, found) = (name(character), name(character));
            let model = EngineError::EmbeddingModel { index, expected: Some(name(character)), found };
            assert!(headers(model.into(), "requests[255].") < most);
        }
    }

    #[test]
    fn an_item_keeps_code_message_and_details() {
        let item = to_item(&of(&EngineError::invalid(Field::K, "must be at least 1").into(), ""));
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
