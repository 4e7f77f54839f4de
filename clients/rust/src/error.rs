//! Why a call failed.

use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::code::code_name;

/// Why a call failed, as the server says it or because no server answered.
#[derive(Clone, Debug)]
pub struct Error {
    /// The code of gRPC.
    pub code: Code,
    /// The message, complete by itself.
    pub message: String,
    /// The fields of the request that the server refuses.
    pub fields: Vec<InvalidField>,
    /// What does not exist, if the code is [`Code::NotFound`].
    pub resource: Option<Resource>,
    /// The delay after which the server suggests to try again.
    pub retry_after: Option<Duration>,
    /// Whether no server answered: the connection could not be made or broke, or the time was up.
    pub is_unanswered: bool,
}

/// A field that the server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// The path, such as `filter_text` or `requests[3].k`.
    pub path: String,
    /// What is wrong, with expected and found.
    pub reason: String,
}

/// Something that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Such as `shortlist.v1.Index`.
    pub kind: String,
    /// Its name or number.
    pub name: String,
}

impl Error {
    pub(crate) fn deadline_exceeded() -> Self {
        let message = "the timeout of the call passed".to_owned();
        Self { is_unanswered: true, ..Self::new(Code::DeadlineExceeded, message, &ErrorDetails::new()) }
    }

    /// The error of one search of a batch, or of one video of a write.
    pub fn of_item(status: &tonic_types::Status) -> Self {
        let details = tonic_types::RpcStatusExt::get_error_details(status);
        Self::new(Code::from_i32(status.code), status.message.clone(), &details)
    }

    fn new(code: Code, message: String, details: &ErrorDetails) -> Self {
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let field = |violation: &tonic_types::FieldViolation| InvalidField {
            path: violation.field.clone(),
            reason: violation.description.clone(),
        };
        let resource = details.resource_info();
        Self {
            code,
            message,
            fields: violations.iter().map(field).collect(),
            resource: resource.map(|resource| Resource {
                kind: resource.resource_type.clone(),
                name: resource.resource_name.clone(),
            }),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            is_unanswered: false,
        }
    }
}

impl From<&Status> for Error {
    fn from(status: &Status) -> Self {
        // A status that a server sent has no source.
        let is_unanswered = std::error::Error::source(status).is_some();
        Self { is_unanswered, ..Self::new(status.code(), text(status), &status.get_error_details()) }
    }
}

/// The message of a status, and what caused it if no server sent it.
fn text(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        // The layers of a connection repeat each other.
        if !text.contains(&more) && more != "transport error" {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.message)?;
        for InvalidField { path, reason } in &self.fields {
            let line = format!("{path}: {reason}");
            if !self.message.contains(&line) {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The name of the code as in the specification of gRPC, such as `INVALID_ARGUMENT`.
    pub fn name(&self) -> &'static str {
        code_name(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detail_is_kept_and_said_once() {
        let mut details = ErrorDetails::with_bad_request_violation("k", "expected 1 to 10, found 0");
        details.set_retry_info(Some(Duration::from_millis(20)));
        details.set_resource_info("shortlist.v1.Index", "b", "", "");
        let of = |message: &str| {
            let status = Status::with_error_details(Code::InvalidArgument, message, details.clone());
            Error::from(&status)
        };
        let error = of("k: expected 1 to 10, found 0");
        let field = InvalidField { path: "k".into(), reason: "expected 1 to 10, found 0".into() };
        assert_eq!(error.fields, [field]);
        assert_eq!(error.retry_after, Some(Duration::from_millis(20)));
        let resource = Resource { kind: "shortlist.v1.Index".into(), name: "b".into() };
        assert_eq!(error.resource, Some(resource));
        assert_eq!(error.to_string(), "INVALID_ARGUMENT: k: expected 1 to 10, found 0");
        assert_eq!(of("no").to_string(), "INVALID_ARGUMENT: no\n  k: expected 1 to 10, found 0");
    }
}
